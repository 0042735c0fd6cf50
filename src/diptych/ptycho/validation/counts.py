"""Checks of counts and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.validation.parts import COUNTS, MASK
from diptych.ptycho.validation.values import numeric

_CHUNK_BYTES = 64 * 2**20


def counts_array(counts: Any, name: str) -> NDArray[Any]:
    """Counts (M, N, N) of a real type, native byte order, their values unchanged; see :func:`counts_kept` for the final
    type.
    """
    where = f"{name}: {COUNTS}"
    array = numeric(counts, where, "detector counts, unsigned integers or float32 of shape (patterns, N, N)")
    if np.iscomplexobj(array):
        raise InputError(where, f"have type {array.dtype}", "unsigned integers or float32 (detector counts are real)")
    if array.ndim != 3:
        raise InputError(where, f"have shape {array.shape}", "three axes (patterns, N, N)")
    if array.shape[0] == 0:
        raise InputError(where, f"the scan is empty (shape {array.shape})", "at least one pattern")
    if array.shape[1] != array.shape[2]:
        raise InputError(
            where, f"patterns are {array.shape[1]} x {array.shape[2]} pixels", "square ones", "Crop or pad them."
        )
    if array.shape[1] < 4:
        raise InputError(where, f"patterns are {array.shape[1]} pixels wide", "at least 4")
    return array


def counts_kept(counts: NDArray[Any]) -> NDArray[Any]:
    """Checked counts as a scan keeps them: unsigned integers and float32 as they are, other types as float32."""
    if np.issubdtype(counts.dtype, np.unsignedinteger) or counts.dtype == np.float32:
        return counts
    return counts.astype(np.float32)


def mask_array(mask: Any, shape: tuple[int, ...], name: str) -> NDArray[np.bool_] | None:
    """The mask as bool, (N, N) or (M, N, N), True where valid."""
    if mask is None:
        return None
    where = f"{name}: {MASK}"
    try:
        array = np.asarray(mask)
    except ValueError as error:
        raise InputError(where, f"cannot be read as an array ({error})", f"{shape[1:]} or {shape}") from None
    if array.shape not in (shape, shape[1:]):
        raise InputError(where, f"has shape {array.shape}", f"{shape[1:]} or {shape}")
    if array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise InputError(where, "has values other than 0 and 1", "True (1) where a pixel is valid")
        array = array.astype(bool)
    if not array.any():
        raise InputError(
            where, "every detector pixel is masked", "True where a pixel is valid", "Is the mask inverted?"
        )
    return array


def sentinel(values: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a value is the largest number of its integer type (16 bits or more): what detectors write for a bad
    pixel.
    """
    if np.issubdtype(values.dtype, np.integer) and values.dtype.itemsize > 1:
        found: NDArray[np.bool_] = values == np.iinfo(values.dtype).max
        return found
    return np.zeros(values.shape, bool)


def refuse_sentinel(values: NDArray[Any], mask: NDArray[np.bool_] | None, name: str, number: int = 0) -> None:
    """Raise when a valid pixel holds the largest number of its integer type; as float32 it would pass for a count.

    ``number`` is that of the first pattern in the whole scan, for the message.
    """
    if not np.issubdtype(values.dtype, np.integer):
        return
    total, first = _occurrences(values, mask, sentinel, number)
    if total:
        raise InputError(
            f"{name}: {COUNTS}",
            f"{total} valid counts equal the largest number of {values.dtype} ({first}): a sentinel that detectors "
            "write for bad pixels",
            remedy=f"They are unsigned counts stored as {values.dtype}: pass {unsigned(values.dtype)}."
            if wrapped(values)
            else "Mask those pixels, or load the file with mask_invalid=True (--mask-invalid).",
        )


def counts_values(
    counts: NDArray[Any], mask: NDArray[np.bool_] | None, name: str, number: int = 0, *, signed: bool = False
) -> None:
    """Raise when a valid pixel holds a sentinel, or a count that is negative or not finite, or when none holds any
    photon.

    ``number`` is that of the first pattern in the whole scan, for the message; ``signed`` allows negative readings.
    """
    refuse_sentinel(counts, mask, name, number)
    found: list[str] = []
    remedies = ["Mask those pixels", "load the file with mask_invalid=True (--mask-invalid) to mask every such pixel"]
    if not np.issubdtype(counts.dtype, np.unsignedinteger):
        total, first = _occurrences(counts, mask, _not_finite, number)
        if total:
            found.append(f"{total} valid counts are not finite ({first})")
        total, first = (0, "") if signed else _occurrences(counts, mask, lambda part: part < 0, number)
        if total:
            found.append(f"{total} valid counts are negative ({first})")
            remedies.append("with clip_negative=True (--clip-negative) to set negative ones to 0")
            if wrapped(counts):
                remedies = [f"They are unsigned counts stored as {counts.dtype}: pass {unsigned(counts.dtype)}"]
            elif noise := dark_noise(counts, mask):
                found[-1] += f"; their peak about zero, {noise:.3g} rms, is that of a charge-integrating detector"
                remedies = [
                    f"Pass read_noise={noise:.3g} and detector_gain=..., units per photon (--read-noise {noise:.3g} "
                    "--detector-gain G), "
                    "which keeps the noise that of the detector"
                ]
            elif np.issubdtype(counts.dtype, np.floating) or total > len(counts):
                remedies.append(
                    "if a background was subtracted, add it back and pass it as background=..., which keeps the noise "
                    "that of photons"
                )
    where = f"{name}: {COUNTS}"
    if found:
        raise InputError(where, " and ".join(found), "counts >= 0", f"{', or '.join(remedies)}.")
    if not any(
        bool(np.any(part > 0 if valid is None else (part > 0) & valid)) for _, part, valid in _parts(counts, mask)
    ):
        raise InputError(where, "no valid pixel holds a single photon; there is nothing to reconstruct")


def dark_noise(counts: NDArray[Any], mask: NDArray[np.bool_] | None) -> float | None:
    """Read noise of signed readings, from the width of their peak about zero; None where there is no such peak.

    Half of the dark pixels read below zero, and their median is 0.6745 of the rms. It is a peak where readings as far
    above zero are at least as many, and nothing lies further below than noise reaches.
    """
    sample = counts[np.unique(np.linspace(0, len(counts) - 1, min(len(counts), 64)).astype(int))]
    if mask is not None and mask.ndim == 2:
        sample = sample[:, mask]
    values = sample[np.isfinite(sample)].astype(np.float64)
    below = values[values < 0]
    if len(below) < 100 or len(below) < 0.02 * len(values):
        return None
    noise = float(np.median(-below)) / 0.6745
    if noise <= 0 or -below.min() > 8 * noise or len(np.unique(below)) < 3:
        return None
    near = int(((values > 0) & (values <= noise)).sum())
    return noise if near >= 0.7 * int((below >= -noise).sum()) else None


def wrapped(counts: NDArray[Any]) -> bool:
    """Whether signed integers look like unsigned counts that passed half the range: values at both of its ends."""
    if not np.issubdtype(counts.dtype, np.signedinteger):
        return False
    limit = np.iinfo(counts.dtype).max
    return bool(counts.max() > 0.9 * limit and counts.min() < -0.5 * limit)


def unsigned(dtype: np.dtype[Any]) -> str:
    """How to read an array of signed integers as unsigned ones."""
    return f"counts.view(np.uint{8 * dtype.itemsize})"


def _not_finite(part: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        # Counts are stored in single precision, where larger values overflow to infinity.
        return np.asarray(~np.isfinite(part.astype(np.float32, copy=False)))


def _parts(
    values: NDArray[Any], mask: NDArray[np.bool_] | None
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.bool_] | None]]:
    """First index, patterns and mask of each chunk of patterns, so that what is made of them stays small."""
    step = max(1, _CHUNK_BYTES // max(1, values[0].nbytes))
    for start in range(0, len(values), step):
        valid = mask[start : start + step] if mask is not None and mask.ndim == 3 else mask
        yield start, values[start : start + step], valid


def _occurrences(
    values: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    of: Callable[[NDArray[Any]], NDArray[np.bool_]],
    offset: int,
) -> tuple[int, str]:
    """How many valid values satisfy ``of``, and where the first one is; patterns are numbered from ``offset``."""
    total, first = 0, ""
    for start, part, valid in _parts(values, mask):
        found = of(part) if valid is None else of(part) & valid
        number = int(np.count_nonzero(found))
        if number and not total:
            i, y, x = (int(v) for v in np.unravel_index(int(np.argmax(found)), found.shape))
            first = f"first at pattern {i + start + offset}, pixel (y {y}, x {x}), value {part[i, y, x]}"
        total += number
    return total, first
