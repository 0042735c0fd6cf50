"""Counts per photon, from the counts alone: their common unit, or the noise that no exit wave can make.

Photon counts are whole multiples of one unit, so counts in other units (x 1e-3, x 100) show theirs. Where rounding,
flat-field corrections or interpolation hid the unit, the variance tells: noise of gain g has var(k) = g lambda, and is
white. A pattern's Fourier transform is the autocorrelation of its exit wave, which vanishes beyond twice the extent of
the probe; what is left there is noise, ``g sum(k)`` for each coefficient of the unnormalised transform. No position,
orientation or order of frames enters, so a wrong reading of the scan cannot hide behind a large gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE = 2**20
"""Values among which the unit is sought, and pixels' worth of frames from which the noise is measured (four times)."""

MOST_COUNTED = 2**20
"""Whole values below this are counted instead of sorted."""

LEAST_LEVELS = 8
"""Different counts that must all be multiples of a unit before it is believed: 2^-8 or less by chance."""

MOST_STEPS = 1e5
"""Multiples above this are not compared with whole numbers: float32 no longer resolves their fractions."""

QUIETEST = 0.01
"""Quantile over displacements at which noise is read. On four objects at 1e4 to 1e8 photons, three probes and three
trajectories, N = 64 and 128, the gain is then 1.01 to 1.11 of the true one; 1.3 at N = 32 and 1.8 at 1e8 photons, where
the probe's faint tails fill the window. It is an upper bound."""

FLATTER = 0.03
"""A second quantile, which white noise holds where the first one does."""

WHITE = 1.4
"""Noise is not believed where the ratio of the two quantiles exceeds that of white noise by this factor: the faint
tails of a probe then fill the window. Measured: 1.00 to 1.18 where the gain is within a factor of 2; 1.6 to 1.9 where
it is 5 times too large or worse, 1.9 to 5.8 without noise (zone plates at N = 32, 64, 128, a Gaussian beam)."""

BRIGHTEST = 1e9
"""Photons per pattern beyond which a gain from the noise is not believed: the counts are without noise."""

PLAUSIBLE = (1e3, BRIGHTEST)
"""Sums of patterns without noise that are left as they are: such counts have no photon scale."""

NOISELESS = 1e6
"""Photons per pattern that others without noise are taken to hold."""


@dataclass(frozen=True)
class Gain:
    """Counts per photon.

    Parameters
    ----------
    value : float
        g: a photon adds this to the counts.
    source : str
        How it was found, for messages; empty where the counts are photons.
    unit : bool
        Whether all counts are multiples of ``value``.
    """

    value: float = 1.0
    source: str = ""
    unit: bool = False


def estimated_gain(counts: NDArray[np.generic], mask: NDArray[np.bool_] | None = None) -> Gain:
    """Counts per photon.

    Parameters
    ----------
    counts : (M, N, N) array
        Not negative at valid pixels.
    mask : (N, N) or (M, N, N) bool array, optional
        True where valid.

    Returns
    -------
    Gain
        1 for whole counts without a larger common unit, the unit where there is one, else from the noise. Simulated
        counts without noise have no gain: 1, unless their sums are no plausible numbers of photons.
    """
    unit = common_unit(counts, mask)
    if unit == 1:
        return Gain(1.0, "", True)
    if unit is not None:
        return Gain(unit, "all counts are multiples of it", True)
    noise, total = noise_gain(counts, mask)
    if not noise < np.inf:
        return Gain()
    if noise >= total / BRIGHTEST:
        return Gain(noise, "from the variance of the counts against their mean")
    if PLAUSIBLE[0] <= total <= PLAUSIBLE[1]:
        return Gain()
    return Gain(total / NOISELESS, f"the counts are without noise; taken as {NOISELESS:.0e} photons per pattern")


def common_unit(counts: NDArray[np.generic], mask: NDArray[np.bool_] | None = None) -> float | None:
    """The number of which all valid counts are whole multiples within their rounding; None where there is none.

    1 for whole counts of which too few differ to tell.
    """
    chosen = _spread(len(counts), max(SAMPLE // counts[0].size, 1))
    levels = _distinct(_valid(counts, mask, chosen))
    levels = levels[levels > 0][: SAMPLE // 64]
    if len(levels) < LEAST_LEVELS:
        return 1.0 if _multiples(counts, mask, 1.0) else None
    steps = np.diff(levels, prepend=0.0)
    # Steps between close numbers of single precision carry their rounding; the smallest count does not.
    unit = float(steps[steps > 1e-3 * levels[0]].min())
    near = levels[levels < 1e3 * unit]
    whole = np.rint(near / unit)
    if len(near) < LEAST_LEVELS:
        near, whole = levels, np.rint(levels / unit)
    unit = float((near * whole).sum() / np.square(whole).sum())
    if abs(unit - 1) < 1e-6:
        unit = 1.0
    if _multiples(counts, mask, unit):
        return unit
    return 1.0 if unit != 1 and _multiples(counts, mask, 1.0) else None


def _distinct(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct values in order; whole ones are counted, which is several times faster than sorting them."""
    if len(values) and values.min() >= 0 and values.max() < MOST_COUNTED:
        whole = values.astype(np.int64)
        if np.array_equal(whole, values):
            return np.flatnonzero(np.bincount(whole)).astype(values.dtype)
    return np.unique(values)


def noise_gain(counts: NDArray[np.generic], mask: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """Upper bound of the counts per photon from the white part of the noise, and the mean sum of a pattern.

    Infinite where the patterns hold nothing, 0 where no noise is seen (:data:`WHITE`).
    """
    from scipy.stats import gamma

    chosen = _spread(len(counts), max(4 * SAMPLE // counts[0].size, 1))
    power = np.zeros(np.fft.rfft2(np.zeros(counts.shape[1:])).shape)
    total = 0.0
    for i in chosen:
        frame = _filled(counts[i], None if mask is None else mask if mask.ndim == 2 else mask[i])
        power += np.square(np.abs(np.fft.rfft2(frame)))
        total += float(frame.sum())
    if not total > 0:
        return np.inf, 0.0
    # The mean of M exponential variables is a gamma variable: its quantile turns that of the sample into the mean.
    levels = np.quantile(power, (QUIETEST, FLATTER))
    found, above = levels / gamma.ppf((QUIETEST, FLATTER), len(chosen)) * len(chosen)
    return float(found / total) if above <= WHITE * found else 0.0, total / len(chosen)


def _filled(frame: NDArray[np.generic], valid: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """A pattern with masked pixels interpolated from valid ones: holes would spread its spectrum."""
    found = frame.astype(np.float64)
    if valid is None or valid.all():
        return found
    from scipy.ndimage import gaussian_filter

    weight = valid.astype(np.float64)
    filled, missing = np.where(valid, found, 0.0), ~valid
    for width in (1.0, 2.0, 4.0, 8.0):
        near = gaussian_filter(weight, width)
        known = missing & (near > 0.05)
        filled[known] = (gaussian_filter(np.where(valid, found, 0.0), width) / np.maximum(near, 1e-12))[known]
        missing &= ~known
    return filled


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _valid(
    counts: NDArray[np.generic], mask: NDArray[np.bool_] | None, which: NDArray[np.int64]
) -> NDArray[np.float64]:
    some = counts[which]
    if mask is None:
        return some.astype(np.float64).ravel()
    return some[np.broadcast_to(mask if mask.ndim == 2 else mask[which], some.shape)].astype(np.float64)


def _multiples(counts: NDArray[np.generic], mask: NDArray[np.bool_] | None, unit: float) -> bool:
    """Whether all valid counts are whole multiples of ``unit``, within the rounding of single precision."""
    if unit == 1 and counts.dtype.kind in "ui":
        return True
    largest = 0.0
    for start in range(0, len(counts), 64):
        steps = _valid(counts, mask, np.arange(start, min(start + 64, len(counts)))) / unit
        largest = max(largest, float(steps.max(initial=0.0)))
        steps = steps[steps < MOST_STEPS]
        if (np.abs(steps - np.rint(steps)) > 1e-6 + 4 * np.finfo(np.float32).eps * steps).any():
            return False
    # Counts far below the unit round to 0 of it.
    return largest == 0 or largest > 0.5
