"""Read noise of charge-integrating detectors (CCD, CMOS, integrating pixel detectors): shifted Poisson counts.

A reading in photons is y = n + e, with n ~ Poisson(I) and e ~ Normal(0, s^2), so it can be negative and has variance
I + s^2. The likelihood of y has no closed form; ``y + s^2`` has the mean and the variance of Poisson counts of rate
``I + s^2``, and is treated as such (Snyder, Helstrom, Lanterman, Faisal and White, J. Opt. Soc. Am. A 12, 272 (1995),
section 4). The score 1 - (y + s^2) / (I + s^2) is 0 on average at the true I, for any s and also where y + s^2 is
negative.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

FAINTEST, BRIGHTEST, POINTS = -4.0, 2.0, 121
"""log10 of the photons between which E[D] is tabulated, and number of points."""

NODES = 4001
"""Points of the integral over the read noise, within 6 standard deviations."""

LEAST_NOISE = 1e-3
"""Read noise, photons rms, below which there is none."""


def read_variance(scan: Scan) -> float:
    """Variance of a scan's read noise in counts^2; 0 for counts of photons."""
    noise = scan.read_noise
    return 0.0 if noise is None or noise < LEAST_NOISE else noise * noise


def shifted(scan: Scan) -> Scan:
    """The readings of a scan in photons as counts like those of photons: s^2 added to readings and background.

    Readings below -s^2 become 0: for what needs counts that are not negative. The scan itself where there is no read
    noise.
    """
    variance = read_variance(scan)
    if not variance:
        return scan if scan.read_noise is None else replace(scan, read_noise=None, counts=np.maximum(scan.counts, 0))
    counts = np.empty(scan.counts.shape, np.float32)
    for start in range(0, len(scan), 64):
        counts[start : start + 64] = np.maximum(scan.counts[start : start + 64] + np.float64(variance), 0)
    return replace(scan, counts=counts, background=shifted_background(scan, variance), read_noise=None)


def shifted_background(scan: Scan, variance: float) -> NDArray[np.float32]:
    """Expected background (N, N) of a scan, with the variance of the read noise."""
    shown = np.zeros((scan.size, scan.size), np.float32) if scan.background is None else scan.background
    return (shown + np.float64(variance)).astype(np.float32)


def photon_background(scan: Scan, counts_per_photon: float) -> NDArray[np.float64] | None:
    """Expected background (N, N) in photons, with the variance of the read noise in photons^2; None without both."""
    variance = read_variance(scan) / counts_per_photon**2
    if scan.background is None and not variance:
        return None
    shown = np.zeros((scan.size, scan.size)) if scan.background is None else scan.background / counts_per_photon
    return np.asarray(shown + variance, np.float64)


def expected_shifted_deviance(expected: Tensor, variance: float) -> Tensor:
    """E[D(max(y + s^2, 0), I + s^2)] of each pixel, where D is the Poisson deviance; ``expected`` is I + s^2.

    From a table of exact sums over n and integrals over e, to 1e-3; by the moments up to the fourth above 100 photons.
    """
    table = torch.as_tensor(_table(float(variance)), dtype=expected.dtype, device=expected.device)
    photons = (expected - variance).clamp(min=10**FAINTEST)
    at = (photons.log10() - FAINTEST).clamp(max=BRIGHTEST - FAINTEST) * ((POINTS - 1) / (BRIGHTEST - FAINTEST))
    left = at.floor().clamp(max=POINTS - 2)
    index = left.nan_to_num().long()
    inner = torch.lerp(table[index], table[index + 1], at - left)
    level = expected.clamp(min=variance)
    # D = d^2 / l - d^3 / (3 l^2) + d^4 / (6 l^3), with the moments l, I and 3 l^2 + I of the difference d.
    outer = 1 - photons / (3 * level.square()) + 1 / (2 * level) + photons / (6 * level.square() * level)
    return torch.where(photons > 10**BRIGHTEST, outer, inner)


def draw_shifted(expected: Tensor, variance: float, generator: torch.Generator) -> Tensor:
    """Readings plus s^2, drawn for expected ones (I + s^2)."""
    photons = torch.poisson((expected - variance).clamp(min=0), generator)
    noise = torch.randn(photons.shape, generator=generator, dtype=photons.dtype, device=photons.device)
    return photons.add_(noise, alpha=variance**0.5).add_(variance)


@lru_cache(maxsize=8)
def _table(variance: float) -> NDArray[np.float64]:
    """E[D] on an even grid of log10(I), (POINTS,)."""
    from scipy.special import gammaln, xlogy

    noise = variance**0.5
    photons = np.logspace(FAINTEST, BRIGHTEST, POINTS)
    error = np.linspace(-6 * noise, 6 * noise, NODES)
    weight = np.exp(-0.5 * (error / noise) ** 2)
    weight /= weight.sum()
    n = np.arange(200.0)
    # D = 2 (k log k - k - k log l + l): averages over the noise of k and k log k, for each n, serve all rates.
    k = np.maximum(n[:, None] + error + variance, 0.0)
    mean, entropy = k @ weight, xlogy(k, k) @ weight
    probability: NDArray[Any] = np.exp(xlogy(n, photons[:, None]) - photons[:, None] - gammaln(n + 1))
    level = photons + variance
    found: NDArray[np.float64] = 2 * (probability @ (entropy - mean) - np.log(level) * (probability @ mean) + level)
    return found
