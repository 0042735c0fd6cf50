"""Runs an engine: history, stop rule, best state, checkpoints, Ctrl-C."""

from __future__ import annotations

import json
import signal
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.engines.stopping import StopRule
from diptych.runtime.files import replacing
from diptych.runtime.interrupts import interrupts_after
from diptych.runtime.progress import Progress, ProgressCallback

CHECKPOINT_SECONDS = 20.0

FINAL_STAGE = 3.0
"""Number of a staged engine's last stage in the history; only there does the stop rule listen."""


class Engine(Protocol):
    """What a solver offers to the runner; see :class:`diptych.ptycho.engines.pie.Pie` for one."""

    @property
    def image(self) -> Tensor:
        """The object as it stands, (H, W) complex."""

    @property
    def probe(self) -> Tensor:
        """The probe modes as they stand, (P, N, N) complex."""

    @property
    def patience(self) -> int | None:
        """Epochs of a worsening held-out fit to sit through; None for an engine that tells by :attr:`settled` when it
        has converged.
        """

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop in any case, unless the user set a number."""

    @property
    def settled(self) -> str:
        """Why nothing more is to be gained, or an empty string."""

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Object and probe as they stand; no later epoch writes to these tensors."""

    def epoch(self) -> dict[str, float]:
        """One pass over the scan; returns at least ``fit`` and ``held_out_fit``."""

    def state(self) -> dict[str, Tensor]:
        """Tensors from which :meth:`restore` goes on exactly."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier :meth:`state`."""


@dataclass(eq=False)
class Run:
    """Where a run stands: the columns of its history, its best state, why it ended, and what it started from (JSON
    values).
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    best: tuple[Tensor, Tensor] | None = None
    best_epoch: int = 0
    reason: str = ""
    interrupted: bool = False
    start: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs done so far."""
        return len(self.history.get("epoch", []))


def run_engine(
    engine: Engine,
    run: Run,
    *,
    epochs: int | None,
    stop: bool,
    rng: np.random.Generator,
    stage: str,
    progress: ProgressCallback | None = None,
    checkpoint: Path | None = None,
    identity: dict[str, Any] | None = None,
) -> Run:
    """Advance ``engine`` until ``epochs`` (its own limit when None) are done, the stop rule says so, or Ctrl-C; fills
    ``run``.

    Parameters
    ----------
    run : Run
        A new one, or one that :func:`load_checkpoint` filled.
    stop : bool
        Whether the stop rule is heard; the best state is kept in any case.
    checkpoint : Path, optional
        File (NPZ) to keep the state in, written every 20 s and at the end.
    identity : dict, optional
        What must agree for the checkpoint to be resumed (JSON values).
    """
    rule = StopRule(engine.patience)
    for value in _judged(run.history):
        rule.keeps(*value)
    before = run.history["seconds"][-1] if run.epochs else 0.0
    began = written = time.perf_counter()
    whole = True
    try:
        while run.epochs < (epochs or engine.most_epochs):
            run.reason = (rule.reason() or engine.settled) if stop else ""
            if run.reason:
                break
            whole = False
            with interrupts_after() as asked:
                report = engine.epoch()
            whole = True
            row = {"epoch": run.epochs + 1, "seconds": before + time.perf_counter() - began, **report}
            for name in {**run.history, **row}:
                run.history.setdefault(name, [float("nan")] * run.epochs)
            for name, column in run.history.items():
                column.append(float(row.get(name, float("nan"))))
            judged = _judged(run.history)
            # In the opening stage of a staged engine nothing is judged: the next stage starts from its last state.
            if not judged or rule.keeps(*judged[-1]):
                run.best, run.best_epoch = engine.snapshot(), run.epochs
            if progress is not None:
                progress(Progress(stage, run.epochs, epochs or engine.most_epochs, report))
            if checkpoint is not None and time.perf_counter() - written > CHECKPOINT_SECONDS:
                save_checkpoint(checkpoint, engine, run, rng, identity or {})
                written = time.perf_counter()
            if asked:
                # To whoever handles it outside; by default that raises KeyboardInterrupt here.
                signal.raise_signal(asked[0])
        else:
            run.reason = f"all {run.epochs} epochs done"
    except KeyboardInterrupt:
        run.interrupted, run.reason = True, f"interrupted after {run.epochs} epochs"
    if run.best is None:
        run.best, run.best_epoch = engine.snapshot(), run.epochs
    if checkpoint is not None and whole:
        save_checkpoint(checkpoint, engine, run, rng, identity or {})
    return run


def _judged(history: dict[str, list[float]]) -> list[tuple[float, float]]:
    """What the stop rule sees: held-out fit (the fit itself where nothing is held out) and fit, without a staged
    engine's opening.
    """
    fits = history.get("fit", [])
    held = history.get("held_out_fit", [])
    values = held if held and np.isfinite(held[-1]) else fits
    stages = history.get("stage", [FINAL_STAGE] * len(fits))
    return [(value, fit) for value, fit, stage in zip(values, fits, stages, strict=True) if stage == FINAL_STAGE]


def save_checkpoint(path: Path, engine: Engine, run: Run, rng: np.random.Generator, identity: dict[str, Any]) -> None:
    """Write the whole state of a run to an NPZ file, atomically and without pickle."""
    arrays = {f"engine_{name}": tensor.cpu().numpy() for name, tensor in engine.state().items()}
    arrays |= {f"history_{name}": np.asarray(column) for name, column in run.history.items()}
    if run.best is not None:
        arrays |= {"best_image": run.best[0].cpu().numpy(), "best_probe": run.best[1].cpu().numpy()}
    meta = {"identity": identity, "rng": rng.bit_generator.state, "best_epoch": run.best_epoch, "start": run.start}
    arrays["meta"] = np.array(json.dumps(meta))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_checkpoint(
    path: Path, engine: Engine, rng: np.random.Generator, identity: dict[str, Any], device: torch.device
) -> Run:
    """Bring ``engine`` and ``rng`` back to where :func:`save_checkpoint` left them.

    Raises
    ------
    InputError
        If the file cannot be read, or belongs to another scan or other options.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        found = dict(meta["identity"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise _broken(path, error) from None
    for key, value in identity.items():
        if found.get(key) != value:
            raise InputError(
                f"{path}: was written with {key} = {found.get(key)}, but this run has {value}; "
                "resume with the same scan and options, or start again without resuming."
            )
    tensors = {
        name.removeprefix("engine_"): torch.from_numpy(a).to(device)
        for name, a in arrays.items()
        if name.startswith("engine_")
    }
    run = Run({name.removeprefix("history_"): a.tolist() for name, a in arrays.items() if name.startswith("history_")})
    try:
        rng.bit_generator.state = meta["rng"]
        engine.restore(tensors)
        run.start = dict(meta["start"])
        if "best_image" in arrays:
            run.best = (
                torch.from_numpy(arrays["best_image"]).to(device),
                torch.from_numpy(arrays["best_probe"]).to(device),
            )
            run.best_epoch = int(meta["best_epoch"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _broken(path, error) from None
    return run


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: is not a checkpoint that can be resumed ({type(error).__name__}: {error}); start again without "
        f"resuming."
    )
