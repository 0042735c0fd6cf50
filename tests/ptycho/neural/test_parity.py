"""Values of the Poisson loss against the formulas of other programs, written out with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from diptych.ptycho.neural.parity import (
    constant,
    from_training_loss,
    poisson_loss,
    to_ptychopinn_counts,
    to_ptychopinn_tensorflow,
    to_ptychopinn_torch,
)
from diptych.ptycho.neural.training.loss import DARK_COUNTS, data_loss


@pytest.mark.parametrize("level", [0.01, 1.0, 1e4])
def test_each_published_form_is_reached_from_the_one_definition(level: float) -> None:
    rng = np.random.default_rng(0)
    expected = level * rng.uniform(0.2, 2, (3, 4, 8, 8))
    counts, other = rng.poisson(expected).astype(float), expected * 1.1
    k, rate = torch.from_numpy(counts), torch.from_numpy(other)
    value = poisson_loss(k, rate)
    assert float(value) == pytest.approx((other - counts * np.log(other)).mean(), rel=1e-9)
    assert float(to_ptychopinn_tensorflow(value)) == pytest.approx(float(value))
    full = -poisson.logpmf(counts, other)
    assert float(value + constant(k)) == pytest.approx(full.mean(), rel=1e-9)
    scale = 9.88
    published = full.sum((1, 2, 3)).mean() / (np.sqrt(counts) / scale).mean()
    assert float(to_ptychopinn_torch(value, k, scale=scale)) == pytest.approx(published, rel=1e-9)
    published = full.sum((1, 2, 3)).mean() / 7.0
    assert float(to_ptychopinn_counts(value, k, 7.0)) == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize("level", [0.05, 1.0, 1e4])
def test_the_training_loss_is_mapped_to_the_definition(level: float) -> None:
    rng = np.random.default_rng(1)
    expected = torch.from_numpy(level * rng.uniform(0.2, 2, (3, 4, 8, 8)))
    counts = torch.poisson(expected, generator=torch.Generator().manual_seed(0))
    found = from_training_loss(data_loss("poisson", counts, expected), counts)
    assert float(found) == pytest.approx(float(poisson_loss(counts, expected + DARK_COUNTS)), rel=1e-9)


def test_gradients_differ_by_the_factor_alone() -> None:
    counts = torch.poisson(torch.full((2, 1, 4, 4), 3.0, dtype=torch.float64), torch.Generator().manual_seed(0))
    rate = torch.full((2, 1, 4, 4), 2.0, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(poisson_loss(counts, rate), rate)
    (theirs,) = torch.autograd.grad(to_ptychopinn_torch(poisson_loss(counts, rate), counts), rate)
    torch.testing.assert_close(theirs, ours * 16 / counts.sqrt().mean())
