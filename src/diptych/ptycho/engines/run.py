"""Runs an engine: history, stop rule, best state, checkpoints, interruption, previews."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.engines.base import FINAL_STAGE, Engine
from diptych.ptycho.engines.checkpoint import Run, save_checkpoint
from diptych.ptycho.engines.stopping import StopRule
from diptych.runtime.files import unless_refused
from diptych.runtime.interrupts import ends_process, interrupts_after, stoppable
from diptych.runtime.progress import Preview, Progress, ProgressCallback

if TYPE_CHECKING:
    from torch import Tensor

DIVERGED = "diverged"
"""First word of the reason for which a run stopped, where its state became infinite or NaN."""

DIVERGING = 10.0
"""Fit, in the lowest so far, above which a state is not kept: it is on the way to infinity."""

RETURNED = 0.5
"""Share of the best held-out fit below which a state is kept although the engine has returned to an earlier stage, as
it does while positions are refined: a run that ends there must not lose what it gained. Wrong positions at 5e7 photons:
6700 in the last stage, 20 in the stage after it; positions that are refined under a wrong reading gain less."""

CHECKPOINT_SECONDS = 20.0
"""Time between two checkpoints, s."""


class CancelToken(Protocol):
    """Asks a run to stop, from another thread."""

    @property
    def requested(self) -> bool:
        """Whether to stop after the current epoch."""


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
    cancel: CancelToken | None = None,
    many_photons: bool = False,
) -> Run:
    """Advance ``engine`` until ``epochs`` (its own limit when None) are done, it converged, or it is interrupted.

    Parameters
    ----------
    run : Run
        A new one, or one from :func:`~diptych.ptycho.engines.checkpoint.load_checkpoint`; it is filled and returned.
    stop : bool
        Whether to stop on convergence; the best state is kept in any case.
    progress : callable, optional
        Called after each epoch, with a preview that is computed only on request.
    checkpoint : Path, optional
        File (NPZ) to keep the state in, written every 20 s and at the end. A file system that refuses it (full,
        quota, input/output error) is a warning.
    identity : dict, optional
        What must agree for the checkpoint to be resumed (JSON values).
    cancel : CancelToken, optional
        Checked before each epoch; the run then ends as on Ctrl-C.
    many_photons : bool
        For the :class:`~diptych.ptycho.engines.stopping.StopRule`.
    """
    rule = StopRule(engine.patience, many_photons)
    for value in _judged(run.history):
        rule.keeps(*value)
    before = run.history["seconds"][-1] if run.epochs else 0.0
    began = written = time.perf_counter()
    whole, asked = True, list[int]()
    try:
        while run.epochs < (epochs or engine.most_epochs):
            run.reason = (rule.reason() or engine.settled) if stop and _in_last_stage(run.history) else ""
            if run.reason:
                break
            if cancel is not None and cancel.requested:
                run.interrupted, run.reason = True, f"cancelled after {run.epochs} epochs"
                break
            whole = False
            with interrupts_after() as asked:
                report = _epoch(engine, asked, cancel)
            whole = True
            _add_row(run, before + time.perf_counter() - began, report)
            _keep_best(engine, run, rule, report)
            if progress is not None:
                progress(_told(engine, run, stage, epochs or engine.most_epochs, report))
            if checkpoint is not None and time.perf_counter() - written > CHECKPOINT_SECONDS:
                _keep(checkpoint, engine, run, rng, identity)
                written = time.perf_counter()
            run.reason = _divergence(run, report)
            if run.reason:
                break
            if asked:
                if checkpoint is not None and ends_process(asked[0]):
                    _keep(checkpoint, engine, run, rng, identity)
                # Sent again to the handler outside, which raises KeyboardInterrupt by default.
                signal.raise_signal(asked[0])
        else:
            run.reason = f"all {run.epochs} epochs done"
    except KeyboardInterrupt:
        if asked and ends_process(asked[0]):
            signal.raise_signal(asked[0])
        word = "cancelled" if cancel is not None and cancel.requested else "interrupted"
        run.interrupted, run.reason = True, f"{word} after {run.epochs} epochs"
    if run.best is None:
        run.best, run.best_epoch = engine.snapshot(), run.epochs
    if checkpoint is not None and whole:
        _keep(checkpoint, engine, run, rng, identity)
    return run


def _epoch(engine: Engine, asked: list[int], cancel: CancelToken | None) -> dict[str, float]:
    """One epoch; trials in it, which can take as long as many epochs, end at a signal or a cancellation."""
    with stoppable(lambda: bool(asked) or (cancel is not None and cancel.requested)):
        return engine.epoch()


def _add_row(run: Run, seconds: float, report: dict[str, float]) -> None:
    """Add an epoch to the history; a column that it or the epochs before it lack holds NaN there."""
    row = {"epoch": run.epochs + 1, "seconds": seconds, **report}
    for name in {**run.history, **row}:
        run.history.setdefault(name, [float("nan")] * run.epochs)
    for name, column in run.history.items():
        column.append(float(row.get(name, float("nan"))))


def _keep_best(engine: Engine, run: Run, rule: StopRule, report: dict[str, float]) -> None:
    """Tell the stop rule of the last epoch, and keep its state where it is the best so far.

    Stages before the last are not judged: the next stage starts from their last state.
    """
    judged = _judged(run.history)
    final = float(report.get("stage", FINAL_STAGE)) == FINAL_STAGE
    kept = rule.keeps(*judged[-1]) if final else _kept_unjudged(run.history, rule.best)
    if kept or (final and np.isfinite(judged[-1][0]) and not _is_final(run.history, run.best_epoch)):
        run.best, run.best_epoch = engine.snapshot(), run.epochs


def _told(engine: Engine, run: Run, stage: str, total: int, report: dict[str, float]) -> Progress:
    """The last epoch as a message; what it shows of the engine is computed only on request."""
    return Progress(stage, run.epochs, total, report, lambda: preview(engine), state=lambda: full_state(engine))


def _divergence(run: Run, report: dict[str, float]) -> str:
    """Why a run whose fit became infinite or NaN ends; an empty string where it is finite."""
    if np.isfinite(float(report.get("fit", 0.0))):
        return ""
    state = f"the state of epoch {run.best_epoch} is kept" if run.best is not None else "no state is usable"
    return f"{DIVERGED}: the fit of epoch {run.epochs} is not finite; {state}"


def _kept_unjudged(history: dict[str, list[float]], best: float) -> bool:
    """Whether to keep the state of a stage before the last. Until the last stage was reached: unless it diverges.
    Afterwards: where its held-out fit is far below ``best``, that of the last stage, and the lowest since.
    """
    stages, values = history["stage"], _values(history)
    if FINAL_STAGE not in stages:
        return history["fit"][-1] <= DIVERGING * _lowest(history)
    since = stages.index(FINAL_STAGE)
    others = [value for value, stage in zip(values[since:], stages[since:], strict=True) if stage != FINAL_STAGE]
    return values[-1] <= min([RETURNED * best, *(value for value in others if np.isfinite(value))])


def _is_final(history: dict[str, list[float]], epoch: int) -> bool:
    """Whether an epoch, counted from 1, was one of the last stage. A state of an earlier stage gives way once the last
    one goes on: refined positions may have been given up there.
    """
    return history.get("stage", [FINAL_STAGE] * epoch)[epoch - 1] == FINAL_STAGE


def _lowest(history: dict[str, list[float]]) -> float:
    """The lowest finite fit so far; infinite without one."""
    return min((fit for fit in history.get("fit", []) if np.isfinite(fit)), default=float("inf"))


def _keep(
    checkpoint: Path, engine: Engine, run: Run, rng: np.random.Generator, identity: dict[str, Any] | None
) -> None:
    """Write the checkpoint; where the file system refuses, warn: the run, and then its result, do not depend on it."""
    with unless_refused(f"the run goes on without a checkpoint of epoch {run.epochs}"):
        save_checkpoint(checkpoint, engine, run, rng, identity or {})


def _in_last_stage(history: dict[str, list[float]]) -> bool:
    """Whether the last epoch was one of the last stage; the stages before lead to it in any case."""
    stages = history.get("stage")
    return not stages or stages[-1] == FINAL_STAGE


def _judged(history: dict[str, list[float]]) -> list[tuple[float, float, float]]:
    """Held-out fit (the fit itself where nothing is held out), fit and loss of the epochs in the last stage."""
    fits, values = history.get("fit", []), _values(history)
    losses = history.get("loss", [float("nan")] * len(fits))
    stages = history.get("stage", [FINAL_STAGE] * len(fits))
    rows = zip(values, fits, losses, stages, strict=True)
    return [(value, fit, loss) for value, fit, loss, stage in rows if stage == FINAL_STAGE]


def _values(history: dict[str, list[float]]) -> list[float]:
    """The held-out fits; the fits where nothing is held out."""
    held = history.get("held_out_fit", [])
    return held if held and np.isfinite(held[-1]) else history.get("fit", [])


def full_state(engine: Engine) -> tuple[NDArray[Any], NDArray[Any]]:
    """Copies of the engine's current object (H, W), of slices their product, and probe modes (P, N, N)."""
    shown = (_whole(engine.image), engine.probe)
    image, probe = (tensor.resolve_conj().detach().cpu().numpy().copy() for tensor in shown)
    return image, probe


def preview(engine: Engine) -> Preview:
    """Small images of the engine's current object and probe."""
    return Preview.of(*(tensor.resolve_conj().cpu().numpy() for tensor in (_whole(engine.image), engine.probe)))


def _whole(image: Tensor) -> Tensor:
    """The object (H, W); of slices (S, H, W) their product."""
    return image.prod(0) if image.ndim == 3 else image
