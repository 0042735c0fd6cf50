"""A fitted utility as files that other programs read: its direction, or its boosted trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.ledger.files import storing
from diptych.prefer.utility import Fitted
from diptych.runtime.files import replacing


@runtime_checkable
class BoostedTrees(Protocol):
    """A fit of boosted trees: ``booster`` of xgboost, on coordinates ``basis`` (n, k) of the judged latents (n, d)."""

    booster: Any
    latents: NDArray[np.float32]
    basis: NDArray[np.float64]


def save_model(fitted: Fitted, folder: str | Path, name: str, metadata: dict[str, str]) -> list[Path]:
    """Write a fit.

    ``<name>.safetensors`` holds ``direction`` (d,), along which utility is expected to increase. Boosted trees add
    ``<name>.json``, an xgboost model, and ``projection`` (k, d): their inputs are ``projection @ latent``.

    Returns
    -------
    list of Path
        The files; that of the model comes first.

    Raises
    ------
    InputError
        If the folder is a file.
    UnavailableError
        If it cannot be written.
    """
    from safetensors.numpy import save_file

    home = Path(folder)
    if home.exists() and not home.is_dir():
        raise InputError(home, "is a file", "a folder for the model (--model-dir)")
    arrays = {"direction": fitted.direction().astype(np.float32)}
    files = []
    with storing(home):
        home.mkdir(parents=True, exist_ok=True)
        if isinstance(fitted, BoostedTrees):
            projection = fitted.basis.T.astype(np.float32) @ fitted.latents / np.float32(fitted.latents.shape[1])
            arrays["projection"] = projection.astype(np.float32)
            with replacing(home / f"{name}.json") as temporary:
                fitted.booster.save_model(temporary)
            files.append(home / f"{name}.json")
        with replacing(home / f"{name}.safetensors") as temporary:
            save_file(arrays, temporary, metadata)
    return [*files, home / f"{name}.safetensors"]
