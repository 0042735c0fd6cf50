"""What accuracy costs: error against operations and against the photon limit, for classes of objects and doses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
from diptych.ptycho.studies.training.methods import STARTED
from diptych.ptycho.studies.training.options import own_options
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diptych.ptycho.scan import Scan

_TEST_SEEDS = 30_000_000


class FrontierOptions(TrainingStudyOptions):
    """Options of the study ``frontier``. Without them, ``size`` decides."""

    objects: tuple[ObjectKind, ...] | None = Field(None, min_length=1, description="Classes of simulated objects.")
    doses: tuple[PositiveFloat, ...] | None = Field(
        None, min_length=1, description="Mean detected photons per pattern, one value per dose."
    )
    patterns: int | None = Field(None, ge=16, description="Patterns of the training scan, and of the test scan.")
    pattern_size: int | None = Field(None, ge=16, le=1024, description="Side N of the patterns, px.")
    gridsize: int = Field(1, ge=1, le=3, description="g: groups of g x g patterns, of the networks.")
    started: bool = Field(True, description="Also start the engine from each network's image.")


@dataclass(frozen=True)
class _Grid:
    objects: tuple[str, ...]
    doses: tuple[float, ...]
    patterns: int
    pattern_size: int
    epochs: int
    repeats: int


_FOUR = ("natural", "lines", "dead-leaves", "gaussian-field")
_GRIDS = {
    "quick": _Grid(("lines",), (1e4, 1e6), 144, 64, 10, 1),
    "standard": _Grid(_FOUR, (1e3, 1e5, 1e7), 512, 64, 20, 3),
    "full": _Grid(_FOUR, (1e3, 1e5, 1e7), 2048, 128, 50, 3),
}


def grid_of(options: FrontierOptions) -> _Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return _Grid(**{name: getattr(options, name) or value for name, value in vars(base).items()})


def cells(options: FrontierOptions) -> list[Cell]:
    """One cell per class, dose, method and seed."""
    chosen, networks, out = grid_of(options), networks_of(options), []
    methods: list[tuple[str, str | None]] = [(display(name, networks), name) for name in networks]
    if options.started:
        methods += [(STARTED + display(name, networks), name) for name in networks]
    methods += [(BASELINE, None)] if options.baseline else []
    methods += [(ITERATIVE, None)] if options.iterative else []
    for kind in dict.fromkeys(chosen.objects):
        for dose in dict.fromkeys(chosen.doses):
            for method, network in methods:
                for seed in range(options.seed, options.seed + chosen.repeats):
                    start = "start-" if method.startswith(STARTED) else ""
                    key = f"{kind}-dose{dose:g}-{start}{network or method}-seed{seed}".replace("_", "-")
                    values = {"object": kind, "dose": float(dose), "method": method, "network": network, "seed": seed}
                    out.append(Cell(key, values))
    return out


def photon_limit(scan: Scan) -> float:
    """Smallest expected relative error of the complex object that the detected photons allow.

    For each object pixel E|O' - O|^2 >= |O|^2 / n with n detected photons, here the illumination times |O|^2 (Schulz,
    Opt. Express 29, 16736 (2021)); taken over the lit pixels of the scanned box. It assumes a known probe and no prior.
    """
    from diptych.ptycho.physics.measured import compared_box, light_of

    light = light_of(scan)
    assert light is not None
    assert scan.truth is not None
    box = compared_box(scan.positions, light)
    lit = light.mask(box)
    truth = scan.truth.crop(*box).values
    y, x = light.origin
    photons = light.values[box[0] - y : box[1] - y, box[2] - x : box[3] - x]
    return float(np.sqrt((1 / photons[lit]).sum() / (np.abs(truth[lit]) ** 2).sum()))


def run(cell: Cell, options: FrontierOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Train on one object of the class, and reconstruct another one."""
    from diptych.ptycho.simulate import simulate

    chosen, seed = grid_of(options), cell.parameters["seed"]
    method, network = cell.parameters["method"], cell.parameters["network"]
    setting = {
        "object": cell.parameters["object"],
        "dose": cell.parameters["dose"],
        "size": chosen.pattern_size,
        "patterns": chosen.patterns,
    }
    test = simulate(**setting, seed=_TEST_SEEDS + seed)
    training = [] if method == ITERATIVE else [simulate(**setting, seed=seed)]
    recipe = Recipe(
        network,
        own_options(options, network or "cnn"),
        {"epochs": chosen.epochs, "seed": seed, "gridsize": options.gridsize},
    )
    result, facts = solve(method, recipe, training, test, execution, folder)
    keep_images(folder, result, test)
    scores, limit = measure(result, test), photon_limit(test)
    error = scores["complex_error"]
    return {
        **scores,
        "photon_limit": limit,
        "error_over_limit": None if error is None else error / limit,
        "photons": photons_per_pattern(test),
        **facts,
    }


def estimate(cell: Cell, options: FrontierOptions) -> Estimate:
    """From the number of patterns."""
    chosen, method = grid_of(options), cell.parameters["method"]
    engine = engine_estimate(chosen.patterns, chosen.pattern_size)
    if method == ITERATIVE:
        return engine
    training = training_estimate(
        options.size,
        cell.parameters["network"],
        patterns=chosen.patterns,
        pattern_size=chosen.pattern_size,
        epochs=chosen.epochs,
        members=1 if cell.parameters["network"] is None else options.gridsize**2,
        test_patterns=2 * chosen.patterns,
    )
    more = engine.seconds if method.startswith(STARTED) else 0.0
    return Estimate(training.seconds + more, max(training.memory_bytes, engine.memory_bytes))


def tables(rows: Sequence[Mapping[str, Any]], options: FrontierOptions) -> list[Table]:
    """Means over seeds by class, dose and method; differences; the grid of SSIM."""
    extra = ("photon_limit", "error_over_limit", "flops_per_pattern", "parameters", "inference_seconds", "photons")
    return comparison_tables(rows, ("object", "dose"), extra=extra)


def plot(made: Sequence[Table], options: FrontierOptions) -> Figure:
    """Error over the photon limit against dose, and error against operations per pattern."""
    from diptych.ptycho.figures.studies import Panel, plot_frontier

    title = f"Accuracy, photons and operations, {options.size}: mean over seeds"
    return plot_frontier(made[0].rows, Panel("complex_error", "relative complex error", log=True), title=title)


def figures(
    rows: Sequence[Mapping[str, Any]], options: FrontierOptions, folder_of: Callable[[Mapping[str, Any]], Path]
) -> Images:
    """Images of every method, one figure per class and dose."""
    return image_figures(rows, folder_of, ("object", "dose"))


def checks(rows: Sequence[Mapping[str, Any]], options: FrontierOptions) -> list[Check]:
    """Numbers in every row, the dose that was asked for, one photon limit per case."""
    limits = {(row["object"], row["dose"], row["seed"], row["photon_limit"]) for row in rows}
    cases = {(row["object"], row["dose"], row["seed"]) for row in rows}
    worst = max(abs(row["photons"] / row["dose"] - 1) for row in rows)
    return [
        finite(rows, ("complex_error", "photon_limit", *METRICS[2:6])),
        Check("every method of a case has the same photon limit", len(limits) == len(cases), f"{len(cases)} cases"),
        Check("measured photons per pattern are the dose within 5 %", worst < 0.05, f"{100 * worst:.2g} % off at most"),
        trained(rows),
    ]


STUDY = Study(
    name="frontier",
    help="Error against operations and against the photon limit, by class of object, dose and method.",
    options=FrontierOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    figures=figures,
    checks=checks,
)
