"""Fourier ring correlation, and the resolution at its threshold crossing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.physics.illumination import soft_inside

Threshold = float | str
"""A constant between 0 and 1, or ``"half-bit"``."""

ONE_SEVENTH = 1 / 7
"""Threshold for two independent halves of the data (Rosenthal and Henderson 2003)."""

FLAT = 1e-5
"""Standard deviation over rms below which an image counts as flat: single-precision rounding of a constant."""

LEAST_EDGE = 4.0
"""Least width of the soft edges of a mask, px."""

_MIN_SIDE = 16
_MIN_SAMPLES = 8.0


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """Correlation of two images, ring by ring in Fourier space.

    Parameters
    ----------
    frequency : (R,) float64
        Middle of each ring as a fraction of the Nyquist frequency (0.5 cycles per pixel), from the first ring beyond
        zero frequency to Nyquist.
    correlation : (R,) float64
        Real part of the normalised correlation, -1 to 1.
    samples : (R,) float64
        Independent Fourier samples per ring: its number of pixels, reduced by the correlation due to the window.
    pixel_m : float, optional
        Pixel in metres; the larger one where height and width differ.
    label : str
        Name of the curve in figures.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    samples: NDArray[np.float64]
    pixel_m: float | None = None
    label: str = "FRC"

    def threshold(self, threshold: Threshold) -> NDArray[np.float64]:
        """The threshold at every ring: a constant, or the half-bit curve of van Heel and Schatz (2005)."""
        if threshold == "half-bit":
            root = np.sqrt(self.samples)
            return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
        if isinstance(threshold, str) or not 0 < threshold < 1:
            raise InputError("threshold", f"is {threshold!r}", "a number between 0 and 1, or 'half-bit'")
        return np.full(len(self.frequency), float(threshold))

    def crossing(self, threshold: Threshold = ONE_SEVENTH) -> float:
        """Frequency, as a fraction of Nyquist, where the curve first falls below the threshold; 1 if it never does.

        Interpolated linearly. Innermost rings of fewer than 8 independent samples are skipped while they lie below the
        threshold, because their correlation is dominated by single samples.

        Raises
        ------
        UndefinedMetricError
            If the curve starts below the threshold.
        """
        excess = self.correlation - self.threshold(threshold)
        start = int(np.argmax((excess >= 0) | (self.samples >= _MIN_SAMPLES)))
        if excess[start] < 0:
            raise UndefinedMetricError(
                f"the correlation starts below the threshold ({_name(threshold)}): nothing is resolved"
            )
        below = np.flatnonzero(excess[start:] < 0)
        if not len(below):
            return 1.0
        i = start + int(below[0])
        share = excess[i - 1] / (excess[i - 1] - excess[i])
        return float(self.frequency[i - 1] + share * (self.frequency[i] - self.frequency[i - 1]))

    def half_period_px(self, threshold: Threshold = ONE_SEVENTH) -> float:
        """Half-period resolution in pixels, 1 / crossing: 1 at Nyquist."""
        return 1 / self.crossing(threshold)

    def half_period_m(self, threshold: Threshold = ONE_SEVENTH) -> float:
        """Half-period resolution in metres. Raises UndefinedMetricError when the pixel size is not known."""
        if self.pixel_m is None:
            raise UndefinedMetricError("the pixel size is not known (no geometry)")
        return self.half_period_px(threshold) * self.pixel_m


def fourier_ring_correlation(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    window: bool = True,
    mask: NDArray[np.bool_] | None = None,
    pixel_m: float | tuple[float, float] | None = None,
    label: str = "FRC",
) -> RingCorrelation:
    """Fourier ring correlation of two registered images.

    Re sum(F1 conj F2) / sqrt(sum |F1|^2 sum |F2|^2) over rings one pixel wide of the shorter side's spectrum (Saxton
    and Baumeister 1982). The mean is removed and, by default, a Hann window applied: without one, the edges that both
    images share correlate at all frequencies. For the same reason the edges of a mask are soft.

    Parameters
    ----------
    first, second : (H, W) real or complex
        Images on the same pixels.
    window : bool
        Apply the Hann window.
    mask : (H, W) bool, optional
        Pixels that count. The window is 0 outside, and rises over an eighth of the mask's width inside its edges.
    pixel_m : float or (float, float), optional
        Pixel size in metres.
    label : str
        Name of the curve in figures.

    Raises
    ------
    InputError
        If the shapes differ.
    UndefinedMetricError
        If an image is flat, a side is under 16 pixels, or the mask is empty or has only narrow parts.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(
            "fourier_ring_correlation", f"the shapes are {first.shape} and {second.shape}", "two equal shapes (H, W)"
        )
    if min(first.shape) < _MIN_SIDE:
        raise UndefinedMetricError(
            f"the area of {first.shape[0]} x {first.shape[1]} px is under {_MIN_SIDE} px a side: too few rings"
        )
    w = window_of(first.shape, window, mask)
    first, second = (np.where(w > 0, image, 0) for image in (first, second))
    spectra = [np.fft.fft2(fluctuation_of(image, w) * w) for image in (first, second)]
    ring = ring_index(first.shape)
    count = min(first.shape) // 2 + 1
    power = [ring_sum(np.abs(f) ** 2, ring)[1:count] for f in spectra]
    cross = ring_sum((spectra[0] * spectra[1].conj()).real, ring)[1:count]
    norm = np.sqrt(power[0] * power[1])
    # The window correlates neighbouring samples. A ring is one sample thick, so only the neighbours along it count.
    independent = math.sqrt(float(np.mean(w**2) ** 2 / np.mean(w**4)))
    return RingCorrelation(
        frequency=np.arange(1, count) / (min(first.shape) / 2),
        correlation=np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0),
        samples=np.maximum(ring_sum(np.ones(first.shape), ring)[1:count] * independent, 1.0),
        pixel_m=None if pixel_m is None else float(np.max(pixel_m)),
        label=label,
    )


def ring_index(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Ring index of each pixel of an FFT: its frequency in cycles per shorter side, rounded."""
    fy, fx = (np.fft.fftfreq(n) * min(shape) for n in shape)
    ring: NDArray[np.intp] = np.rint(np.hypot(fy[:, None], fx)).astype(np.intp)
    return ring


def ring_sum(values: NDArray[np.floating[Any]], ring: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sum ``values`` over each ring."""
    return np.asarray(np.bincount(ring.ravel(), values.ravel()), np.float64)


def window_of(shape: tuple[int, ...], window: bool, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Hann window (H, W), times the soft-edged mask."""
    sides = [np.hanning(n + 2)[1:-1] if window else np.ones(n) for n in shape]
    w = np.asarray(sides[0][:, None] * sides[1], np.float64)
    if mask is None or mask.all():
        return w
    if not mask.any():
        raise UndefinedMetricError("no pixel of the area was illuminated")
    width = max(LEAST_EDGE, math.sqrt(float(mask.sum())) / 8)
    if not (soft := _wide_parts(soft_inside(mask, width))).any():
        raise UndefinedMetricError(
            f"the illuminated area consists of parts too narrow for a ring correlation (under {2 * width:.0f} px)"
        )
    return w * soft


def _wide_parts(soft: NDArray[np.float64]) -> NDArray[np.float64]:
    """A soft-edged mask without the connected parts in which it does not reach 1: the edges of a narrow part would mix
    all frequencies.
    """
    from scipy.ndimage import label

    parts, count = label(soft > 0)
    highest = np.zeros(count + 1)
    np.maximum.at(highest, parts.ravel(), soft.ravel())
    return np.where(highest[parts] >= 1 - 1e-9, soft, 0.0)


def fluctuation_of(image: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[Any]:
    """The image (H, W) less its weighted mean. Raises UndefinedMetricError where it is flat."""
    fluctuation = image - (weights * image).sum() / weights.sum()
    # Relative to the rms of the image: the fluctuation of a constant is rounding error.
    if np.linalg.norm(weights * fluctuation) <= FLAT * np.linalg.norm(weights * image):
        raise UndefinedMetricError("an image is flat: it has no structure to correlate")
    return np.asarray(fluctuation)


def _name(threshold: Threshold) -> str:
    return threshold if isinstance(threshold, str) else f"{threshold:.3g}"
