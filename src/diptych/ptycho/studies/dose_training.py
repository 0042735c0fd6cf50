"""Networks trained at a high and a low dose with two losses: the trained part of the study ``dose-response``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from diptych.ptycho.networks.registry import NETWORKS
from diptych.ptycho.studies.base import Cell, Check, Estimate, Images, StudyOptions
from diptych.ptycho.studies.report import Row, Table, mean_and_deviation
from diptych.ptycho.studies.training import (
    METRICS,
    UNITS,
    Recipe,
    keep_images,
    measure,
    photons_per_pattern,
    trained,
)
from diptych.ptycho.studies.training.estimates import training_estimate
from diptych.ptycho.studies.training.options import QUICK_WIDTH
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diptych.ptycho.scan import Scan

LOSS = "loss"
"""Parameter that the cells of trained networks have, and others have not."""

HIGH, LOW = 1e9, 1e4
_NAMES = {HIGH: "high", LOW: "low"}
_LOSSES = ("poisson", "mae")
_TRAIN_SEED, _TEST_SEED = 1, 2
_SIDE, _AMPLITUDE = 128, (0.5, 1.5)
_GRID_SIDE, _GRID_STEP, _GRID_JITTER = 196, 4.0, 3.0


class DoseTrainingOptions(StudyOptions):
    """Options of the trained networks in ``dose-response``."""

    training: Literal["random", "grid", "off"] = Field(
        "random",
        description="Positions of the trained networks: random (128 px object, g = 2), grid (196 px object, g = 1, "
        "step 4 px, jitter 3 px), or off (the engine alone).",
    )
    trained_network: str = Field("cnn", description="Generator of the trained networks, by its registered name.")
    train_patterns: int | None = Field(
        None, ge=16, description="Patterns to train on; with training = grid as many as the grid has by default."
    )
    train_epochs: int | None = Field(None, ge=1, description="Epochs of each training.")
    train_repeats: int | None = Field(None, ge=1, description="Trainings of each network, with other seeds.")


@dataclass(frozen=True)
class _Setting:
    patterns: int
    epochs: int
    repeats: int
    step: float


_SETTINGS = {
    "quick": _Setting(144, 3, 1, 16.0),
    "standard": _Setting(1000, 20, 3, 4.0),
    "full": _Setting(2000, 50, 3, 4.0),
}


def setting(options: DoseTrainingOptions) -> _Setting:
    """The setting of ``size``, with the options that are set in place of its values."""
    base = _SETTINGS[options.size]
    return _Setting(
        options.train_patterns or base.patterns,
        options.train_epochs or base.epochs,
        options.train_repeats or base.repeats,
        base.step,
    )


def cells(options: DoseTrainingOptions) -> list[Cell]:
    """One cell per dose, loss and seed."""
    if options.training == "off":
        return []
    return [
        Cell(
            f"trained-{options.training}-{name}-{loss}-seed{seed}",
            {"object": "lines", "dose": dose, "positions": options.training, LOSS: loss, "seed": seed},
        )
        for dose, name in _NAMES.items()
        for loss in _LOSSES
        for seed in range(options.seed, options.seed + setting(options).repeats)
    ]


def data(cell: Cell, options: DoseTrainingOptions) -> tuple[Scan, Scan]:
    """Training and test scan of a cell; the same positions and objects for every dose and loss."""
    import numpy as np

    from diptych.ptycho.simulate import probes
    from diptych.ptycho.studies.grid_lines.data import grid_scan

    chosen, dose, seed = setting(options), cell.parameters["dose"], 1000 * cell.parameters["seed"]
    probe = probes.make_probe("zone-plate", 64)
    ranges: dict[str, Any] = {"amplitude": _AMPLITUDE, "phase": (0.0, 0.0)}
    if cell.parameters["positions"] == "grid":
        scans = [
            grid_scan(
                "lines",
                _GRID_SIDE,
                probe,
                max(_GRID_STEP, chosen.step / 2),
                dose=dose,
                seed=seed + each,
                jitter=_GRID_JITTER,
                **ranges,
            )
            for each in (_TRAIN_SEED, _TEST_SEED)
        ]
        return scans[0], scans[1]

    def scan(each: int, count: int) -> Scan:
        # Each scan draws its positions from its own seed: test positions are not those of the training scan.
        at = np.random.default_rng(seed + each).uniform(32, _SIDE - 32, (count, 2))
        return grid_scan("lines", _SIDE, probe, 1.0, dose=dose, seed=seed + each, positions=at, **ranges)

    return scan(_TRAIN_SEED, chosen.patterns), scan(_TEST_SEED, min(128, chosen.patterns))


def run(cell: Cell, options: DoseTrainingOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Train one network and score it on another object."""
    import json

    from diptych.ptycho.studies.training.methods import apply_model, train_model
    from diptych.runtime.files import write_text
    from diptych.runtime.history import read_columns
    from diptych.runtime.run_directory import plain

    train_scan, test = data(cell, options)
    random = cell.parameters["positions"] == "random"
    fields = NETWORKS[options.trained_network].options.model_fields
    small = {"width": QUICK_WIDTH} if options.size == "quick" and "width" in fields else {}
    how = {
        "epochs": setting(options).epochs,
        "seed": cell.parameters["seed"],
        "loss": cell.parameters[LOSS],
        "gridsize": 2 if random else 1,
        "neighbours": 7 if random else None,
    }
    model, facts = train_model(Recipe(options.trained_network, small, how), [train_scan], execution, folder)
    result, more = apply_model(model, test, execution)
    keep_images(folder, result, test)
    write_text(
        folder / "history.json", json.dumps(plain(read_columns(folder / "train" / "metrics.csv")), indent=2) + "\n"
    )
    measured = {"photons": photons_per_pattern(train_scan), "test_photons": photons_per_pattern(test)}
    return {**measure(result, test), **measured, "train_patterns": len(train_scan), **facts, **more}


def estimate(cell: Cell, options: DoseTrainingOptions) -> Estimate:
    """From the number of patterns."""
    chosen, grid = setting(options), cell.parameters["positions"] == "grid"
    patterns = chosen.patterns if not grid else (int((_GRID_SIDE - 64) // max(_GRID_STEP, chosen.step / 2)) + 1) ** 2
    return training_estimate(
        options.size,
        options.trained_network,
        patterns=patterns,
        pattern_size=64,
        epochs=chosen.epochs,
        members=1 if grid else 4,
        test_patterns=patterns if grid else 128,
    )


def tables(rows: Sequence[Row]) -> list[Table]:
    """Means over seeds of the trained networks, with the photons that were measured."""
    if not rows:
        return []
    values = (*METRICS, "photons", "test_photons", "loss_first", "loss_best")
    lines = mean_and_deviation(rows, ("dose", LOSS), values)
    title = "Networks trained at a high and a low dose with two losses; photons are measured, mean over seeds"
    return [Table("trained", title, lines, {**UNITS, "photons": "per pattern", "test_photons": "per pattern"})]


def figures(rows: Sequence[Row], folder_of: Callable[[Mapping[str, Any]], Path]) -> Images:
    """Per dose a pattern and the amplitude by each loss: six panels."""
    first = {(row["dose"], row[LOSS]): folder_of(row) for row in reversed(rows)}
    if len(first) < len(_NAMES) * len(_LOSSES):
        return {}

    def draw() -> Figure:
        import numpy as np

        from diptych.ptycho.figures.studies import plot_six
        from diptych.ptycho.studies.training.scoring import kept_images

        lines = []
        for dose, name in _NAMES.items():
            images = {loss: kept_images(first[dose, loss]) for loss in _LOSSES}
            amplitudes = {loss: np.abs(each["result"]) for loss, each in images.items()}
            label = f"{name} dose ({dose:g})"
            lines.append((label, images["mae"]["pattern"], amplitudes["mae"], amplitudes["poisson"]))
        return plot_six(lines)

    return {"dose_comparison": draw}


def checks(rows: Sequence[Row], options: DoseTrainingOptions) -> list[Check]:
    """All four trainings, falling losses, equal data."""
    if not rows:
        return []
    found = {(row["dose"], row[LOSS]) for row in rows}
    counts = {row["train_patterns"] for row in rows}
    return [
        Check("high and low dose are trained with both losses", len(found) == 4, f"{len(found)} of 4"),
        Check("every network saw as many patterns", len(counts) == 1, ", ".join(map(str, sorted(counts)))),
        trained(rows),
    ]
