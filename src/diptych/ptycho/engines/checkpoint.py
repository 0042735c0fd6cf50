"""Checkpoints: the whole state of a run in an NPZ file, from which it continues with the same numbers.

A resumed run equals the uninterrupted one bit for bit on the same machine, device, instruction set and number of
threads: sums that decide a step are computed in a fixed order. With another number of threads partial sums are added in
another order, and the results differ by rounding.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.engines.base import Engine
from diptych.runtime.files import replacing

BEST = ("best_image", "best_probe", "best_positions", "best_origin")
"""Names of the parts of the best state; the last two only where positions are refined."""

Guess = tuple[Tensor, Tensor, float]
"""Object (H, W), probe (P, N, N), and their fit."""


@dataclass(eq=False)
class Run:
    """State of a run: history, best state so far, why it ended.

    Parameters
    ----------
    history : dict
        Columns of equal length, one row for each epoch.
    best : (tensor, tensor), optional
        Object (H, W) and probe (P, N, N) of the best epoch.
    best_epoch : int
        Its number.
    reason : str
        Why the run stopped.
    interrupted : bool
        Whether it was interrupted or cancelled.
    start : dict
        How the initial object was chosen, as JSON values.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    best: tuple[Tensor, ...] | None = None
    best_epoch: int = 0
    reason: str = ""
    interrupted: bool = False
    start: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs done so far."""
        return len(self.history.get("epoch", []))


def save_checkpoint(path: Path, engine: Engine, run: Run, rng: np.random.Generator, identity: dict[str, Any]) -> None:
    """Write the whole state of a run to an NPZ file, atomically and without pickle."""
    arrays = {f"engine_{name}": tensor.cpu().numpy() for name, tensor in engine.state().items()}
    arrays |= {f"history_{name}": np.asarray(column) for name, column in run.history.items()}
    if run.best is not None:
        arrays |= {name: part.cpu().numpy() for name, part in zip(BEST, run.best, strict=False)}
    meta = {"identity": identity, "rng": rng.bit_generator.state, "best_epoch": run.best_epoch, "start": run.start}
    arrays["meta"] = np.array(json.dumps(meta))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_checkpoint(
    path: Path, engine: Engine, rng: np.random.Generator, identity: dict[str, Any], device: torch.device
) -> Run:
    """Restore ``engine`` and ``rng`` from :func:`save_checkpoint`, and return the run.

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
                path,
                f"was written with {key} = {found.get(key)}",
                f"{key} = {value}",
                "Resume with the same scan and options, or start again without resuming.",
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
            run.best = tuple(torch.from_numpy(arrays[name]).to(device) for name in BEST if name in arrays)
            run.best_epoch = int(meta["best_epoch"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _broken(path, error) from None
    return run


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        path,
        f"cannot be read ({type(error).__name__}: {error})",
        "the checkpoint of a run",
        "Start again without resuming.",
    )


def guess_state(name: str, guess: Guess | None) -> dict[str, Tensor]:
    """Object, probe and fit as entries of an engine's state; none without a guess."""
    values = () if guess is None else (*guess[:2], torch.tensor(guess[2], dtype=torch.float64))
    return dict(zip((f"{name}_image", f"{name}_probe", f"{name}_fit"), values, strict=False))


def guess_of(state: dict[str, Tensor], name: str) -> Guess | None:
    """What :func:`guess_state` made, from an engine's state."""
    if f"{name}_image" not in state:
        return None
    return state[f"{name}_image"], state[f"{name}_probe"], float(state[f"{name}_fit"])
