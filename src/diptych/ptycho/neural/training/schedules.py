"""Learning rate schedules as pure functions of the update and the losses, without state that a resume could lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

ScheduleName = Literal["cosine", "constant", "exponential", "plateau"]

COSINE_END = 0.01
EXPONENTIAL = 0.95
PLATEAU_FACTOR, PLATEAU_PATIENCE, PLATEAU_END = 0.5, 2, 1 / 20


def factor(
    name: ScheduleName, update: int, *, total: int, per_epoch: int, warmup: int, losses: Sequence[float] = ()
) -> float:
    """The factor on the peak learning rate at an update.

    Parameters
    ----------
    name : {"cosine", "constant", "exponential", "plateau"}
        Cosine decays to 1 % at the last update; exponential by 5 % per epoch; plateau by half after three epochs
        without a lower loss, down to 1/20.
    update : int
        Number of the update, starting at 0.
    total, per_epoch : int
        Updates of the whole training and of an epoch.
    warmup : int
        Updates of the linear increase at the start.
    losses : sequence of float
        Monitored losses of the epochs so far, for plateau.
    """
    rise = min(1.0, (update + 1) / warmup) if warmup else 1.0
    if name == "cosine":
        share = min(1.0, max(0, update - warmup) / max(1, total - 1 - warmup))
        return rise * (COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * share)))
    if name == "exponential":
        return rise * EXPONENTIAL ** (update // per_epoch)
    if name == "plateau":
        return rise * max(PLATEAU_END, PLATEAU_FACTOR ** plateaus(losses))
    return rise


def plateaus(losses: Sequence[float]) -> int:
    """Number of times that the loss has not decreased for more than two epochs in a row."""
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited > PLATEAU_PATIENCE:
            found, waited = found + 1, 0
    return found
