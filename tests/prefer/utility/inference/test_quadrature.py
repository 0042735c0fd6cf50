"""Moments of one number against fine sums, from narrow to very wide normal densities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_expit

from diptych.prefer.utility.inference.quadrature import gumbel_moments, interval_moments


def summed(mean, variance, logarithm):
    """Log of the integral, mean and variance by a sum over a million places."""
    x = np.linspace(mean - 12 * variance**0.5, max(mean + 12 * variance**0.5, 40), 1_000_001)
    logs = logarithm(x) - 0.5 * (x - mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    parts = np.exp(logs - logs.max())
    centre = (parts * x).sum() / parts.sum()
    return logs.max() + np.log(parts.sum() * (x[1] - x[0])), centre, (parts * (x - centre) ** 2).sum() / parts.sum()


def same(found, wanted):
    (size,), (centre,), (variance,) = found
    assert size == pytest.approx(wanted[0], abs=2e-3)
    assert abs(centre - wanted[1]) < 3e-3 * wanted[2] ** 0.5
    assert variance == pytest.approx(wanted[2], rel=3e-3)


@pytest.mark.parametrize("mean", [-60.0, -2.0, 3.0, 60.0])
@pytest.mark.parametrize("variance", [0.5, 60.0, 600.0])
@pytest.mark.parametrize(
    ("low", "high", "weight"), [(0.0, np.inf, 1.0), (-0.3, 0.3, 1.0), (-np.inf, 0.0, 2.0), (2.0, 6.0, 0.5)]
)
def test_between_limits(mean, variance, low, high, weight):
    def logarithm(x):
        return weight * (log_expit(high - x) + log_expit(x - low) + np.log1p(-np.exp(low - high)))

    same(
        interval_moments(*(np.array([number]) for number in (mean, variance, low, high, weight))),
        summed(mean, variance, logarithm),
    )


@pytest.mark.parametrize("mean", [-60.0, -2.0, 3.0, 60.0])
@pytest.mark.parametrize("variance", [0.5, 60.0, 600.0])
def test_above_a_gumbel_variable(mean, variance):
    wanted = summed(mean, variance, lambda x: -np.exp(np.minimum(-x, 700.0)))
    same(gumbel_moments(np.array([mean]), np.array([variance])), wanted)
