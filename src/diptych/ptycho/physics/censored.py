"""Counts of which only a lower limit is known: pixels at the value where the detector saturates.

Such a pixel says k >= L, so its likelihood is the survival function of the Poisson distribution, P(k >= L | lambda) =
P(L, lambda), the regularised lower incomplete gamma function (NIST Digital Library of Mathematical Functions, 8.2.4;
censored likelihoods: Cox and Oakes, Analysis of Survival Data, 1984, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-200
"""Survival probability below which it and its logarithm are taken from the continued fraction."""

DEPTH = 200
"""Terms of the continued fraction. With the limit far above the expected counts, where it is used, fewer suffice."""


def survival_terms(limit: float, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Loss -log P(k >= limit) in nats of expected counts, and its derivative by them, which is never positive.

    Parameters
    ----------
    limit : float
        L > 0, counts.
    expected : tensor
        lambda > 0, counts, any shape. Computed in float64, returned in the type given.
    """
    rate = expected.double()
    a = torch.full_like(rate, limit)
    known = torch.special.gammainc(a, rate)
    # log of the density's part that all three forms share: lambda^L e^-lambda / Gamma(L + 1).
    shared = limit * rate.log() - rate - torch.lgamma(a + 1)
    loss, hazard = -known.clamp(min=TINY).log(), (shared - known.clamp(min=TINY).log()).exp()
    far = known < TINY
    if bool(far.any()):
        ratio = _gamma_ratio(limit, rate[far])
        loss[far], hazard[far] = -(shared[far] + ratio.log()), 1 / ratio
    return loss.to(expected.dtype), (-limit * hazard / rate).to(expected.dtype)


def limit_amplitude_terms(limit: float, expected: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`survival_terms` for amplitudes: 2 (sqrt lambda - sqrt L)^2 below the limit, 0 above it."""
    amplitude = expected.clamp(min=1e-12).sqrt()
    difference = (amplitude - limit**0.5).clamp(max=0)
    return 2 * difference.square(), 2 * difference / amplitude


def _gamma_ratio(limit: float, rate: Tensor) -> Tensor:
    """P(L, lambda) divided by lambda^L e^-lambda / Gamma(L + 1): the continued fraction 8.9.1 of the Library."""
    value = torch.zeros_like(rate)
    for n in range(DEPTH, 0, -1):
        above = n // 2 if n % 2 == 0 else -1.0 if n == 1 else -(limit + n // 2)
        value = above * rate / (limit + n + value)
    return 1 / (1 + value)
