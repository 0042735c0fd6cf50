"""Checks of positions, canvases and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.validation.parts import POSITIONS
from diptych.ptycho.validation.values import numeric

if TYPE_CHECKING:
    from diptych.ptycho.scan import Canvas

MAX_CANVAS_PIXELS = 4e8
"""A larger object canvas is taken as an error in the unit of the positions (3.2 GB of complex64)."""

MAX_COORDINATE = 2**31
"""Larger coordinates are no object pixels, and overflow integer arithmetic."""

FITTING = 3.0
"""Positions that span more than this multiple of the room that the true object has for them are in another unit."""

LEAST_POSITIONS = 8
"""Of fewer positions nothing is concluded from their span or their distances."""


def alike(values: Any, positions: NDArray[np.float64], where: str) -> NDArray[np.float64] | None:
    """Coordinates, one for each of ``positions`` (M, 2); None stays None."""
    if values is None:
        return None
    array = coordinates(values, "(patterns, 2) floats, (y, x) in pixels", where)
    if array.shape != positions.shape:
        raise InputError(where, f"has shape {array.shape}", f"{positions.shape}, as positions")
    return array


def coordinates(positions: Any, expected: str, name: str) -> NDArray[np.float64]:
    """Positions as float64 (M, 2), finite; ``expected`` describes them in messages."""
    where = f"{name}: {POSITIONS}"
    array = numeric(positions, where, expected)
    if np.iscomplexobj(array):
        raise InputError(where, "are complex", expected, "Are y and x the real and imaginary parts?")
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(where, f"have shape {array.shape}", expected)
    array = array.astype(np.float64, copy=False)
    wrong = ~np.isfinite(array).all(axis=1)
    if wrong.any():
        raise InputError(where, f"{int(wrong.sum())} positions are not finite (first: pattern {int(np.argmax(wrong))})")
    return array


def positions_array(positions: Any, patterns: int, name: str) -> NDArray[np.float64]:
    """Positions as float64 (M, 2), finite, with a span that object pixels can have."""
    array = coordinates(positions, f"({patterns}, 2) floats, (y, x) in object pixels", name)
    if len(array) != patterns:
        raise InputError(f"{name}: {POSITIONS}", f"{len(array)} positions for {patterns} patterns", "one each")
    span = float(np.ptp(array, axis=0).max())
    if patterns > 1 and span < 1.0:
        metres = 0 < span < 0.01
        hint = (
            "They look like metres: use Scan.from_metres, or give the file's geometry."
            if metres
            else "Are they in other units?"
        )
        raise InputError(
            f"{name}: {POSITIONS}",
            f"all {patterns} positions lie within {span:.3g} object pixels",
            "a span of at least 1",
            hint,
        )
    return array


def canvas_size(positions: NDArray[np.float64], size: int, name: str) -> None:
    """Raise when the object that the positions need would be absurdly large."""
    height, width = (float(side) for side in np.ptp(positions / 2, axis=0) * 2 + size + 1)
    if height * width > MAX_CANVAS_PIXELS:
        far = int(np.argmax(np.abs(positions - np.median(positions, axis=0)).max(1)))
        raise InputError(
            f"{name}: {POSITIONS}",
            f"they need an object of {height:.0f} x {width:.0f} pixels (limit {MAX_CANVAS_PIXELS:.0e} in all); the "
            f"outermost is pattern {far} at (y {positions[far, 0]:.6g}, x {positions[far, 1]:.6g})",
            "positions in object pixels",
            "Are they in other units? If that position is an outlier, remove it and its pattern.",
        )
    if (furthest := float(np.abs(positions).max())) > MAX_COORDINATE:
        raise InputError(
            f"{name}: {POSITIONS}", f"lie up to {furthest:.3g} object pixels from 0", f"at most {MAX_COORDINATE:.3g}"
        )


def canvas_values(values: Any) -> NDArray[np.complexfloating[Any, Any]]:
    """A canvas's values (H, W), complex64 or complex128."""
    array = numeric(values, "canvas: values", "complex numbers of shape (height, width)")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError("canvas: values", f"have shape {array.shape}", "a non-empty (height, width) array")
    if array.dtype not in (np.complex64, np.complex128):
        with np.errstate(over="ignore"):
            array = array.astype(np.complex128 if array.dtype == np.clongdouble else np.complex64)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError("canvas: values", f"{bad} of {array.size} are not finite", "finite complex numbers")
    return array


def canvas_origin(origin: Any) -> tuple[int, int]:
    """A canvas's origin as two ints (y, x)."""
    array = numeric(origin, "canvas: origin", "two integers (y, x)")
    if (
        array.shape != (2,)
        or np.iscomplexobj(array)
        or not (np.isfinite(array) & (np.abs(array) <= MAX_COORDINATE)).all()
    ):
        raise InputError("canvas: origin", f"found {origin}", f"two integers (y, x), at most {MAX_COORDINATE} from 0")
    if not np.array_equal(array, np.rint(array)):
        raise InputError("canvas: origin", f"found {origin}", "two integers (y, x)")
    return int(array[0]), int(array[1])


def windows_inside(positions: NDArray[np.float64], size: int, canvas: Canvas, what: str, name: str) -> None:
    """Raise when a window of side ``size`` at one of ``positions`` leaves ``canvas``."""
    outside = _leaving(positions, size, canvas)
    if outside.any():
        raise _left(positions, size, canvas, outside, what, name)


def truth_covers(positions: NDArray[np.float64], size: int, truth: Canvas, what: str, name: str) -> None:
    """Raise when windows of side ``size`` leave the true object, and say where the positions are at fault.

    A few windows far from all others are let through: a position is wrong there, not the object, and the pattern is
    found and left out later.

    Raises
    ------
    InputError
        It names the span of the positions where it cannot be one of object pixels.
    """
    outside = _leaving(positions, size, truth)
    if not outside.any() or _outliers(positions, size, outside):
        return
    span, room = float(np.ptp(positions, axis=0).max()), max(truth.shape) - size
    crowded, spread = span < np.sqrt(len(positions)), span > FITTING * max(room, 1)
    if len(positions) >= LEAST_POSITIONS and (crowded or spread):
        raise InputError(
            f"{name}: {POSITIONS}",
            f"{len(positions)} positions within {span:.3g} px, where the true object of {truth.shape[0]} x "
            f"{truth.shape[1]} px has room for {room} px; {int(outside.sum())} windows of {size} px leave it",
            "positions in object pixels",
            "In which unit are they? For lengths, pass position_unit='um', 'nm' or 'm' (--position-unit); in Python "
            "Scan.from_metres takes metres. Without the true object (--no-use-truth) they are taken as they are.",
        )
    raise _left(positions, size, truth, outside, what, name)


def _leaving(positions: NDArray[np.float64], size: int, canvas: Canvas) -> NDArray[np.bool_]:
    """Which windows (M,) leave the canvas."""
    corner = np.floor(positions + 0.5).astype(np.int64) - size // 2
    y0, y1, x0, x1 = canvas.extent
    return np.asarray((corner < (y0, x0)).any(axis=1) | (corner + size > (y1, x1)).any(axis=1))


def _outliers(positions: NDArray[np.float64], size: int, outside: NDArray[np.bool_]) -> bool:
    """Whether the windows outside are at most a fifth of the scan, and overlap none of those inside."""
    if len(positions) < LEAST_POSITIONS or outside.mean() > 0.2:
        return False
    rest = positions[~outside]
    return all(np.abs(rest - position).max(axis=1).min() >= size for position in positions[outside])


def _left(
    positions: NDArray[np.float64], size: int, canvas: Canvas, outside: NDArray[np.bool_], what: str, name: str
) -> InputError:
    i = int(np.argmax(outside))
    y0, y1, x0, x1 = canvas.extent
    return InputError(
        f"{name}: {what}",
        f"{int(outside.sum())} of {len(positions)} windows leave the object, which covers "
        f"y {y0}..{y1}, x {x0}..{x1} "
        f"(first: pattern {i} at y {positions[i, 0]:.1f}, x {positions[i, 1]:.1f}, window {size})",
        "an object with a margin of half a window around the positions",
        "Check its origin and the order (y, x).",
    )
