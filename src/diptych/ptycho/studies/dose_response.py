"""How error and resolution of a reconstruction depend on the dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat

from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies.base import Cell, Estimate, Study, StudyOptions
from diptych.ptycho.studies.report import Table, mean_and_deviation
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("complex_error", "phase_rms_rad", "amplitude_ssim", "phase_ssim", "frc50", "frc50_half_period_px")
_UNITS = {"dose": "photons per pattern", "phase_rms_rad": "rad", "frc50": "of Nyquist", "frc50_half_period_px": "px"}

_SECONDS_PER_PIXEL = 8e-6
"""Time of a reconstruction per detector pixel of the scan, measured on one CPU core with the automatic engine."""


class DoseResponseOptions(StudyOptions):
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
    """One cell per object, dose and seed."""
    chosen = grid(options)
    return [
        Cell(f"{kind}-dose{dose:g}-seed{seed}", {"object": kind, "dose": float(dose), "seed": seed})
        for kind in dict.fromkeys(chosen.objects)
        for dose in dict.fromkeys(chosen.doses)
        for seed in range(options.seed, options.seed + chosen.repeats)
    ]


def run(cell: Cell, options: DoseResponseOptions, execution: ExecutionOptions) -> dict[str, Any]:
    """Simulate a scan at the cell's dose, reconstruct it and compare with the truth."""
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
        "fit": result.provenance.get("fit"),
        "held_out_fit": result.provenance.get("held_out_fit"),
        "undefined": "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or None,
    }


def estimate(cell: Cell, options: DoseResponseOptions) -> Estimate:
    """Time and memory from the number of detector pixels of the scan."""
    chosen = grid(options)
    pixels = chosen.patterns * chosen.pattern_size**2
    return Estimate(seconds=0.5 + _SECONDS_PER_PIXEL * pixels, memory_bytes=2**29 + 24 * pixels)


def tables(rows: Sequence[Mapping[str, Any]], options: DoseResponseOptions) -> list[Table]:
    """Mean and standard deviation over seeds, per object and dose."""
    lines = mean_and_deviation(rows, ("object", "dose"), (*METRICS, "fit"))
    return [Table("dose-response", "Mean and standard deviation over seeds, per object and dose", lines, _UNITS)]


def plot(made: Sequence[Table], options: DoseResponseOptions) -> Figure:
    """Complex error and half-period resolution against dose, one curve per object."""
    from diptych.ptycho.figures.studies import Panel, plot_curves

    panels = (
        Panel("complex_error", "relative complex error", log=True),
        Panel("phase_rms_rad", "phase rms error (rad)", log=True),
        Panel("frc50_half_period_px", "half-period resolution (px), FRC = 0.5"),
    )
    title = f"Dose response, {options.size}: mean over seeds, bars: standard deviation"
    return plot_curves(made[0].rows, "dose", panels, by="object", xlabel="photons per pattern", title=title)


STUDY = Study(
    name="dose-response",
    help="Error and resolution against the number of photons per pattern.",
    options=DoseResponseOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
)
