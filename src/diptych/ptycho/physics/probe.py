"""The probe: gauge, size and defocus. NumPy alone, so that nothing slow is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.complexfloating[Any, Any]]

_AXES = (-2, -1)

GAUGE_QUANTILE = 0.99
"""Quantile of the patterns' totals that fixes the scale of an uncalibrated probe."""

GAUGE_OUTLIER = 3.0
"""Totals above this multiple of the median are left out of the gauge, unless the totals vary that much altogether."""

LEAST_POWER = 1e-6
"""Lower bound of the gauge, photons per pattern."""


def gauge_power(totals: NDArray[np.float64]) -> float:
    """Sum |P|^2 of a probe of unknown scale: the 99th percentile of the patterns' totals (M,), in photons.

    ``totals`` are the sums of each pattern's valid pixels, less the background on them. Totals far above the others
    (:data:`GAUGE_OUTLIER` times the median, and outside ten times the distance from it to the upper quartile) are no
    photons through a transparent object, and are left out, so that a few bright frames do not move the gauge.
    """
    middle, upper = np.quantile(totals, (0.5, 0.75))
    usual = totals <= max(GAUGE_OUTLIER * middle, middle + 10 * (upper - middle))
    return max(float(np.quantile(totals[usual] if middle > 0 else totals, GAUGE_QUANTILE)), LEAST_POWER)


def power(probe: Wave) -> float:
    """Sum |P|^2 over all modes (P, N, N), in double precision: the photons per pattern of a calibrated probe."""
    return float((np.abs(probe.astype(np.complex128)) ** 2).sum())


def probe_diameter(probe: NDArray[Any], fraction: float = 0.9) -> float:
    """Diameter, in pixels, of the circle around the centre of mass that holds ``fraction`` of the energy of all modes
    (P, N, N).
    """
    energy = np.sum(np.abs(probe) ** 2, axis=0, dtype=np.float64)
    y, x = np.indices(energy.shape)
    total = energy.sum()
    radius = np.hypot(y - (energy * y).sum() / total, x - (energy * x).sum() / total).ravel()
    order = np.argsort(radius)
    within = np.cumsum(energy.ravel()[order])
    return float(2 * radius[order][np.searchsorted(within, fraction * within[-1])])


def to_pupil(probe: Wave) -> NDArray[np.complex128]:
    """Far field (..., N, N) of a probe: the centred orthonormal FFT, zero frequency at [N // 2, N // 2]."""
    return np.asarray(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, _AXES), norm="ortho"), _AXES), np.complex128)


def from_pupil(pupil: Wave) -> NDArray[np.complex128]:
    """The probe (..., N, N) of a far field: the inverse and adjoint of :func:`to_pupil`."""
    return np.asarray(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil, _AXES), norm="ortho"), _AXES), np.complex128)


def pupil_edge(light: NDArray[np.floating[Any]]) -> float:
    """Radius in pixels, at least 1, that holds 95 % of a far field's intensity (N, N), centred at [N // 2, N // 2]."""
    size = light.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(y, x).ravel()
    order = np.argsort(radius)
    share = np.cumsum(light.ravel()[order]) / light.sum()
    return max(float(radius[order][np.searchsorted(share, 0.95)]), 1.0)


def defocused(pupil: Wave, edge: float, phase: float) -> NDArray[np.complex64]:
    """The probe (P, N, N) of a pupil (P, N, N) with ``phase`` radians of defocus added at radius ``edge`` pixels."""
    size = pupil.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    return from_pupil(pupil * np.exp(1j * phase * (y**2 + x**2) / edge**2)).astype(np.complex64)
