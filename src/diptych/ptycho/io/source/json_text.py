"""JSON text stored beside arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.source.base import Source, brief
from diptych.ptycho.io.source.npz import NpzSource


def read_json(source: Source, key: str = "_metadata") -> tuple[dict[str, Any], str | None]:
    """The JSON object under ``key`` (text, or UTF-8 bytes) and, where it was not read, why.

    Raises
    ------
    InputError
        If the text is not a JSON object.
    """
    header = source.headers().get(key)
    if header is None:
        return {}, None
    if header.dtype.hasobject and isinstance(source, NpzSource):
        return {}, f"{key!r} is a pickled object and was not read: pickles are never opened"
    array = source.read(key)
    where = f"{source.where}: {key!r}"
    try:
        text = array.tobytes().decode() if array.dtype == np.uint8 or array.dtype.kind == "S" else str(array[()])
        value = json.loads(text.rstrip("\0"))
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"is not JSON text ({brief(error)})", "a JSON object of names and values") from None
    if not isinstance(value, dict):
        raise InputError(where, f"holds a JSON {type(value).__name__}", "a JSON object of names and values")
    return value, None


def json_text(value: Any, what: str) -> str:
    """``value`` as JSON text; NumPy numbers, arrays and paths become plain ones.

    Raises
    ------
    InputError
        If it holds anything else; ``what`` names it.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, np.generic | np.ndarray):
            return item.tolist()
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"a {type(item).__name__}")

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            what, f"cannot be written as JSON (it holds {brief(error)})", "numbers, text, lists and mappings"
        ) from None
