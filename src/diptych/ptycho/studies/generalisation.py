"""How a trained network depends on the number of training patterns, judged on an object it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat, PositiveInt

from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies.base import Cell, Check, Estimate, Images, Study
from diptych.ptycho.studies.report import Row, Table
from diptych.ptycho.studies.report_files import deltas, finite
from diptych.ptycho.studies.training import (
    BASELINE,
    ITERATIVE,
    METRICS,
    UNITS,
    Recipe,
    TrainingStudyOptions,
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

_TEST_SEEDS = 10_000_000

_SPARE = 64
"""Patterns of the training scan beyond twice the largest subset: validation takes some, and their surroundings."""


class GeneralisationOptions(TrainingStudyOptions):
    """Options of the study ``generalisation``. Without them, ``size`` decides. A repeat is a trial."""

    object: ObjectKind = Field("lines", description="Kind of simulated object.")
    train_sizes: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, description="Numbers of training patterns, drawn from one training scan."
    )
    test_patterns: int | None = Field(None, ge=16, description="Patterns of the test scan.")
    pattern_size: int | None = Field(None, ge=16, le=1024, description="Side N of the patterns, px.")
    gridsize: int = Field(1, ge=1, le=3, description="g: groups of g x g patterns, of the networks.")
    dose: PositiveFloat = Field(1e6, description="Mean detected photons per pattern.")
    step: PositiveFloat | None = Field(None, description="Step of the scans, px; by default N / 8.")


@dataclass(frozen=True)
class _Grid:
    train_sizes: tuple[int, ...]
    test_patterns: int
    pattern_size: int
    epochs: int
    repeats: int


_GRIDS = {
    "quick": _Grid((64, 192), 100, 64, 4, 1),
    "standard": _Grid((256, 512, 1024, 2048), 512, 64, 15, 3),
    "full": _Grid((512, 1024, 2048, 4096), 1024, 64, 50, 5),
}


def grid_of(options: GeneralisationOptions) -> _Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return _Grid(**{name: getattr(options, name) or value for name, value in vars(base).items()})


def cells(options: GeneralisationOptions) -> list[Cell]:
    """One cell per method, training size and trial; the engine needs no training and runs once per trial."""
    chosen, out = grid_of(options), []
    networks = networks_of(options)
    methods: list[tuple[str, str | None]] = [(display(name, networks), name) for name in networks]
    methods += [(BASELINE, None)] if options.baseline else []
    methods += [(ITERATIVE, None)] if options.iterative else []
    for method, network in methods:
        sizes = (0,) if method == ITERATIVE else dict.fromkeys(chosen.train_sizes)
        for count in sizes:
            for seed in range(options.seed, options.seed + chosen.repeats):
                values = {"method": method, "network": network, "train_size": count, "seed": seed}
                out.append(Cell(f"{network or method}-{count}-seed{seed}".replace("_", "-"), values))
    return out


def run(cell: Cell, options: GeneralisationOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Train on a random subset of a training scan, and score on a scan of another object."""
    from diptych.ptycho.simulate import simulate

    chosen, seed = grid_of(options), cell.parameters["seed"]
    method, network = cell.parameters["method"], cell.parameters["network"]
    setting: dict[str, Any] = {
        "object": options.object,
        "size": chosen.pattern_size,
        "dose": options.dose,
        "step": options.step,
    }
    test = simulate(**setting, patterns=chosen.test_patterns, seed=_TEST_SEEDS + seed)
    training = []
    if method != ITERATIVE:
        training = [simulate(**setting, patterns=2 * max(chosen.train_sizes) + _SPARE, seed=seed)]
    used = {"epochs": chosen.epochs, "seed": seed, "n_subsample": cell.parameters["train_size"]}
    recipe = Recipe(network, own_options(options, network or "cnn"), {**used, "gridsize": options.gridsize})
    result, facts = solve(method, recipe, training, test, execution, folder)
    keep_images(folder, result, test)
    return {**measure(result, test), "photons": photons_per_pattern(test), "test_seed": _TEST_SEEDS + seed, **facts}


def estimate(cell: Cell, options: GeneralisationOptions) -> Estimate:
    """From the number of patterns."""
    chosen = grid_of(options)
    if cell.parameters["method"] == ITERATIVE:
        return engine_estimate(chosen.test_patterns, chosen.pattern_size)
    return training_estimate(
        options.size,
        cell.parameters.get("network"),
        patterns=cell.parameters["train_size"],
        pattern_size=chosen.pattern_size,
        epochs=chosen.epochs,
        members=1 if cell.parameters["network"] is None else options.gridsize**2,
        test_patterns=chosen.test_patterns + max(chosen.train_sizes),
    )


def medians(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Median and quartiles over trials, per method and training size. Undefined where any trial is."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["train_size"]), []).append(row)
    out = []
    for (method, count), members in groups.items():
        line: dict[str, Any] = {"method": method, "train_size": count, "n": len(members)}
        for name in METRICS:
            values = [row.get(name) for row in members]
            known = [float(value) for value in values if value is not None]
            complete = len(known) == len(values)
            quarters = quantiles(known, n=4, method="inclusive") if complete and len(known) > 1 else None
            line[name] = median(known) if complete else None
            line[f"{name}_q25"] = quarters[0] if quarters else line[name]
            line[f"{name}_q75"] = quarters[2] if quarters else line[name]
        out.append(line)
    return out


def tables(rows: Sequence[Mapping[str, Any]], options: GeneralisationOptions) -> list[Table]:
    """Medians with quartiles, and differences from the baseline at equal training size and from the engine."""
    lines = medians(rows)
    engine = [line for line in lines if line["method"] == ITERATIVE]
    sizes = dict.fromkeys(line["train_size"] for line in lines if line["method"] != ITERATIVE)
    # The engine stands beside every training size.
    placed = [line for line in lines if line["method"] != ITERATIVE]
    placed += [{**line, "train_size": size} for size in sizes for line in engine]
    differences = deltas(placed, ("train_size",), (BASELINE, ITERATIVE), METRICS)
    out = [Table("medians", "Median and quartiles over trials, by method and training patterns", lines, UNITS)]
    if differences:
        out.append(Table("deltas", "Difference of the medians from the baseline and the engine", differences, UNITS))
    return out


def plot(made: Sequence[Table], options: GeneralisationOptions) -> Figure:
    """Medians against training size, with bands between the quartiles."""
    from diptych.ptycho.figures.studies import Panel, plot_bands

    panels = (
        Panel("complex_error", "relative complex error", log=True),
        Panel("amplitude_ssim_ptychopinn", "amplitude SSIM"),
        Panel("phase_ssim_ptychopinn", "phase SSIM"),
    )
    lines = [row for row in made[0].rows if row["train_size"]]
    sizes = [row["train_size"] for row in lines]
    engine = [row for row in made[0].rows if not row["train_size"]]
    lines += [{**row, "train_size": size} for row in engine for size in (min(sizes, default=1), max(sizes, default=1))]
    title = f"Generalisation to another object, {options.size}: median over trials, bands: quartiles"
    return plot_bands(lines, "train_size", panels, by="method", xlabel="training patterns", title=title)


def figures(
    rows: Sequence[Mapping[str, Any]], options: GeneralisationOptions, folder_of: Callable[[Mapping[str, Any]], Path]
) -> Images:
    """Images of every method, one figure per training size."""
    return image_figures(rows, folder_of, ("train_size",))


def checks(rows: Sequence[Mapping[str, Any]], options: GeneralisationOptions) -> list[Check]:
    """Training and test objects differ; numbers in every row; losses fell."""
    shared = {row["seed"] for row in rows} & {row["test_seed"] for row in rows}
    return [
        finite(rows, ("complex_error", *METRICS[2:6])),
        Check("no test object was used for training", not shared, f"{len(rows)} cells"),
        trained(rows),
    ]


STUDY = Study(
    name="generalisation",
    help="Networks and baseline against the number of training patterns, on objects they have not seen.",
    options=GeneralisationOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    figures=figures,
    checks=checks,
)
