"""Checks of the arrays of a scan: each returns the array in its final form or raises an InputError.

The error's ``where`` is ``"NAME: PART"``, with the scan's name and one of the parts below.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.scan import Canvas

COUNTS, MASK, POSITIONS, PROBE, BACKGROUND, TRUTH = "counts", "mask", "positions", "probe", "background", "true object"
"""Parts of a scan, as errors name them."""

MAX_CANVAS_PIXELS = 4e8
"""A larger object canvas is taken as an error in the unit of the positions (3.2 GB of complex64)."""

MAX_COORDINATE = 2**31
"""Larger coordinates are no object pixels, and overflow integer arithmetic."""

PROBE_POWER = (1e-30, 1e30)
"""Range of sum |P|^2 in which the squares of the probe's values are representable in single precision."""

_CHUNK_BYTES = 64 * 2**20


def numeric(value: Any, what: str, expected: str) -> NDArray[Any]:
    """``value`` as an array of numbers in this machine's byte order (torch accepts no other).

    Raises
    ------
    InputError
        If it is ragged, or holds text, truth values or Python objects; ``what`` and ``expected`` are its parts.
    """
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(what, f"cannot be read as an array ({error})", expected) from None
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.timedelta64):
        kind = "Python objects" if array.dtype == object else f"type {array.dtype}"
        # The text may come from a file, and be long.
        found = f"an array of {kind}" if array.ndim else textwrap.shorten(repr(array.item()), 60)
        raise InputError(what, f"found {found}", expected)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def positive(value: Any, what: str) -> float:
    """A finite positive number as a float."""
    expected = "a finite positive number, or None when it is not known"
    if isinstance(value, bool) or np.ndim(array := numeric(value, what, expected)) != 0 or np.iscomplexobj(array):
        raise InputError(what, f"found {value!r}", expected)
    number = float(array)
    if not (np.isfinite(number) and number > 0):
        raise InputError(what, f"found {number:g}", expected)
    return number


PLAUSIBLE_EV = {"photon": (10.0, 1e6), "electron": (1e3, 1e7)}
"""Energies at which diffraction is measured, in eV: ultraviolet to hard X-rays; electron microscopes."""

_UNITS_EV = {"J": 6.241509074460763e18, "keV": 1e3, "MeV": 1e6}


def particle(value: Any, what: str) -> None:
    """Check the name of a particle."""
    if value not in PLAUSIBLE_EV:
        raise InputError(what, f"found {value!r}", "'photon' or 'electron'")


def plausible_energy(energy: float, particle: str, what: str) -> None:
    """Check an energy in eV against what is measured with the particle; say what it would be in other units."""
    low, high = PLAUSIBLE_EV[particle]
    if low <= energy <= high:
        return
    readings = [
        f"{energy * factor:.4g} eV if it is in {unit}"
        for unit, factor in _UNITS_EV.items()
        if any(least <= energy * factor <= most for least, most in PLAUSIBLE_EV.values())
    ]
    other = "electron" if particle == "photon" else "photon"
    least, most = PLAUSIBLE_EV[other]
    remedy = f"Pass particle='{other}' (--particle {other}) if it is one." if least <= energy <= most else ""
    raise InputError(
        what,
        f"{energy:.4g} eV" + (f" ({', '.join(readings)})" if readings else ""),
        f"the energy of a {particle} in eV, {low:g} to {high:g}",
        remedy or "Pass the right one with energy_eV=... (--energy-eV), and the particle (--particle).",
    )


def pixel_sides(value: Any, what: str) -> tuple[float, float]:
    """Height and width of a pixel in metres from a pair, or from one number for a square pixel."""
    array = numeric(value, what, "one or two numbers (y, x), in metres")
    if array.shape not in ((), (1,), (2,)):
        raise InputError(what, f"has shape {array.shape}", "one or two numbers (y, x), in metres")
    y, x = np.broadcast_to(array, 2)
    return positive(y, f"{what} (y)"), positive(x, f"{what} (x)")


def whole(value: Any, what: str, expected: str) -> int:
    """A whole number as an int; 2.0 is one, 2.5 and True are none."""
    if isinstance(value, bool | np.bool_):
        raise InputError(what, f"found {value}", expected)
    array = numeric(value, what, expected)
    if array.ndim != 0 or np.iscomplexobj(array) or not np.isfinite(array) or array != np.rint(array):
        raise InputError(what, f"found {value!r}", expected)
    return int(array)


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


def counts_values(counts: NDArray[Any], mask: NDArray[np.bool_] | None, name: str, number: int = 0) -> None:
    """Raise when a valid pixel holds a sentinel, or a count that is negative or not finite, or when none holds any
    photon.

    ``number`` is that of the first pattern in the whole scan, for the message.
    """
    refuse_sentinel(counts, mask, name, number)
    found: list[str] = []
    remedies = ["Mask those pixels", "load the file with mask_invalid=True (--mask-invalid) to mask every such pixel"]
    if not np.issubdtype(counts.dtype, np.unsignedinteger):
        total, first = _occurrences(counts, mask, _not_finite, number)
        if total:
            found.append(f"{total} valid counts are not finite ({first})")
        total, first = _occurrences(counts, mask, lambda part: part < 0, number)
        if total:
            found.append(f"{total} valid counts are negative ({first})")
            remedies.append("with clip_negative=True (--clip-negative) to set negative ones to 0")
            if wrapped(counts):
                remedies = [f"They are unsigned counts stored as {counts.dtype}: pass {unsigned(counts.dtype)}"]
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
            "Are they in nanometres? If that position is an outlier, remove it and its pattern.",
        )
    if (furthest := float(np.abs(positions).max())) > MAX_COORDINATE:
        raise InputError(
            f"{name}: {POSITIONS}", f"lie up to {furthest:.3g} object pixels from 0", f"at most {MAX_COORDINATE:.3g}"
        )


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


def not_negative(array: NDArray[Any] | None, what: str, name: str) -> NDArray[np.float32] | None:
    """The array as float32. Raises InputError where a value is complex, negative or not finite."""
    if array is None:
        return None
    if np.iscomplexobj(array) or not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"{name}: {what}", "holds complex, negative or non-finite values", "numbers >= 0")
    return array.astype(np.float32, copy=False)


def instance(value: Any, kind: type, what: str, name: str, remedy: str) -> None:
    """Raise when ``value`` is no ``kind``."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: {what}", f"is of type {type(value).__name__}", f"a {kind.__name__}", remedy)


def windows_inside(positions: NDArray[np.float64], size: int, canvas: Canvas, what: str, name: str) -> None:
    """Raise when a window of side ``size`` at one of ``positions`` leaves ``canvas``."""
    corner = np.floor(positions + 0.5).astype(np.int64) - size // 2
    y0, y1, x0, x1 = canvas.extent
    outside = (corner < (y0, x0)).any(axis=1) | (corner + size > (y1, x1)).any(axis=1)
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            f"{name}: {what}",
            f"{int(outside.sum())} of {len(positions)} windows leave the object, which covers "
            f"y {y0}..{y1}, x {x0}..{x1} "
            f"(first: pattern {i} at y {positions[i, 0]:.1f}, x {positions[i, 1]:.1f}, window {size})",
            "an object with a margin of half a window around the positions",
            "Check its origin and the order (y, x).",
        )
