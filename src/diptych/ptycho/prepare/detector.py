"""Changes of the detector's frame: moved, turned, cropped, padded, binned; positions and probes follow.

An N x N pattern of detector pixels p sees an object pixel of wavelength * distance / (N p). Cropping or padding to n
pixels makes the object pixel N / n times as large in the same window of the sample, so positions in pixels are
multiplied by n / N and the probe is cropped or padded in its far field. Binning keeps the object pixel and makes the
window smaller, so the probe is cropped in real space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.convert import chunks, entered, turn
from diptych.ptycho.physics.probe import from_pupil, to_pupil
from diptych.ptycho.scan import Scan

Array = NDArray[Any]
CUT_OFF = 1e-3
"""Share of a probe's power outside the window after binning from which it is said."""


def turned(scan: Scan, orientation: int) -> Scan:
    """The patterns oriented by ``orientation`` (0 to 7, as in :class:`Geometry`); probe and positions stay."""
    if orientation == 0:
        return scan
    geometry = scan.geometry
    if geometry is not None and orientation & 4 and geometry.detector_pixel_m is not None:
        geometry = replace(geometry, detector_pixel_m=geometry.detector_pixel_m[::-1])
    # The line that wraps around in a flip of an even number of pixels was not measured at the other edge.
    wraps = scan.size % 2 == 0
    lines = np.ones((scan.size, scan.size), bool)
    for bit, line in ((2, np.s_[0]), (1, np.s_[:, 0])):
        if orientation & bit and wraps:
            lines[line] = False
    shown = None if scan.background is None else turn(scan.background, orientation)
    mask = None if scan.mask is None else turn(scan.mask, orientation)
    return _with(
        scan, scan.size, lambda part: turn(part, orientation), mask, lines, background=shown, geometry=geometry
    )


def recentred(scan: Scan, dy: int, dx: int) -> Scan:
    """The patterns moved by whole pixels (down, right); pixels that enter at an edge are masked."""
    if dy == dx == 0:
        return scan

    def move(frames: Array) -> Array:
        return np.roll(frames, (dy, dx), (-2, -1))

    lines = ~entered((scan.size, scan.size), dy, dx)
    shown = None if scan.background is None else move(scan.background)
    return _with(scan, scan.size, move, None if scan.mask is None else move(scan.mask), lines, background=shown)


def resized(scan: Scan, size: int) -> Scan:
    """The patterns cropped or padded about the zero frequency to ``size`` pixels; added pixels are masked.

    The object pixel changes by N / size: positions and probes are given for the new one, and a true object, which has
    the old one, is left out.
    """
    if size == scan.size:
        return scan

    def fit(frames: Array) -> Array:
        return _centred(frames, size)

    ratio = size / scan.size
    mask = None if scan.mask is None else fit(scan.mask)
    return _with(
        scan,
        size,
        fit,
        mask,
        fit(np.ones((scan.size, scan.size), bool)),
        background=None if scan.background is None else fit(scan.background),
        probe=_resampled(scan.probe, size),
        true_probe=_resampled(scan.true_probe, size),
        positions=scan.positions * ratio,
        truth=None,
    )


def binned(scan: Scan, factor: int) -> Scan:
    """``factor`` x ``factor`` pixels summed into one, which is valid where all of them are.

    Raises
    ------
    InputError
        If N is not a multiple of ``factor``.
    """
    if factor == 1:
        return scan
    if scan.size % factor:
        whole = scan.size - scan.size % factor
        raise InputError(
            "prepare: bin", f"{factor} does not divide N = {scan.size}", "a divisor of N", f"Crop to {whole} first."
        )
    size = scan.size // factor

    def join(frames: Array) -> Array:
        shape = (*frames.shape[:-2], size, factor, size, factor)
        if frames.dtype == bool:
            return np.asarray(frames.reshape(shape).all((-3, -1)))
        # Sums of 16-bit counts need 32 bits.
        kind = np.uint32 if np.issubdtype(frames.dtype, np.unsignedinteger) else np.float32
        return np.asarray(frames.reshape(shape).sum((-3, -1), dtype=np.float64).astype(kind))

    mask = None if scan.mask is None else join(scan.mask)
    geometry = scan.geometry
    if geometry is not None and geometry.detector_pixel_m is not None:
        y, x = geometry.detector_pixel_m
        geometry = replace(geometry, detector_pixel_m=(y * factor, x * factor))
    return _with(
        scan,
        size,
        join,
        mask,
        np.ones((size, size), bool),
        background=None if scan.background is None else join(scan.background),
        read_noise=None if scan.read_noise is None else scan.read_noise * factor,
        probe=_narrowed(scan.probe, size, factor),
        true_probe=_narrowed(scan.true_probe, size, factor),
        geometry=geometry,
    )


def cut_off(probe: Array, size: int) -> float:
    """Share of a probe's power outside the central ``size`` x ``size`` pixels."""
    whole = float(np.sum(np.abs(probe) ** 2, dtype=np.float64))
    return 1 - float(np.sum(np.abs(_centred(probe, size)) ** 2, dtype=np.float64)) / whole


def _with(
    scan: Scan, size: int, change: Callable[[Array], Array], mask: Array | None, valid: Array, **fields: Any
) -> Scan:
    """The scan with its counts changed part by part, and what is not ``valid`` masked."""
    first = change(scan.counts[:1])
    counts = np.empty((len(scan), size, size), first.dtype)
    for part in chunks(scan.counts):
        counts[part] = change(scan.counts[part])
    if not valid.all():
        mask = valid if mask is None else mask & valid
    return replace(scan, counts=counts, mask=mask, **fields)


def _centred(frames: Array, size: int) -> Array:
    """Frames (..., N, N) cropped or padded with zeros so that [N // 2, N // 2] comes to [size // 2, size // 2]."""
    old = frames.shape[-1]
    start = old // 2 - size // 2
    if start >= 0 and size <= old:
        return np.ascontiguousarray(frames[..., start : start + size, start : start + size])
    before, after = -start, size - old + start
    return np.pad(frames, [(0, 0)] * (frames.ndim - 2) + [(before, after)] * 2)


def _resampled(probe: Array | None, size: int) -> Array | None:
    """A probe cropped or padded in its far field: the same field, and power, on pixels of N / size."""
    if probe is None:
        return None
    field: Array = from_pupil(_centred(to_pupil(probe), size)).astype(np.complex64)
    return field


def _narrowed(probe: Array | None, size: int, factor: int) -> Array | None:
    """The central part of a probe, with the phase ramp by which the middle of the binned pixels is off zero frequency.

    Zero frequency lies at pixel [N // 2, N // 2]; the bin that holds it has its middle some half pixels further.
    """
    if probe is None:
        return None
    old = probe.shape[-1]
    off = (size // 2) * factor + (factor - 1) / 2 - old // 2
    x = np.arange(size) - size // 2
    ramp = np.exp(-2j * np.pi * off * x / old)
    narrowed: Array = (_centred(probe, size) * ramp[:, None] * ramp).astype(np.complex64)
    return narrowed
