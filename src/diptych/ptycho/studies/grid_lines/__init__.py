"""Lines on a regular grid: every generator and the supervised baseline on identical data, several sizes and groupings.

The setting of the published table: objects of 392 px, training on a grid of 4 px, test on one of 10 px, two objects
each, 1e9 photons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat

from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies.base import Cell, Check, Estimate, Images, Study
from diptych.ptycho.studies.report import Table
from diptych.ptycho.studies.report_files import finite
from diptych.ptycho.studies.training import (
    BASELINE,
    ITERATIVE,
    METRICS,
    Recipe,
    TrainingStudyOptions,
    comparison_tables,
    display,
    image_figures,
    keep_images,
    measure,
    networks_of,
    photons_per_pattern,
    solve,
    trained,
)
from diptych.ptycho.studies.training.estimates import engine_estimate, training_estimate
from diptych.ptycho.studies.training.options import own_options
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diptych.ptycho.scan import Scan

_TEST_SEEDS = 10_000
"""Added to the seeds of test objects, which are never those of training objects."""


class GridLinesOptions(TrainingStudyOptions):
    """Options of the study ``grid-lines``. Without them, ``size`` decides."""

    object: ObjectKind = Field("lines", description="Kind of simulated object.")
    pattern_sizes: tuple[Literal[64, 128], ...] | None = Field(None, min_length=1, description="Sides N, px.")
    gridsizes: tuple[Literal[1, 2], ...] | None = Field(
        None, min_length=1, description="g: groups of g x g patterns, of the networks; the baseline takes single ones."
    )
    object_size: int | None = Field(None, ge=64, le=4096, description="Side of the objects, px.")
    train_step: PositiveFloat | None = Field(None, description="Step of the training grid, px.")
    test_step: PositiveFloat | None = Field(None, description="Step of the test grid, px.")
    object_count: int | None = Field(None, ge=1, le=100, description="Objects to train on, and as many to test on.")
    dose: PositiveFloat = Field(1e9, description="Mean detected photons per pattern.")
    loss: Literal["poisson", "mae", "gaussian"] = Field("poisson", description="Loss of the networks.")
    probe_source: str = Field("zone-plate", description="zone-plate, gaussian, disk (of 64 px), or a FILE.")
    probe_pipeline: str | None = Field(
        None,
        description="Steps from that probe to one of N px: smooth:SIGMA, pad:N, extrapolate:N, interpolate:N, "
        "mask:DIAMETER, joined by |. By default smooth:0.5|pad:N. The letter N stands for the size of the patterns.",
    )


@dataclass(frozen=True)
class _Grid:
    pattern_sizes: tuple[int, ...]
    gridsizes: tuple[int, ...]
    object_size: int
    train_step: float
    test_step: float
    object_count: int
    epochs: int
    repeats: int


_GRIDS = {
    "quick": _Grid((64,), (1,), 160, 8.0, 8.0, 1, 4, 1),
    "standard": _Grid((64, 128), (1, 2), 392, 8.0, 10.0, 2, 20, 3),
    "full": _Grid((64, 128), (1, 2), 392, 4.0, 10.0, 2, 60, 3),
}


def grid_of(options: GridLinesOptions) -> _Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return _Grid(**{name: getattr(options, name) or value for name, value in vars(base).items()})


def cells(options: GridLinesOptions) -> list[Cell]:
    """One cell per size, grouping, method and seed; the baseline and the engine have no grouping of their own."""
    chosen, out = grid_of(options), []
    networks = networks_of(options)
    for size in dict.fromkeys(chosen.pattern_sizes):
        for gridsize in dict.fromkeys(chosen.gridsizes):
            methods: list[tuple[str, str | None]] = [(display(name, networks), name) for name in networks]
            methods += [(BASELINE, None)] if options.baseline else []
            methods += [(ITERATIVE, None)] if options.iterative else []
            for method, network in methods:
                for seed in range(options.seed, options.seed + chosen.repeats):
                    key = f"N{size}-g{gridsize}-{network or method}-seed{seed}".replace("_", "-")
                    values = {"N": size, "gridsize": gridsize, "method": method, "network": network, "seed": seed}
                    out.append(Cell(key, values))
    return out


def scans_of(cell: Cell, options: GridLinesOptions, *, test_only: bool = False) -> tuple[list[Scan], list[Scan]]:
    """Training and test scans of a cell; the same for every method and grouping."""
    from diptych.ptycho.studies.grid_lines.data import grid_scans, make_probe

    chosen, seed, size = grid_of(options), cell.parameters["seed"], cell.parameters["N"]
    pipeline = (options.probe_pipeline if options.probe_pipeline is not None else "smooth:0.5|pad:N").replace(
        ":N", f":{size}"
    )
    probe = make_probe(options.probe_source, pipeline, size)
    # Seeds of repeats are far apart: no object is used twice.
    first = 1000 * seed
    train_seeds = range(first + 1, first + 1 + chosen.object_count)
    test_seeds = [_TEST_SEEDS * 1000 + each for each in train_seeds]
    kind, side = options.object, chosen.object_size
    test = grid_scans(kind, side, probe, chosen.test_step, test_seeds, options.dose)
    if test_only:
        return [], test
    return grid_scans(kind, side, probe, chosen.train_step, train_seeds, options.dose), test


def run(cell: Cell, options: GridLinesOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Train on the training objects and score the first test object's image; metrics are means over test objects."""
    method, network = cell.parameters["method"], cell.parameters["network"]
    chosen = grid_of(options)
    training, tests = scans_of(cell, options, test_only=method == ITERATIVE)
    own = own_options(options, network or "cnn")
    common = {"epochs": chosen.epochs, "seed": cell.parameters["seed"], "loss": options.loss}
    recipe = Recipe(network, own, {**common, "gridsize": cell.parameters["gridsize"]})
    result, facts = solve(method, recipe, training, tests[0], execution, folder)
    scores = [measure(result, tests[0])]
    keep_images(folder, result, tests[0])
    for test in tests[1:]:
        scores.append(measure(_again(method, folder, test, execution), test))
    means: dict[str, float | None] = {}
    for name in METRICS:
        known = [value for score in scores if (value := score[name]) is not None]
        means[name] = sum(known) / len(known) if len(known) == len(scores) else None
    undefined = "; ".join(str(score["undefined"]) for score in scores if score["undefined"]) or None
    counts = {"train_patterns": sum(map(len, training)), "test_patterns": sum(map(len, tests))}
    return {**means, "undefined": undefined, "photons": photons_per_pattern(tests[0]), **counts, **facts}


def _again(method: str, folder: Path, test: Scan, execution: ExecutionOptions) -> Any:
    from diptych.ptycho.neural.model import load_model
    from diptych.ptycho.reconstruct import reconstruct

    if method == ITERATIVE:
        return reconstruct(test, execution=execution)
    return load_model(folder / "train" / "model.safetensors").reconstruct(test, execution=execution, canvas_passes=0)


def estimate(cell: Cell, options: GridLinesOptions) -> Estimate:
    """From the number of patterns."""
    chosen, size = grid_of(options), cell.parameters["N"]

    def patterns(step: float) -> int:
        return chosen.object_count * (int((chosen.object_size - size) // step) + 1) ** 2

    if cell.parameters["method"] == ITERATIVE:
        return engine_estimate(patterns(chosen.test_step), size)
    members = 1 if cell.parameters["network"] is None else cell.parameters["gridsize"] ** 2
    return training_estimate(
        options.size,
        cell.parameters["network"],
        patterns=patterns(chosen.train_step),
        pattern_size=size,
        epochs=chosen.epochs,
        members=members,
        test_patterns=patterns(chosen.test_step),
    )


def tables(rows: Sequence[Mapping[str, Any]], options: GridLinesOptions) -> list[Table]:
    """Means over seeds by size, grouping and method; differences; the grid of SSIM."""
    return comparison_tables(rows, ("N", "gridsize"), extra=("parameters", "flops_per_pattern", "photons"))


def figures(
    rows: Sequence[Mapping[str, Any]], options: GridLinesOptions, folder_of: Callable[[Mapping[str, Any]], Path]
) -> Images:
    """Images of every method, one figure per size and grouping."""
    return image_figures(rows, folder_of, ("N", "gridsize"))


def plot(made: Sequence[Table], options: GridLinesOptions) -> Figure:
    """SSIM and MAE of every method against N."""
    from diptych.ptycho.figures.studies import Panel, plot_curves

    lines = [{**row, "curve": f"{row['method']}, g = {row['gridsize']}"} for row in made[0].rows]
    panels = (
        Panel("amplitude_ssim_ptychopinn", "amplitude SSIM"),
        Panel("phase_ssim_ptychopinn", "phase SSIM"),
        Panel("amplitude_mae_ptychopinn", "amplitude MAE", log=True),
        Panel("phase_mae_ptychopinn", "phase MAE (rad)", log=True),
    )
    title = f"Lines on a grid, {options.size}: mean over seeds"
    return plot_curves(lines, "N", panels, by="curve", xlabel="N (px)", title=title, log_x=False)


def checks(rows: Sequence[Mapping[str, Any]], options: GridLinesOptions) -> list[Check]:
    """Identical data for every method, the dose that was asked for, numbers in every row."""
    counts = {(row["N"], row["seed"], row["test_patterns"], row["photons"]) for row in rows}
    cases = {(row["N"], row["seed"]) for row in rows}
    worst = max(abs(row["photons"] / options.dose - 1) for row in rows)
    return [
        finite(rows, METRICS[:1] + METRICS[2:6]),
        Check("every method saw the same test patterns", len(counts) == len(cases), f"{len(cases)} cases"),
        Check("measured photons per pattern are the dose within 1 %", worst < 0.01, f"{100 * worst:.2g} % off at most"),
        trained(rows),
    ]


STUDY = Study(
    name="grid-lines",
    help="Networks, baseline and engine on lines on a regular grid: sizes, groupings, identical data.",
    options=GridLinesOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    figures=figures,
    checks=checks,
)
