"""Environment variables of the earlier program that are still read, in one table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import InputError

DATA_ROOT = "IPO_DATA_ROOT"
"""Folder of all sessions; ``data`` when not set."""

LOG_LEVEL = "IPO_LOG_LEVEL"
"""Lowest level of the tagged log lines on standard error; WARNING when not set."""

LOCAL_MODEL = "FLUX_LOCAL_MODEL"
"""Folder of the diffusion model to use when none is named."""

SANITY_OPTIONS = {
    "SANITY_MODEL": "model",
    "SANITY_PROMPT": "prompt",
    "SANITY_W": "width",
    "SANITY_H": "height",
    "SANITY_STEPS": "steps",
}
"""Variables that ``diptych prefer sanity`` reads, and the options that they set; flags have precedence."""

SANITY_MIN_STD = "SANITY_MIN_STD"
"""Standard deviation, grey levels, below which ``diptych prefer sanity`` reports an image as flat."""


def data_root() -> Path:
    """The folder of all sessions: ``$IPO_DATA_ROOT``, else ``data``."""
    return Path(os.environ.get(DATA_ROOT) or "data")


def log_level() -> str:
    """Name of the lowest level of the tagged log lines."""
    return os.environ.get(LOG_LEVEL, "WARNING").upper()


def local_model() -> str | None:
    """The model in ``$FLUX_LOCAL_MODEL``; None if it is not set."""
    return os.environ.get(LOCAL_MODEL) or None


def sanity_options(decoder: str) -> dict[str, Any]:
    """Options from the variables SANITY_*; only the prompt applies to decoders other than diffusion."""
    names: Mapping[str, str] = SANITY_OPTIONS
    if decoder != "diffusion":
        names = {"SANITY_PROMPT": "prompt"}
    return {option: value for name, option in names.items() if (value := os.environ.get(name)) not in (None, "")}


def sanity_threshold(default: float) -> float:
    """The number in ``$SANITY_MIN_STD``. Raises InputError if it is not a number."""
    text = os.environ.get(SANITY_MIN_STD, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise InputError(f"environment variable {SANITY_MIN_STD}", f"is {text!r}", "a number") from None
