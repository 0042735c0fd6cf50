"""Likelihood of counts of which only a lower limit is known, against exact sums and differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from diptych.ptycho.physics.censored import limit_amplitude_terms, survival_terms


@pytest.mark.parametrize("limit", [1, 8, 255, 65535])
def test_loss_is_minus_the_logarithm_of_the_survival_probability(limit: int) -> None:
    rate = torch.tensor([0.5, 0.9, 0.99, 1.0, 1.01, 1.5, 4.0], dtype=torch.float64) * limit
    exact = -poisson.logsf(limit - 1, rate.numpy())
    usable = np.isfinite(exact)
    assert usable.sum() >= 5
    np.testing.assert_allclose(survival_terms(limit, rate)[0].numpy()[usable], exact[usable], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("limit", [1.0, 8.5, 255.0, 65535.0])
def test_derivative_by_finite_differences_down_to_the_faintest_rates(limit: float) -> None:
    """Also where the probability underflows, and on both sides of that point."""
    rate = torch.tensor([1e-6, 0.01, 0.1, 0.5, 0.8, 0.88, 0.9, 1.0, 1.1], dtype=torch.float64) * limit
    h = 1e-5 * rate
    slope = (survival_terms(limit, rate + h)[0] - survival_terms(limit, rate - h)[0]) / (2 * h)
    loss, derivative = survival_terms(limit, rate)
    assert torch.isfinite(loss).all()
    assert (derivative <= 0).all(), "more expected counts never make a saturated pixel less likely"
    np.testing.assert_allclose(derivative.numpy(), slope.numpy(), rtol=1e-4, atol=1e-7)


def test_amplitudes_above_the_limit_cost_nothing() -> None:
    rate = torch.tensor([25.0, 100.0, 400.0], dtype=torch.float64)
    loss, derivative = limit_amplitude_terms(100.0, rate)
    assert loss.tolist() == [50.0, 0.0, 0.0]
    assert derivative.tolist() == [-2.0, 0.0, 0.0]
