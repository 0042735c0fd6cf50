"""Distances of expected from measured counts: likelihoods, deviances and the fit.

k are measured counts, lambda the expected ones. The negative log-likelihood of Poisson counts is half the deviance plus
a term of the counts alone. All functions work elementwise on any shape, in float32 or float64.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.noise.read_noise import expected_shifted_deviance

LEAST_EXPECTED = 1e-8
"""Lower bound of expected counts: a photon where none is expected then has a large deviance, not an infinite one."""


def gaussian_amplitude(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Least squares on amplitudes, mean per valid pixel: 2 (sqrt k - sqrt lambda)^2, whose scale is that of the Poisson
    deviance / 2.
    """
    return _mean(2 * (counts.clamp(min=0).sqrt() - expected.sqrt()).square(), mask)


def amplitude_mae(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference of amplitudes over valid pixels, sqrt(counts)."""
    return _mean((counts.clamp(min=0).sqrt() - expected.sqrt()).abs(), mask)


def deviance(counts: Tensor, expected: Tensor) -> Tensor:
    """Poisson deviance 2 (k log(k / lambda) - k + lambda) of each pixel; 0 where k = lambda. Differentiable in
    ``expected``.

    Near k = lambda the terms cancel. With x = lambda / k - 1 the deviance is 2 k (x - log(1 + x)), which keeps all
    digits.
    """
    expected = expected.clamp(min=LEAST_EXPECTED)
    some = counts > 0
    k = torch.where(some, counts, 1.0)
    x = (expected - k) / k
    logarithm = torch.where(x > -0.5, torch.log1p(x.clamp(min=-0.5)), torch.log(expected / k))
    return 2 * torch.where(some, k * (x - logarithm), expected)


def expected_deviance(expected: Tensor, read_variance: float = 0.0) -> Tensor:
    """E[D(k, lambda)] for k ~ Poisson(lambda), of each pixel: 0.014 at lambda 0.001, 0.47 at 0.1, 1.15 at 1, 1 for
    large lambda.

    Interpolated from exact sums on a logarithmic grid; relative error below 1e-4. Above 1e3 by the series 1 + 1/(6
    lambda). With read noise of this variance, counts and ``expected`` are shifted by it.
    """
    if read_variance:
        return expected_shifted_deviance(expected, read_variance)
    low, high, values = _deviance_table()
    table = torch.as_tensor(values, dtype=expected.dtype, device=expected.device)
    at = (expected.clamp(min=10**low, max=10**high).log10() - low) * ((len(values) - 1) / (high - low))
    left = at.floor().clamp(max=len(values) - 2)
    index = left.nan_to_num().long()
    inner = torch.lerp(table[index], table[index + 1], at - left)
    # The table holds the ratio to a form with the right limits, which varies slowly; below the table's range the form
    # alone is accurate enough.
    result = inner * _deviance_form(expected.clamp(min=LEAST_EXPECTED))
    return torch.where(expected > 10**high, 1 + 1 / (6 * expected.clamp(min=1)), result)


def fit_sums(
    counts: Tensor, expected: Tensor, mask: Tensor | None = None, read_variance: float = 0.0
) -> tuple[float, float]:
    """Numerator and denominator of the fit: sums of deviances and of their expectations, in double precision.

    Their ratio, after adding them up over batches, is the fit: 1 means limited by shot noise alone, at any dose.

    Parameters
    ----------
    counts, expected : (..., N, N) tensors
        Measured and predicted counts.
    mask : bool tensor, optional
        True where valid; broadcast against ``counts``.
    read_variance : float
        Of the read noise, in photons^2; ``counts`` and ``expected`` are then shifted by it
        (:mod:`~diptych.ptycho.physics.noise.read_noise`).
    """
    found, predicted = deviance(counts, expected), expected_deviance(expected, read_variance)
    if mask is not None:
        found, predicted = torch.where(mask, found, 0.0), torch.where(mask, predicted, 0.0)
    return float(found.sum(dtype=torch.float64)), float(predicted.sum(dtype=torch.float64))


def _mean(terms: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return terms.mean()
    valid = mask.expand(terms.shape)
    return torch.where(valid, terms, 0.0).sum() / valid.sum()


def _deviance_form(expected: Tensor) -> Tensor:
    # -2 l log l + ... for small l, 1 for large: l (2 log(1 + 1/l) + ...) has both limits up to slowly varying factors.
    return expected * torch.log1p(1 / expected)


@lru_cache(maxsize=1)
def _deviance_table() -> tuple[float, float, NDArray[np.float64]]:
    """log10 limits and, on an even grid between them, E[D] divided by :func:`_deviance_form`."""
    from scipy.special import gammaln, xlogy

    low, high, points = -7.0, 3.0, 401
    rate = np.logspace(low, high, points)
    k = np.arange(0, 1400)[:, None]
    probability = np.exp(xlogy(k, rate) - rate - gammaln(k + 1))
    mean = (probability * 2 * (xlogy(k, k / rate) - k + rate)).sum(0)
    return low, high, mean / (rate * np.log1p(1 / rate))
