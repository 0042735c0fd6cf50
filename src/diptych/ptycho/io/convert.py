"""Conversion of stored arrays to those of a Scan: axis order, domain, invalid pixels, orientation and units.

Every step that changes a number returns a sentence saying so; the sentences end up in ``scan.metadata["conversions"]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.scan import Geometry

Domain = Literal["counts", "amplitude"]
Mask = NDArray[np.bool_]

_CHUNK_BYTES = 8 * 2**20
LENGTHS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
"""Metres in one of each unit of positions."""


def chunks(array: NDArray[Any]) -> Iterator[slice]:
    """Slices along the first axis, each of some 8 MB, so that temporaries stay small and in the cache."""
    step = max(1, _CHUNK_BYTES // max(1, array[:1].size * 8))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


def arrange_axes(
    values: NDArray[Any], patterns: int, axes: str, where: str, key: str
) -> tuple[NDArray[Any], list[str]]:
    """Patterns as (M, N, N).

    Parameters
    ----------
    values : (M, N, N) or (N, N, M), with or without a trailing axis of length 1
        As stored.
    patterns : int
        M, the number of positions: the axis of this length counts the patterns.
    axes : {"auto", "MHW", "HWM"}
        What the user or the file states.
    where, key : str
        Names of the file and of the array in messages.

    Raises
    ------
    InputError
        If no axis has length M, both the first and the last have it and nothing says which, or patterns are not square.
    """
    stored = values.shape
    if values.ndim == 4 and 1 in (stored[-1], stored[1]):
        values = values[..., 0] if stored[-1] == 1 else values[:, 0]
    if values.ndim != 3:
        kind = " (grouped patterns?)" if values.ndim == 4 else ""
        raise InputError(where, f"{key!r} has shape {stored}{kind}", "three axes, (patterns, N, N) or (N, N, patterns)")
    if 0 in values.shape or patterns == 0:
        raise InputError(
            where, f"the scan is empty ({key!r} has shape {stored}, {patterns} positions)", "at least one pattern"
        )
    first, last = values.shape[0] == patterns, values.shape[2] == patterns
    if not (first or last):
        raise InputError(
            where, f"{key!r} has shape {stored} but there are {patterns} positions", f"one axis of length {patterns}"
        )
    if axes == "auto":
        first, last = first and values.shape[1] == values.shape[2], last and values.shape[0] == values.shape[1]
        if first and last:
            raise InputError(
                where,
                f"{key!r} has shape {stored}, as many patterns as pixels, so the axis of the patterns is ambiguous",
                remedy="Pass axes='MHW' (--axes MHW) for (pattern, y, x), axes='HWM' (--axes HWM) for (y, x, pattern).",
            )
        axes = "HWM" if last else "MHW"
    if not (first if axes == "MHW" else last):
        named = "(pattern, y, x), patterns square" if axes == "MHW" else "(y, x, pattern), patterns square"
        raise InputError(
            where, f"{key!r} has shape {stored} with {patterns} positions", named, "Crop or pad the patterns."
        )
    if axes == "HWM":
        return np.ascontiguousarray(np.moveaxis(values, 2, 0)), [
            f"{key} transposed from (y, x, pattern) to (pattern, y, x)"
        ]
    return values, []


def mask_invalid(
    values: NDArray[Any], mask: Mask | None, options: LoadOptions
) -> tuple[NDArray[Any], Mask | None, list[str]]:
    """Mask invalid and saturated values and clip negative ones, where the options request it.

    Invalid values are those that are not finite, negative (unless clipped), or the largest number of an integer type of
    16 bits or more, the sentinel that detectors write for bad pixels. Masked values are set to 0, so that no NaN is
    passed on, saturated ones to the limit. The mask is (N, N) where each pixel is invalid in all patterns or in none,
    otherwise (M, N, N).
    """
    if not (options.mask_invalid or options.clip_negative or options.saturation):
        return values, mask, []
    out = values.copy()
    clipped, found, high = 0, 0, 0
    good: list[Mask] = []
    for part in chunks(values):
        bad = ~np.isfinite(values[part]) | validation.sentinel(values[part])
        negative = (values[part] < 0) & ~bad
        if options.read_noise is not None and not options.clip_negative:
            negative[:] = False
        if options.clip_negative:
            clipped += int(negative.sum())
            out[part][negative] = 0
        else:
            bad |= negative
        if not options.mask_invalid:
            bad = np.zeros(bad.shape, bool)
        found += int(bad.sum())
        if options.saturation:
            full = (values[part] >= options.saturation) & ~bad
            high += int(full.sum())
            bad |= full
            out[part][full] = options.saturation
            out[part][bad & ~full] = 0
        else:
            out[part][bad] = 0
        good.append(~bad)
    said = [f"{clipped} negative values set to 0"] if clipped else []
    if found or high:
        added = np.concatenate(good)
        if np.array_equal(added.all(axis=0), added.any(axis=0)):
            added = added[0]
        mask = added if mask is None else mask & added
    if found:
        said.append(f"{found} invalid values masked")
    if high:
        said.append(f"{high} saturated values (at or above {options.saturation:g}) masked")
    return out, mask, said


def counts_from(values: NDArray[Any], domain: Domain, scale: float, where: str) -> tuple[NDArray[Any], list[str]]:
    """Counts from stored values.

    ``counts = (scale * amplitude)^2``, computed in float64 whatever the stored type, or ``scale * value`` in the counts
    domain. Where every squared amplitude is a whole number within the rounding of the stored type, the counts are
    rounded to whole numbers.

    Returns
    -------
    counts : (M, N, N)
        In the stored type for unscaled counts, else float32.
    said : list of str
        Conversions made, one sentence each.
    """
    if domain == "counts" and scale == 1.0:
        return values, []
    out = np.empty(values.shape, np.float32)
    if domain == "counts":
        for part in chunks(values):
            out[part] = values[part].astype(np.float64) * scale
        return out, [f"counts = {scale:g} * stored value"]
    eps = float(np.finfo(values.dtype).eps) if np.issubdtype(values.dtype, np.floating) else 0.0
    whole = True
    for part in chunks(values):
        if (values[part] < 0).any():
            raise InputError(
                where,
                "some amplitudes are negative",
                "square roots of counts",
                "Pass clip_negative=True (--clip-negative).",
            )
        square = (values[part].astype(np.float64) * scale) ** 2
        whole = whole and bool((np.abs(square - np.rint(square)) <= 4 * eps * square).all())
        out[part] = square
    if whole:
        np.rint(out, out=out)
    formula = "counts = amplitude^2" if scale == 1.0 else f"counts = ({scale:g} * amplitude)^2"
    return out, [
        formula
        + (", rounded: all are whole numbers within the stored precision" if whole else "; they are not whole numbers")
    ]


def read_noise(stored: float | None, domain: Domain, scale: float, where: str) -> float | None:
    """Read noise of the counts from that of the stored values, for which it is stated.

    Raises
    ------
    InputError
        If the stored values are amplitudes.
    """
    if stored is not None and domain != "counts":
        raise InputError(where, "read_noise for stored amplitudes", "readings of the detector (domain='counts')")
    return None if stored is None else stored * scale


def describe_values(values: NDArray[Any]) -> str:
    """One clause that describes stored values, from the first patterns, to help a user who must declare the domain."""
    from diptych.ptycho.physics.gain import common_unit

    sample = values[:16].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return "none of the first values is finite"
    square = sample**2
    if (sample == np.rint(sample)).all():
        look = "all whole numbers, as counts are"
    elif (np.abs(square - np.rint(square)) <= 4 * np.finfo(np.float32).eps * square).all():
        look = "not whole numbers, but their squares are, as for amplitudes"
    elif sample.min() >= 0 and (unit := common_unit(sample)) is not None:
        look = f"all multiples of {unit:.3g}, as scaled counts are"
    elif sample.min() >= 0 and (unit := common_unit(square)) is not None:
        look = f"not multiples of a number, but their squares are (of {unit:.3g}), as for scaled amplitudes"
    else:
        look = "neither whole numbers nor square roots of them"
    return f"the values ({values.dtype}, {sample.min():.3g} to {sample.max():.3g}) are {look}"


def entered(shape: tuple[int, ...], dy: int, dx: int) -> Mask:
    """True (N, N) where a frame rolled by (``dy``, ``dx``) pixels holds values that wrapped around an edge."""
    y, x = np.indices(shape)
    found: Mask = (y - dy < 0) | (y - dy >= shape[0]) | (x - dx < 0) | (x - dx >= shape[1])
    return found


def turn(frames: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Frames (..., y, x) oriented: bit 4 of ``orientation`` transposes, then bit 2 flips y, then bit 1 flips x.

    A flip keeps the zero frequency at [N // 2, N // 2]: for even N that is a reversal and a roll by one pixel.
    """
    if orientation & 4:
        frames = np.swapaxes(frames, -1, -2)
    for bit, axis in ((2, -2), (1, -1)):
        if orientation & bit:
            frames = np.flip(frames, axis)
            if frames.shape[axis] % 2 == 0:
                frames = np.roll(frames, 1, axis)
    return np.ascontiguousarray(frames)


def compose_turns(first: int, then: int) -> int:
    """The one orientation that equals turning by ``first`` and then by ``then``."""
    base = np.arange(9).reshape(3, 3)
    both = turn(turn(base, first), then)
    return next(code for code in range(8) if np.array_equal(turn(base, code), both))


def pixel_positions(
    y: NDArray[Any], x: NDArray[Any], options: LoadOptions, geometry: Geometry | None, size: int, where: str
) -> tuple[NDArray[np.float64], list[str]]:
    """Positions (M, 2) float64, (y, x) in object pixels, from stored coordinates in the unit and axes the options
    state.
    """
    said: list[str] = []
    if options.swap_xy:
        y, x = x, y
        said.append("x and y of the positions exchanged")
    positions = np.stack([y, x], axis=1).astype(np.float64)
    if options.position_unit != "px":
        pixel = geometry.object_pixel_m(size) if geometry is not None else None
        if pixel is None:
            raise InputError(
                where,
                f"positions in {options.position_unit} need the object pixel, and the geometry is incomplete",
                remedy="Pass energy_eV, distance_m, detector_pixel_m (--energy-eV, --distance-m, --detector-pixel-m).",
            )
        positions = positions * LENGTHS[options.position_unit] / np.asarray(pixel)
        said.append(
            f"positions converted from {options.position_unit} with an object pixel of {pixel[0]:.4g} x "
            f"{pixel[1]:.4g} m"
        )
    elif np.isfinite(positions).all() and 0 < (span := float(np.ptp(positions, axis=0).max())) < 0.01:
        raise InputError(
            where,
            f"all {len(positions)} positions lie within {span:.3g} object pixels, so they look like metres",
            "object pixels",
            "Pass position_unit='m' (--position-unit m) with the geometry (energy_eV, distance_m, detector_pixel_m).",
        )
    for flip, axis, name in ((options.flip_y, 0, "y"), (options.flip_x, 1, "x")):
        if flip:
            line = positions[:, axis]
            positions[:, axis] = line.min() + line.max() - line
            said.append(f"{name} of the positions mirrored about the middle of the scan")
    if options.rotation:
        pixel = geometry.object_pixel_m(size) if geometry is not None else None
        positions = rotated(positions, options.rotation, pixel or (1.0, 1.0))
        said.append(f"positions rotated by {options.rotation:g} degrees from +x towards +y")
    return positions, said


def rotated(
    positions: NDArray[np.float64], degrees: float, pixel: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Positions (M, 2) rotated about the middle of their bounding box, from +x towards +y; ``pixel`` is the object
    pixel (y, x), in any unit of length.
    """
    middle = (positions.min(0) + positions.max(0)) / 2
    y, x = ((positions - middle) * pixel).T
    # Exact at multiples of 90 degrees, where sine and cosine are not.
    turn = np.exp(1j * np.deg2rad(degrees % 90)) * 1j ** (degrees // 90 % 4)
    turned = (x + 1j * y) * turn
    return np.asarray(np.stack([turned.imag, turned.real], axis=1) / pixel + middle, np.float64)
