"""The methods that studies compare: a generator trained on patterns, the supervised baseline, and the engine."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.history import read_columns

if TYPE_CHECKING:
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.scan import Reconstruction, Scan

BASELINE = "Baseline"
ITERATIVE = "Engine"
STARTED = "Engine from "
"""Prefix of a method that starts the engine from the network named after it."""

_NAME = "PtychoPINN"


def display(network: str, networks: Sequence[str]) -> str:
    """Name of a generator trained on patterns alone: ``PtychoPINN``, with the generator where there are several."""
    return _NAME if len(networks) == 1 else f"{_NAME} {network}"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    network : str or None
        Registered name; None for the supervised baseline.
    own : dict
        Options of the generator.
    training : dict
        Fields of :class:`~diptych.ptycho.neural.options.TrainingOptions`. The baseline ignores gridsize and the loss.
    """

    network: str | None
    own: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def train_model(
    recipe: Recipe, scans: Sequence[Scan], execution: ExecutionOptions, folder: Path
) -> tuple[Model, dict[str, Any]]:
    """Train by a recipe; return the model and facts about the training.

    A training that was killed is continued from its last epoch.

    Parameters
    ----------
    folder : Path
        Folder of the cell. It keeps ``train/`` with the model, the history of losses and, until the training ends, the
        checkpoint.
    """
    from diptych.ptycho.neural.options import TrainerOptions
    from diptych.ptycho.train import train

    trainer = TrainerOptions(device=execution.device, threads=execution.threads, logger="none", pictures=False)
    training = {"validation": 0.05 if recipe.network is None else 0.1, **recipe.training}
    training.setdefault("warmup", _warmup(training, scans))
    if recipe.network is None:
        # PtychoNN: one pass without physics, one pattern at a time, on the true object.
        unused = ("gridsize", "loss", "n_groups", "neighbours", "oversample", "pool")
        training = {key: value for key, value in training.items() if key not in unused}
        training |= {"supervision": "labels", "network": "cnn", "passes": 1, "gridsize": 1}
        training |= {key: value for key, value in recipe.own.items() if key == "width"}
    else:
        training |= {"network": recipe.network, **recipe.own}
    began = time.perf_counter()
    home = folder / "train"
    resume = (home / "checkpoints" / "last.ckpt").is_file()
    if home.exists() and not resume:
        shutil.rmtree(home)
    model = train(list(scans), trainer=trainer, run=home, resume=resume, **training)
    shutil.rmtree(home / "checkpoints", ignore_errors=True)
    history = read_columns(home / "metrics.csv")
    losses, norms = _comparable(history, labels=recipe.network is None), history.get("grad_norm", [])
    facts = {
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "loss_first": losses[0] if losses else None,
        "loss_best": min(losses, default=None),
        "gradient_norm_max": max(norms, default=None),
        "train_seconds": time.perf_counter() - began,
    }
    return model, facts


def _comparable(history: Mapping[str, Sequence[float]], *, labels: bool) -> Sequence[float]:
    """The loss of each epoch, as far as it can be compared between epochs.

    Without labels the training loss is of other withheld photons in each epoch, and that of validation is used, where
    there is one. With labels the training loss is the same quantity each time, and the validation loss, of the few
    patterns that a small scan spares, may rise from the first epoch on: then the training is short of data, not broken.
    """
    validation = history.get("validation_loss", [])
    use = not labels and validation and all(map(math.isfinite, validation))
    return validation if use else history.get("loss", [])


def _warmup(training: Mapping[str, Any], scans: Sequence[Scan]) -> int:
    """At most the usual 50 updates, and a tenth of all in a short training, which it would else fill."""
    patterns = sum(min(training.get("n_subsample") or len(scan), len(scan)) for scan in scans)
    groups = training.get("n_groups") or patterns
    return max(1, min(50, int(training.get("epochs", 30)) * groups // 320))


def apply_model(model: Model, scan: Scan, execution: ExecutionOptions) -> tuple[Reconstruction, dict[str, Any]]:
    """Reconstruct a scan with a network; return the result and the floating-point operations per pattern.

    Counted are convolutions and matrix products, not FFTs, divided by the patterns of the scan: a pattern in several
    groups counts several times.
    """
    from torch.utils.flop_counter import FlopCounterMode

    began = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        result = model.reconstruct(scan, execution=execution, canvas_passes=0)
    seconds = time.perf_counter() - began
    return result, {"flops_per_pattern": counter.get_total_flops() / len(scan), "inference_seconds": seconds}


def iterate(
    scan: Scan, execution: ExecutionOptions, model: Model | None = None, **options: Any
) -> tuple[Reconstruction, dict[str, Any]]:
    """Reconstruct a scan with the automatic engine, from a flat object or from a network's image."""
    from diptych.ptycho.reconstruct import reconstruct

    began = time.perf_counter()
    result = reconstruct(scan, model, execution=execution, **options)
    facts = {"inference_seconds": time.perf_counter() - began, "fit": result.provenance.get("fit")}
    return result, facts


def solve(
    method: str,
    recipe: Recipe | None,
    training: Sequence[Scan],
    test: Scan,
    execution: ExecutionOptions,
    folder: Path,
) -> tuple[Reconstruction, dict[str, Any]]:
    """Reconstruct ``test`` with a method that was trained, where it is, on other scans.

    Parameters
    ----------
    method : str
        :data:`ITERATIVE`, :data:`STARTED` and a name, or anything else for a network.
    recipe : Recipe, optional
        For networks.
    folder : Path
        Folder of the cell; see :func:`train_model`.

    Returns
    -------
    Reconstruction, dict
        The result, and facts: parameters, first and last loss, seconds, operations per pattern.
    """
    if method == ITERATIVE:
        return iterate(test, execution)
    if recipe is None:
        raise InputError(f"method {method}", "has no recipe of its training")
    model, facts = train_model(recipe, training, execution, folder)
    if method.startswith(STARTED):
        result, more = iterate(test, execution, model)
    else:
        result, more = apply_model(model, test, execution)
    return result, {**facts, **more}
