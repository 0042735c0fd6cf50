"""The checks a scan passes at construction: each returns the array in its final form or raises one clear InputError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.scan import Canvas

MAX_CANVAS_PIXELS = 4e8
"""An object canvas above this is taken for a mistake in the positions' units (3.2 GB of complex64)."""

_CHUNK_BYTES = 64 * 2**20


def counts_array(counts: Any, name: str) -> NDArray[Any]:
    """Counts as (M, N, N) unsigned integer or float32; signed integers and float64 become float32."""
    array = counts if isinstance(counts, np.ndarray) else np.asarray(counts)
    if array.dtype == object:
        raise InputError(f"{name}: counts are an array of Python objects; expected numbers of shape (patterns, N, N).")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)) or array.dtype == bool:
        raise InputError(f"{name}: counts have type {array.dtype}; expected unsigned integers or float32 (detector counts are real).")
    if array.ndim != 3:
        raise InputError(f"{name}: counts have shape {array.shape}; expected three axes (patterns, N, N).")
    if array.shape[0] == 0:
        raise InputError(f"{name}: the scan is empty (counts of shape {array.shape}); expected at least one pattern.")
    if array.shape[1] != array.shape[2]:
        raise InputError(f"{name}: patterns are {array.shape[1]} x {array.shape[2]} pixels; expected square ones. Crop or pad them.")
    if array.shape[1] < 4:
        raise InputError(f"{name}: patterns are {array.shape[1]} pixels wide; expected at least 4.")
    if np.issubdtype(array.dtype, np.unsignedinteger) or array.dtype == np.float32:
        return array
    return array.astype(np.float32)


def mask_array(mask: Any, shape: tuple[int, ...], name: str) -> NDArray[np.bool_] | None:
    """The mask as bool, (N, N) or (M, N, N), True where valid."""
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape not in (shape, shape[1:]):
        raise InputError(f"{name}: the mask has shape {array.shape}; expected {shape[1:]} or {shape}.")
    if array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise InputError(f"{name}: the mask has values other than 0 and 1; expected True (1) where a pixel is valid.")
        array = array.astype(bool)
    if not array.any():
        raise InputError(f"{name}: every detector pixel is masked; expected True where a pixel is valid. Is the mask inverted?")
    return array


def counts_values(counts: NDArray[Any], mask: NDArray[np.bool_] | None, name: str) -> None:
    """Raise when a valid pixel holds a count that is negative or not finite, or when no valid pixel holds any photon."""
    step = max(1, _CHUNK_BYTES // max(1, counts[0].nbytes))
    bad, first, positive, sentinel = 0, "", False, False
    for start in range(0, len(counts), step):
        part = counts[start : start + step]
        valid = None if mask is None else (mask if mask.ndim == 2 else mask[start : start + step])
        positive = positive or bool(((part > 0) if valid is None else (part > 0) & valid).any())
        if np.issubdtype(part.dtype, np.unsignedinteger):
            top = part == np.iinfo(part.dtype).max
            wrong = top if np.iinfo(part.dtype).max > 255 else np.zeros_like(top)
            sentinel = True
        else:
            wrong = ~np.isfinite(part) | (part < 0)
        if valid is not None:
            wrong = wrong & valid
        if wrong.any():
            if not bad:
                i, y, x = (int(v[0]) for v in np.nonzero(wrong))
                first = f"first at pattern {i + start}, pixel (y {y}, x {x}), value {part[i, y, x]}"
            bad += int(wrong.sum())
    if bad and sentinel:
        raise InputError(
            f"{name}: {bad} valid counts equal the largest number of {counts.dtype} ({first}): a sentinel that detectors write for "
            "bad pixels. Mask those pixels, or pass mask_invalid=True (--mask-invalid)."
        )
    if bad:
        raise InputError(
            f"{name}: {bad} valid counts are negative or not finite ({first}); expected counts >= 0. Mask those pixels, pass "
            "mask_invalid=True (--mask-invalid) to mask every such pixel, or clip_negative=True (--clip-negative) to set negative ones to 0."
        )
    if not positive:
        raise InputError(f"{name}: no valid pixel holds a single photon; there is nothing to reconstruct.")


def positions_array(positions: Any, patterns: int, name: str) -> NDArray[np.float64]:
    """Positions as float64 (M, 2), finite, and spanning what object pixels can span."""
    try:
        array = np.asarray(positions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: positions are not numbers ({error}); expected (patterns, 2) floats, (y, x) in object pixels.") from None
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"{name}: positions have shape {array.shape}; expected ({patterns}, 2), (y, x) in object pixels.")
    if len(array) != patterns:
        raise InputError(f"{name}: {len(array)} positions for {patterns} patterns; expected one each.")
    wrong = ~np.isfinite(array).all(axis=1)
    if wrong.any():
        raise InputError(f"{name}: {int(wrong.sum())} positions are not finite (first: pattern {int(np.argmax(wrong))}).")
    span = float(np.ptp(array, axis=0).max())
    if patterns > 1 and span < 1.0:
        hint = "They look like metres: use Scan.from_metres, or give the file's geometry." if 0 < span < 0.01 else "Are they in other units?"
        raise InputError(f"{name}: all {patterns} positions lie within {span:.3g} object pixels; expected a span of at least 1. {hint}")
    return array


def canvas_size(positions: NDArray[np.float64], size: int, name: str) -> None:
    """Raise when the object that the positions need would be absurdly large."""
    height, width = np.ptp(positions, axis=0) + size + 1
    if height * width > MAX_CANVAS_PIXELS:
        raise InputError(
            f"{name}: the positions need an object of {height:.0f} x {width:.0f} pixels (limit {MAX_CANVAS_PIXELS:.0e} in all); "
            "expected positions in object pixels. Are they in nanometres, or is one position an outlier?"
        )


def probe_array(probe: Any, size: int, what: str, name: str) -> NDArray[np.complex64] | None:
    """A probe as complex64 (P, N, N)."""
    if probe is None:
        return None
    array = np.asarray(probe)
    if array.dtype == object or not np.issubdtype(array.dtype, np.number):
        raise InputError(f"{name}: the {what} has type {array.dtype}; expected complex numbers.")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != (size, size) or len(array) == 0:
        raise InputError(f"{name}: the {what} has shape {array.shape}; expected (modes, {size}, {size}) to match the patterns.")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {int((~np.isfinite(array)).sum())} values of the {what} are not finite.")
    if not np.any(array):
        raise InputError(f"{name}: the {what} is zero everywhere; give a start, or ask for one with probe='estimate' (--probe estimate).")
    return array.astype(np.complex64, copy=False)


def background_array(background: Any, size: int, name: str) -> NDArray[np.float32] | None:
    """Expected background counts as float32 (N, N)."""
    if background is None:
        return None
    array = np.asarray(background, np.float32)
    if array.ndim == 0:
        array = np.full((size, size), array, np.float32)
    if array.shape != (size, size):
        raise InputError(f"{name}: the background has shape {array.shape}; expected ({size}, {size}).")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"{name}: the background holds negative or non-finite values; expected counts >= 0.")
    return array


def windows_inside(positions: NDArray[np.float64], size: int, canvas: Canvas, what: str, name: str) -> None:
    """Raise when a window of side ``size`` at one of ``positions`` leaves ``canvas``."""
    corner = np.floor(positions + 0.5).astype(np.int64) - size // 2
    y0, y1, x0, x1 = canvas.extent
    outside = (corner < (y0, x0)).any(axis=1) | (corner + size > (y1, x1)).any(axis=1)
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            f"{name}: {int(outside.sum())} of {len(positions)} windows leave {what}, which covers y {y0}..{y1}, x {x0}..{x1} "
            f"(first: pattern {i} at y {positions[i, 0]:.1f}, x {positions[i, 1]:.1f}, window {size}). "
            "Expected an object with a margin of half a window around the positions; check its origin and the order (y, x)."
        )
