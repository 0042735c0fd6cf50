"""Architectures against settings of the optimiser on identical data: which of them train, and which fail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PositiveFloat, model_validator

from diptych.errors import InputError
from diptych.ptycho.simulate.options import ObjectKind
from diptych.ptycho.studies.base import Cell, Check, Estimate, Study
from diptych.ptycho.studies.report import Row, Table, mean_and_deviation
from diptych.ptycho.studies.report_files import finite
from diptych.ptycho.studies.training import (
    METRICS,
    UNITS,
    Recipe,
    TrainingStudyOptions,
    display,
    measure,
    networks_of,
)
from diptych.ptycho.studies.training.estimates import training_estimate
from diptych.ptycho.studies.training.options import own_options
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEST_SEED = 20_000_000
_CLIPPING = re.compile(r"none|(norm|value|agc):\d+(\.\d+)?([eE][+-]?\d+)?")

FLAT = 1e-6
"""Variance of the amplitude over its squared mean below which an image counts as collapsed: it shows no object."""


class ShootoutOptions(TrainingStudyOptions):
    """Options of the study ``shootout``. Without them, ``size`` decides. Data are the same for all seeds of weights."""

    object: ObjectKind = Field("lines", description="Kind of simulated object.")
    clippings: tuple[str, ...] | None = Field(
        None, min_length=1, description="Gradient clipping: none, norm:MAX, value:MAX or agc:RATIO, one arm each."
    )
    learning_rates: tuple[PositiveFloat, ...] | None = Field(
        None, min_length=1, description="Peak learning rates, one arm each."
    )
    patterns: int | None = Field(None, ge=16, description="Patterns of the training scan, and of the test scan.")
    pattern_size: int | None = Field(None, ge=16, le=1024, description="Side N of the patterns, px.")
    gridsize: int = Field(1, ge=1, le=3, description="g: groups of g x g patterns.")
    dose: PositiveFloat = Field(1e6, description="Mean detected photons per pattern.")

    @model_validator(mode="after")
    def _arms(self) -> Self:
        for each in self.clippings or ():
            if not _CLIPPING.fullmatch(each):
                raise ValueError(f"clipping {each!r} is not known; expected none, norm:1, value:0.5 or agc:0.01")
        return self


@dataclass(frozen=True)
class _Grid:
    clippings: tuple[str, ...]
    learning_rates: tuple[float, ...]
    patterns: int
    pattern_size: int
    epochs: int
    repeats: int


_GRIDS = {
    "quick": _Grid(("norm:1", "agc:0.01"), (1e-3,), 100, 64, 3, 1),
    "standard": _Grid(("none", "norm:1", "agc:0.01"), (1e-3,), 512, 64, 20, 3),
    "full": _Grid(("none", "norm:1", "value:0.5", "agc:0.01"), (3e-4, 1e-3, 3e-3), 2048, 64, 50, 5),
}


def grid_of(options: ShootoutOptions) -> _Grid:
    """The grid of ``size``, with the options that are set in place of its values."""
    base = _GRIDS[options.size]
    return _Grid(**{name: getattr(options, name) or value for name, value in vars(base).items()})


def cells(options: ShootoutOptions) -> list[Cell]:
    """One cell per network, clipping, learning rate and seed of the weights."""
    chosen, networks = grid_of(options), networks_of(options)
    return [
        Cell(
            f"{network}-{clipping.replace(':', '')}-lr{rate:g}-seed{seed}".replace("_", "-"),
            {
                "method": display(network, networks),
                "network": network,
                "clipping": clipping,
                "learning_rate": float(rate),
                "seed": seed,
            },
        )
        for network in networks
        for clipping in dict.fromkeys(chosen.clippings)
        for rate in dict.fromkeys(chosen.learning_rates)
        for seed in range(options.seed, options.seed + chosen.repeats)
    ]


def run(cell: Cell, options: ShootoutOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Train one network by one setting. A training that diverges or collapses is a result, not a failed cell."""
    import numpy as np

    from diptych.ptycho.simulate import simulate
    from diptych.ptycho.studies.training.methods import apply_model, train_model

    chosen, network = grid_of(options), cell.parameters["network"]
    setting: dict[str, Any] = {
        "object": options.object,
        "size": chosen.pattern_size,
        "patterns": chosen.patterns,
        "dose": options.dose,
    }
    training = simulate(**setting, seed=options.seed)
    test = simulate(**setting, seed=_TEST_SEED + options.seed)
    mode, _, limit = cell.parameters["clipping"].partition(":")
    how = {"clip_mode": "norm", "clip": 0.0} if mode == "none" else {"clip_mode": mode, "clip": float(limit)}
    recipe = Recipe(
        network,
        own_options(options, network),
        {
            "epochs": chosen.epochs,
            "seed": cell.parameters["seed"],
            "gridsize": options.gridsize,
            "learning_rate": cell.parameters["learning_rate"],
            **how,
        },
    )
    nothing = dict.fromkeys((*METRICS, "undefined"))
    data = {"train_photons": float(training.counts.sum()), "test_photons": float(test.counts.sum())}
    try:
        model, facts = train_model(recipe, [training], execution, folder)
    except InputError as error:
        if "diverged" not in str(error):
            raise
        return {**nothing, **data, "ending": "diverged", "why": str(error)}
    result, more = apply_model(model, test, execution)
    values = np.abs(result.object.values)
    stopped = str(model.provenance.get("stop_reason") or "")
    flat = float(values.var() / max(float(values.mean()) ** 2, 1e-30)) < FLAT
    ending = "diverged" if "diverged" in stopped else "collapsed" if flat or "collapsed" in stopped else "trained"
    return {**measure(result, test), **data, "ending": ending, "why": stopped or None, **facts, **more}


def estimate(cell: Cell, options: ShootoutOptions) -> Estimate:
    """From the number of patterns."""
    chosen = grid_of(options)
    return training_estimate(
        options.size,
        cell.parameters.get("network"),
        patterns=chosen.patterns,
        pattern_size=chosen.pattern_size,
        epochs=chosen.epochs,
        members=options.gridsize**2,
        test_patterns=chosen.patterns,
    )


def crash_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many trainings of each setting were trained, collapsed or diverged."""
    counted: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["method"], row["clipping"], row["learning_rate"])
        line = counted.setdefault(
            key,
            {
                **dict(zip(("method", "clipping", "learning_rate"), key, strict=True)),
                "seeds": 0,
                "trained": 0,
                "collapsed": 0,
                "diverged": 0,
            },
        )
        line["seeds"] += 1
        line[row["ending"]] += 1
    return list(counted.values())


def tables(rows: Sequence[Mapping[str, Any]], options: ShootoutOptions) -> list[Table]:
    """Endings by setting, and means over the seeds that were trained."""
    by = ("method", "clipping", "learning_rate")
    good = [row for row in rows if row["ending"] == "trained"]
    extra = ("train_seconds", "loss_best", "parameters", "flops_per_pattern")
    out = [Table("crashes", "How trainings ended, by network and setting", crash_table(rows))]
    if good:
        means = mean_and_deviation(good, by, (*METRICS, *extra))
        out.append(Table("metrics", "Mean and standard deviation over the seeds that were trained", means, UNITS))
    return out


def plot(made: Sequence[Table], options: ShootoutOptions) -> Figure:
    """Error and SSIM by clipping, one curve per network and learning rate."""
    from diptych.ptycho.figures.studies import Panel, plot_curves

    rows = made[1].rows if len(made) > 1 else []
    names = list(dict.fromkeys(row["clipping"] for row in rows))
    lines = [
        {**row, "arm": names.index(row["clipping"]), "curve": f"{row['method']}, lr {row['learning_rate']:g}"}
        for row in rows
    ]
    panels = (Panel("complex_error", "relative complex error"), Panel("amplitude_ssim_ptychopinn", "amplitude SSIM"))
    label = "clipping: " + ", ".join(f"{number} = {name}" for number, name in enumerate(names))
    title = f"Shootout, {options.size}: mean over seeds"
    return plot_curves(lines, "arm", panels, by="curve", xlabel=label, title=title, log_x=False)


def checks(rows: Sequence[Mapping[str, Any]], options: ShootoutOptions) -> list[Check]:
    """Identical data for every arm, and a known ending of every training."""
    data = {(row["train_photons"], row["test_photons"]) for row in rows}
    endings = {row["ending"] for row in rows}
    good = [row for row in rows if row["ending"] == "trained"]
    return [
        Check("every training saw the same data", len(data) == 1, f"{len(data)} data sets"),
        Check(
            "every training ended as trained, collapsed or diverged",
            endings <= {"trained", "collapsed", "diverged"},
            ", ".join(sorted(endings)),
        ),
        finite(good, ("complex_error", *METRICS[2:6])),
    ]


STUDY = Study(
    name="shootout",
    help="Networks against gradient clipping and learning rate on identical data, with a table of failures.",
    options=ShootoutOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    checks=checks,
)
