"""Where the zero frequency of measured patterns lies: by mass, or by inversion symmetry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.convert import chunks
from diptych.ptycho.scan import Scan

Floats = NDArray[np.float64]


def mean_pattern(scan: Scan) -> tuple[Floats, Floats]:
    """Mean counts (N, N) over the frames in which each pixel is valid, and in how many of them it is (0 to 1)."""
    total, seen = np.zeros((scan.size,) * 2), np.zeros((scan.size,) * 2)
    for part in chunks(scan.counts):
        mask = scan.mask[part] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
        counts = scan.counts[part]
        if mask is None:
            total += counts.sum(0, dtype=np.float64)
            seen += len(counts)
            continue
        total += np.where(mask, counts, 0).sum(0, dtype=np.float64)
        seen += np.broadcast_to(mask, counts.shape).sum(0)
    return np.divide(total, seen, out=np.zeros_like(total), where=seen > 0), seen / len(scan)


def centre_of_mass(scan: Scan) -> tuple[float, float]:
    """Centre of mass (y, x) of the mean pattern, in pixels.

    Raises
    ------
    InputError
        If the patterns hold no counts.
    """
    mean = mean_pattern(scan)[0]
    total = mean.sum()
    if total <= 0:
        raise InputError(f"{scan.name}: centre", "the patterns hold no counts", "patterns with counts")
    axis = np.arange(scan.size)
    return float(mean.sum(1) @ axis / total), float(mean.sum(0) @ axis / total)


def centre_of_symmetry(scan: Scan) -> tuple[float, float]:
    """The point (y, x), to half a pixel, about which the mean pattern is most alike to itself turned by 180 degrees.

    The normalised correlation over the pixels that are valid on both sides, of square roots of counts. Masked beam
    stops and a detector that is cut off at one side do not move it, as they move the centre of mass. Points are sought
    within a quarter of the frame of its middle.

    Raises
    ------
    InputError
        If the patterns hold no counts.
    """
    mean, seen = mean_pattern(scan)
    weight = (seen > 0).astype(np.float64)
    if mean.sum() <= 0:
        raise InputError(f"{scan.name}: centre", "the patterns hold no counts", "patterns with counts")
    values = np.sqrt(mean) * weight
    size = 2 * scan.size
    value, square, valid = (np.fft.rfft2(a, (size, size)) for a in (values, values**2, weight))
    # Element s of these convolutions sums over pairs of pixels whose positions add up to s: centre s / 2.
    both = np.fft.irfft2(value * value, (size, size))
    norm = np.fft.irfft2(square * valid, (size, size))
    pairs = np.fft.irfft2(valid * valid, (size, size))
    alike = np.where(pairs > 0.2 * weight.sum(), both / np.maximum(norm, 1e-12 * norm.max()), -np.inf)
    near = np.abs(np.arange(size) - (scan.size - 1)) <= scan.size // 2
    alike = np.where(near[:, None] & near, alike, -np.inf)
    y, x = np.unravel_index(int(np.argmax(alike)), alike.shape)
    return float(y) / 2, float(x) / 2
