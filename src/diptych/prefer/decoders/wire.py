"""The protocol between :mod:`~diptych.prefer.decoders.remote` and :mod:`~diptych.prefer.decoders.serve`: JSON, with
images as base64 PNG.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
from dataclasses import astuple
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.cube import Cube, Flat

PORT = 8000

FIELDS = {
    "prompt": str,
    "negative_prompt": str,
    "width": int,
    "height": int,
    "steps": int,
    "guidance": float,
    "scheduler": str,
    "seed": int,
}
"""Fields of the frame that a request may change, and their types."""

LARGEST_REQUEST = 8 * 2**20
"""Bytes: a latent of 1,024 px images is 1.5 MB of JSON."""

LARGEST_ANSWER = 64 * 2**20
"""Bytes."""

LONGEST_TEXT = 4000
"""Characters of a prompt."""

LARGEST_SIDE = 2048
"""Pixels."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address is that of this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parsed(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``data``.

    Raises
    ------
    InputError
        If it is not a JSON object.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(where, "is not JSON", "a JSON object") from None
    if not isinstance(found, dict):
        raise InputError(where, f"is a {type(found).__name__}", "a JSON object")
    return found


def frame_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Those of :data:`FIELDS` that ``values`` has, with types and ranges checked.

    Raises
    ------
    InputError
        If a type is wrong, or a value out of range.
    """
    found: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        if name not in values:
            continue
        value = values[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = (
            whole if kind is int else (whole or isinstance(value, float)) if kind is float else isinstance(value, str)
        )
        if not good:
            raise InputError(name, f"is {value!r}", kind.__name__)
        if kind is str and len(value) > LONGEST_TEXT:
            raise InputError(name, f"has {len(value)} characters", f"at most {LONGEST_TEXT}")
        if name in ("width", "height") and not 1 <= value <= LARGEST_SIDE:
            raise InputError(name, f"is {value} px", f"1 to {LARGEST_SIDE}")
        found[name] = kind(value)
    return found


def latent_fields(latent: NDArray[np.float32]) -> dict[str, Any]:
    """A latent as JSON values: nested lists (exact) and their shape."""
    return {"latents": latent.tolist(), "shape": list(latent.shape)}


def read_latent(values: dict[str, Any]) -> NDArray[np.float32]:
    """The latent of a request. Leading axes of length 1 are dropped.

    Raises
    ------
    InputError
        If it is missing, ragged or not numeric, or does not have the shape that the request states.
    """
    given, shape = values.get("latents"), values.get("shape")
    if not isinstance(given, list) or not given:
        raise InputError("latents", "is missing", "nested lists of numbers")
    try:
        latent = np.array(given)
    except ValueError:
        raise InputError("latents", "has rows of different lengths", "nested lists of one shape") from None
    if latent.dtype.kind not in "if":
        raise InputError("latents", "has values that are not numbers", "nested lists of numbers")
    if shape is not None and list(latent.shape) != shape:
        raise InputError("latents", f"has shape {list(latent.shape)}", f"{shape!r}, as the field shape states")
    with np.errstate(over="ignore"):
        latent = latent.astype(np.float32)
    while latent.ndim > 1 and latent.shape[0] == 1:
        latent = latent[0]
    return latent


def cube_fields(cube: Cube, start: NDArray[np.float32]) -> dict[str, Any]:
    """Categories and flats of a cube, and the point of the default settings, as JSON values."""
    return {
        "categories": [[part.start, part.stop] for part in cube.categories],
        "flats": [list(astuple(flat)) for flat in cube.flats],
        "start": start.tolist(),
    }


def read_cube(values: dict[str, Any], dimension: int) -> tuple[Cube, NDArray[np.float32]]:
    """The inverse of :func:`cube_fields` for d coordinates; the start is the centre if it is null.

    Raises
    ------
    InputError
        If they are missing, or do not describe a cube of this dimension.
    """
    try:
        categories = tuple(slice(int(begin), int(end)) for begin, end in values["categories"])
        flats = tuple(
            Flat(int(index), *(tuple(map(float, each)) for each in intervals)) for index, *intervals in values["flats"]
        )
        usual = values["start"]
        start = np.full(dimension, 0.5, np.float32) if usual is None else np.array(usual, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "cube", f"cannot be read ({type(error).__name__}: {error})", "categories, flats and start"
        ) from None
    ends = [0, *(end for part in categories for end in (part.start, part.stop)), dimension]
    apart = all(part.stop - part.start > 1 for part in categories) and all(a <= b for a, b in pairwise(ends))
    if not (
        apart
        and all(_fits(flat, dimension) for flat in flats)
        and start.shape == (dimension,)
        and ((start >= 0) & (start <= 1)).all()
    ):
        raise InputError("categories, flats or start", "are inconsistent", f"a cube of {dimension} coordinates")
    return Cube(categories, flats), start


def _fits(flat: Flat, dimension: int) -> bool:
    """Whether its intervals are ordered intervals of a coordinate."""
    if not 0 <= flat.index < dimension or not 0 < len(flat.low) == len(flat.high) == len(flat.at):
        return False
    low, at, high = np.array([flat.low, flat.at, flat.high])
    return bool(
        (low >= 0).all()
        and (low <= at).all()
        and (at <= high).all()
        and (high <= 1).all()
        and (high[:-1] <= low[1:]).all()
    )


def image_field(png: bytes) -> str:
    """A PNG file as text."""
    return base64.b64encode(png).decode("ascii")


def read_image(text: Any, frame: Frame, where: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a base64 PNG, which must have the size of its frame.

    Raises
    ------
    InputError
        If it is not a PNG file, damaged, or of another size.
    """
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            # Only the header is read here: a small file can claim a huge image.
            expected = (frame.width, frame.height) if frame.width else picture.size
            if picture.size != expected or max(picture.size) > LARGEST_SIDE:
                raise InputError(
                    where, f"sent an image of {picture.size} px", f"{expected} px, and at most {LARGEST_SIDE} per side"
                )
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except InputError:
        raise
    except (TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(where, f"sent an image that cannot be read ({error})", "a PNG file in base64") from None
