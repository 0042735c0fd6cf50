"""How error and resolution depend on the dose: of the engine over a range, and of networks at a high and a low one.

The trained methods are the four of the dose comparison: high and low dose, Poisson likelihood and MAE of amplitudes, on
the same positions and objects; see :mod:`diptych.ptycho.studies.dose_training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat

from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies import dose_training
from diptych.ptycho.studies.base import Cell, Check, Estimate, Images, Study
from diptych.ptycho.studies.report import Table, mean_and_deviation
from diptych.ptycho.studies.report_files import finite
from diptych.ptycho.studies.training.estimates import engine_estimate
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("complex_error", "phase_rms_rad", "amplitude_ssim", "phase_ssim", "frc50", "frc50_half_period_px")
_UNITS = {"dose": "photons per pattern", "phase_rms_rad": "rad", "frc50": "of Nyquist", "frc50_half_period_px": "px"}


class DoseResponseOptions(dose_training.DoseTrainingOptions):
    """Options of the study ``dose-response``. Without them, ``size`` decides the grid."""

    objects: tuple[ObjectKind, ...] | None = Field(None, min_length=1, description="Kinds of simulated object.")
    doses: tuple[PositiveFloat, ...] | None = Field(
        None, min_length=1, description="Mean detected photons per pattern, one value per dose."
    )
    repeats: int | None = Field(None, ge=1, description="Simulations per object and dose, each with another seed.")
    pattern_size: int | None = Field(None, ge=16, le=1024, description="Side N of the patterns, px.")
    patterns: int | None = Field(None, ge=16, description="Patterns per scan.")
    probe_error: float = Field(
        0.5, ge=0, le=1, description="Error of the initial probe, as in simulate: 0 the true probe, 1 blind."
    )


@dataclass(frozen=True)
class _Grid:
    objects: tuple[ObjectKind, ...]
    doses: tuple[float, ...]
    repeats: int
    pattern_size: int
    patterns: int


_GRIDS = {
    "quick": _Grid(("dead-leaves", "lines"), (1e3, 1e4, 1e6), 2, 32, 64),
    "standard": _Grid(("natural", "dead-leaves", "lines"), (1e2, 1e3, 1e4, 1e5, 1e6, 1e7), 3, 64, 256),
    "full": _Grid(
        ("natural", "dead-leaves", "lines", "siemens-star"),
        (1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7, 1e8),
        5,
        128,
        400,
    ),
}


def grid(options: DoseResponseOptions) -> _Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return _Grid(
        options.objects or base.objects,
        options.doses or base.doses,
        options.repeats or base.repeats,
        options.pattern_size or base.pattern_size,
        options.patterns or base.patterns,
    )


def cells(options: DoseResponseOptions) -> list[Cell]:
    """One cell per object, dose and seed, then one per trained network."""
    chosen = grid(options)
    reconstructed = [
        Cell(f"{kind}-dose{dose:g}-seed{seed}", {"object": kind, "dose": float(dose), "seed": seed})
        for kind in dict.fromkeys(chosen.objects)
        for dose in dict.fromkeys(chosen.doses)
        for seed in range(options.seed, options.seed + chosen.repeats)
    ]
    return reconstructed + dose_training.cells(options)


def run(cell: Cell, options: DoseResponseOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Simulate a scan at the cell's dose, reconstruct it and compare with the truth; or train one of the networks."""
    if dose_training.LOSS in cell.parameters:
        return dose_training.run(cell, options, execution, folder)
    return _reconstruct(cell, options, execution)


def _reconstruct(cell: Cell, options: DoseResponseOptions, execution: ExecutionOptions) -> dict[str, Any]:
    from diptych.ptycho.evaluate import evaluate
    from diptych.ptycho.reconstruct import reconstruct
    from diptych.ptycho.simulate import simulate

    chosen = grid(options)
    scan = simulate(
        **cell.parameters,
        size=chosen.pattern_size,
        patterns=chosen.patterns,
        probe_error=options.probe_error,
    )
    result = reconstruct(scan, execution=execution)
    metrics = evaluate(result, truth=scan)
    reasons = {name: metrics.details[name].reason for name in METRICS if not isfinite(metrics[name])}
    return {
        **{name: metrics[name] for name in METRICS},
        "photons": float(scan.counts.sum(axis=(1, 2), dtype="float64").mean()),
        "fit": result.provenance.get("fit"),
        "held_out_fit": result.provenance.get("held_out_fit"),
        "undefined": "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or None,
    }


def estimate(cell: Cell, options: DoseResponseOptions) -> Estimate:
    """Time and memory from the number of detector pixels of the scan."""
    if dose_training.LOSS in cell.parameters:
        return dose_training.estimate(cell, options)
    chosen = grid(options)
    return engine_estimate(chosen.patterns, chosen.pattern_size)


def tables(rows: Sequence[Mapping[str, Any]], options: DoseResponseOptions) -> list[Table]:
    """Mean and standard deviation over seeds, per object and dose; then the trained networks."""
    lines = mean_and_deviation(_reconstructed(rows), ("object", "dose"), (*METRICS, "fit", "photons"))
    title = "Mean and standard deviation over seeds, per object and dose"
    found = [Table("dose-response", title, lines, _UNITS)] if lines else []
    return found + dose_training.tables([row for row in rows if dose_training.LOSS in row])


def plot(made: Sequence[Table], options: DoseResponseOptions) -> Figure:
    """Complex error and half-period resolution against dose, one curve per object."""
    from diptych.ptycho.figures.studies import Panel, plot_curves

    panels = (
        Panel("complex_error", "relative complex error", log=True),
        Panel("phase_rms_rad", "phase rms error (rad)", log=True),
        Panel("frc50_half_period_px", "half-period resolution (px), FRC = 0.5"),
    )
    title = f"Dose response, {options.size}: mean over seeds, bars: standard deviation"
    rows = made[0].rows if made[0].name == "dose-response" else []
    return plot_curves(rows, "dose", panels, by="object", xlabel="photons per pattern", title=title)


def figures(
    rows: Sequence[Mapping[str, Any]], options: DoseResponseOptions, folder_of: Callable[[Mapping[str, Any]], Path]
) -> Images:
    """The figure of six panels of the trained networks."""
    return dose_training.figures([row for row in rows if dose_training.LOSS in row], folder_of)


def checks(rows: Sequence[Mapping[str, Any]], options: DoseResponseOptions) -> list[Check]:
    """Measured doses, errors in every row, and what must hold of the trained networks."""
    worst = max(abs(row["photons"] / row["dose"] - 1) for row in rows)
    found = f"{100 * worst:.2g} % off at most"
    out = [
        finite(rows, ("complex_error",)),
        Check("measured photons per pattern are the dose within 5 %", worst < 0.05, found),
    ]
    return out + dose_training.checks([row for row in rows if dose_training.LOSS in row], options)


def _reconstructed(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if dose_training.LOSS not in row]


STUDY = Study(
    name="dose-response",
    help="Error and resolution against the number of photons per pattern, of the engine and of trained networks.",
    options=DoseResponseOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    figures=figures,
    checks=checks,
    version="2",
)
