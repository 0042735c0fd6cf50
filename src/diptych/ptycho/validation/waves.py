"""Checks of probes, backgrounds and maps of the object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.validation.parts import BACKGROUND
from diptych.ptycho.validation.values import numeric

PROBE_POWER = (1e-30, 1e30)
"""Range of sum |P|^2 in which the squares of the probe's values are representable in single precision."""


def probe_array(probe: Any, size: int | None, what: str, name: str) -> NDArray[np.complex64]:
    """A probe as complex64 (P, N, N); ``size`` is N where it is known."""
    where = f"{name}: {what}"
    array = numeric(probe, where, "complex numbers of shape (modes, N, N)")
    if array.ndim == 2:
        array = array[None]
    side = size if size is not None else (array.shape[-1] if array.ndim else 0)
    if array.ndim != 3 or array.shape[1:] != (side, side) or array.size == 0:
        which = "(modes, N, N)" if size is None else f"(modes, {size}, {size}) to match the patterns"
        raise InputError(where, f"has shape {array.shape}", which)
    if not np.isfinite(array).all():
        raise InputError(where, f"{int((~np.isfinite(array)).sum())} values are not finite")
    if not np.any(array):
        raise InputError(
            where,
            "is zero everywhere",
            remedy="Give a probe to start from, or estimate one with probe='estimate' (--probe estimate).",
        )
    with np.errstate(over="ignore"):
        power = float(np.square(np.abs(array), dtype=np.float64).sum())
    low, high = PROBE_POWER
    if not low <= power <= high:
        raise InputError(where, f"sum |P|^2 is {power:.3g}", f"{low:g} to {high:g}, photons per pattern", "Rescale it.")
    return array.astype(np.complex64, copy=False)


def background_array(background: Any, size: int, name: str) -> NDArray[np.float32] | None:
    """Expected background counts as float32 (N, N)."""
    if background is None:
        return None
    where = f"{name}: {BACKGROUND}"
    array = numeric(background, where, f"one number or ({size}, {size}) counts")
    if np.iscomplexobj(array):
        raise InputError(where, "is complex", "counts >= 0")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if array.ndim == 0:
        array = np.full((size, size), array, np.float32)
    if array.shape != (size, size):
        raise InputError(where, f"has shape {array.shape}", f"({size}, {size})")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(where, "holds negative or non-finite values", "counts >= 0")
    return array


def object_map(values: Any, shape: tuple[int, int], what: str, content: str, name: str) -> NDArray[np.float32] | None:
    """Real numbers for each object pixel, of the object's ``shape``, or None; ``content`` describes them."""
    if values is None:
        return None
    array = numeric(values, f"{name}: {what}", f"{content} of the object's shape {shape}")
    if array.shape != shape:
        raise InputError(f"{name}: {what}", f"has shape {array.shape}", f"the object's {shape}")
    return array


def one_per_pattern(values: Any, count: int, where: str) -> NDArray[np.float64] | None:
    """One number for each of ``count`` patterns as float64 (M,); None stays None."""
    if values is None:
        return None
    array = numeric(values, where, f"one factor for each of {count}")
    if array.shape != (count,):
        raise InputError(where, f"has shape {array.shape}", f"({count},), one for each pattern")
    return array.astype(np.float64)


def varying_probe(components: Any, coefficients: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise InputError unless components (K, N, N) and coefficients (M, K + 1) fit patterns (M, N, N), or are None."""
    if components is None and coefficients is None:
        return
    count = len(components) if np.ndim(components) == 3 else 1
    given = (
        ("probe_components", components, (count, *shape[1:])),
        ("probe_coefficients", coefficients, (shape[0], count + 1)),
    )
    for what, values, expected in given:
        where = f"{name}: {what}"
        array = numeric(values, where, f"complex numbers {expected}")
        if array.shape != expected:
            raise InputError(where, f"has shape {array.shape}", f"{expected}")
        if not np.isfinite(array).all():
            raise InputError(where, f"{int((~np.isfinite(array)).sum())} values are not finite")


def object_slices(values: Any, shape: tuple[int, int] | None, what: str, name: str) -> NDArray[np.complex64] | None:
    """Slices of a thick object as complex64 (S, H, W), at least two, of the object's ``shape``.

    None stays None, and is what slices of no object become.
    """
    if values is None or shape is None:
        return None
    where, expected = f"{name}: {what}", f"(slices, {shape[0]}, {shape[1]}), two slices or more of the object's shape"
    array = numeric(values, where, f"complex numbers {expected}")
    if array.ndim != 3 or len(array) < 2 or array.shape[1:] != shape:
        raise InputError(where, f"has shape {array.shape}", expected)
    if not np.isfinite(array).all():
        raise InputError(where, f"{int((~np.isfinite(array)).sum())} values are not finite")
    return array.astype(np.complex64, copy=False)


def not_negative(array: NDArray[Any] | None, what: str, name: str) -> NDArray[np.float32] | None:
    """The array as float32. Raises InputError where a value is complex, negative or not finite."""
    if array is None:
        return None
    if np.iscomplexobj(array) or not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"{name}: {what}", "holds complex, negative or non-finite values", "numbers >= 0")
    return array.astype(np.float32, copy=False)
