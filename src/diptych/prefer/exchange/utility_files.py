"""A learned utility as files that other programs read: its direction, or its trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.prefer.ledger.files import storing
from diptych.prefer.utility import Fitted
from diptych.runtime.files import replacing


def save_model(fitted: Fitted, folder: str | Path, name: str, metadata: dict[str, str]) -> list[Path]:
    """Write what a fit learned.

    ``<name>.safetensors`` holds ``direction`` (d,), along which utility is expected to rise. Trees add ``<name>.json``,
    a model of xgboost, and ``projection`` (k, d): their inputs are ``projection @ latent``.

    Returns
    -------
    list of Path
        The files, the model's own first.

    Raises
    ------
    InputError
        The folder is a file.
    UnavailableError
        It cannot be written.
    """
    from safetensors.numpy import save_file

    home = Path(folder)
    if home.exists() and not home.is_dir():
        raise InputError(f"--model-dir {home}: is a file; expected a folder.")
    arrays = {"direction": fitted.direction().astype(np.float32)}
    files = []
    booster: Any = getattr(fitted, "booster", None)
    with storing(home):
        home.mkdir(parents=True, exist_ok=True)
        if booster is not None:
            latents, basis = np.asarray(getattr(fitted, "latents")), np.asarray(getattr(fitted, "basis"))  # noqa: B009
            arrays["projection"] = (basis.T.astype(np.float32) @ latents / np.float32(latents.shape[1])).astype(
                np.float32
            )
            with replacing(home / f"{name}.json") as temporary:
                booster.save_model(temporary)
            files.append(home / f"{name}.json")
        with replacing(home / f"{name}.safetensors") as temporary:
            save_file(arrays, temporary, metadata)
    return [*files, home / f"{name}.safetensors"]
