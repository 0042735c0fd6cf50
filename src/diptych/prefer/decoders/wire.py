"""What travels between :mod:`~diptych.prefer.decoders.remote` and :mod:`~diptych.prefer.decoders.serve`: JSON, and
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
"""What a request may change of the server's frame, and its type."""

LARGEST_REQUEST = 8 * 2**20
"""Bytes: a latent of 1,024 px images is 1.5 MB of JSON."""

LARGEST_ANSWER = 64 * 2**20
"""Bytes."""

LONGEST_TEXT = 4000
"""Characters of a prompt."""

LARGEST_SIDE = 2048
"""Pixels."""


def is_loopback(host: str) -> bool:
    """Whether a name or address means this very machine."""
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
        It is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: is no JSON; expected an object.") from None
    if not isinstance(found, dict):
        raise InputError(f"{where}: is {type(found).__name__}; expected a JSON object.")
    return found


def frame_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Those of :data:`FIELDS` that ``values`` has, of the right types and of sensible sizes.

    Raises
    ------
    InputError
        One is not.
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
            raise InputError(f"{name} is {value!r}; expected {kind.__name__}.")
        if kind is str and len(value) > LONGEST_TEXT:
            raise InputError(f"{name} has {len(value)} characters; expected at most {LONGEST_TEXT}.")
        if name in ("width", "height") and not 1 <= value <= LARGEST_SIDE:
            raise InputError(f"{name} is {value} px; expected 1 to {LARGEST_SIDE}.")
        found[name] = kind(value)
    return found


def latent_fields(latent: NDArray[np.float32]) -> dict[str, Any]:
    """A latent as JSON values: nested lists, exact, and their shape."""
    return {"latents": latent.tolist(), "shape": list(latent.shape)}


def read_latent(values: dict[str, Any]) -> NDArray[np.float32]:
    """The latent in a request: nested lists of the shape that stands beside them; leading ones are dropped.

    Raises
    ------
    InputError
        It is missing, ragged, not numbers, or of another shape than it says.
    """
    given, shape = values.get("latents"), values.get("shape")
    if not isinstance(given, list) or not given:
        raise InputError("latents is missing; expected nested lists of numbers.")
    try:
        latent = np.array(given)
    except ValueError:
        raise InputError("latents has rows of different lengths; expected nested lists of one shape.") from None
    if latent.dtype.kind not in "if":
        raise InputError("latents holds something else than numbers; expected nested lists of numbers.")
    if shape is not None and list(latent.shape) != shape:
        raise InputError(f"latents has shape {list(latent.shape)}, but shape says {shape!r}.")
    with np.errstate(over="ignore"):
        latent = latent.astype(np.float32)
    while latent.ndim > 1 and latent.shape[0] == 1:
        latent = latent[0]
    return latent


def cube_fields(cube: Cube, start: NDArray[np.float32] | None) -> dict[str, Any]:
    """What makes a cube's points mean the same, and the usual point where there is one, as JSON values."""
    return {
        "categories": [[part.start, part.stop] for part in cube.categories],
        "flats": [list(astuple(flat)) for flat in cube.flats],
        "start": None if start is None else start.tolist(),
    }


def read_cube(values: dict[str, Any], dimension: int) -> tuple[Cube, NDArray[np.float32]]:
    """The same again: of d coordinates; the centre where no point is the usual one.

    Raises
    ------
    InputError
        They are missing, or do not fit a cube of this dimension.
    """
    try:
        categories = tuple(slice(int(begin), int(end)) for begin, end in values["categories"])
        flats = tuple(
            Flat(int(index), *(tuple(map(float, each)) for each in stretches)) for index, *stretches in values["flats"]
        )
        usual = values["start"]
        start = np.full(dimension, 0.5, np.float32) if usual is None else np.array(usual, dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"the cube cannot be read ({type(error).__name__}: {error}); expected categories, flats and start."
        ) from None
    ends = [0, *(end for part in categories for end in (part.start, part.stop)), dimension]
    apart = all(part.stop - part.start > 1 for part in categories) and all(a <= b for a, b in pairwise(ends))
    if not (
        apart
        and all(_fits(flat, dimension) for flat in flats)
        and start.shape == (dimension,)
        and ((start >= 0) & (start <= 1)).all()
    ):
        raise InputError(f"the categories, flats or start fit no cube of {dimension} numbers.")
    return Cube(categories, flats), start


def _fits(flat: Flat, dimension: int) -> bool:
    """Whether its stretches are stretches, in order, of a coordinate."""
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
    """The pixels (H, W, 3) of a base64 PNG, which must have the size that its frame says.

    Raises
    ------
    InputError
        It is no PNG, damaged, or of another size.
    """
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            # The header is read before any pixel is: a small file can claim a huge image.
            expected = (frame.width, frame.height) if frame.width else picture.size
            if picture.size != expected or max(picture.size) > LARGEST_SIDE:
                raise InputError(
                    f"{where}: sent an image of {picture.size} px; expected {expected} px, and at most "
                    f"{LARGEST_SIDE} along a side."
                )
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except InputError:
        raise
    except (TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where}: sent an image that cannot be read ({error}); expected a PNG file in base64."
        ) from None
