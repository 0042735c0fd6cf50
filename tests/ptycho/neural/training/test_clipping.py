"""Gradient clipping: what is large is cut to its limit, what is small is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diptych.ptycho.neural.training.clipping import clip_gradients


def weights(*pairs: tuple[float, float]) -> list[nn.Parameter]:
    """Tensors of 4 equal values, with the norms (of the weights, of the gradient)."""
    made = []
    for size, gradient in pairs:
        weight = nn.Parameter(torch.full((2, 2), size / 2))
        weight.grad = torch.full((2, 2), gradient / 2)
        made.append(weight)
    return made


def norms(parameters: list[nn.Parameter]) -> list[float]:
    return [float(weight.grad.norm()) for weight in parameters]


def test_agc_holds_each_gradient_to_its_weights() -> None:
    large, small, zero = made = weights((2.0, 5.0), (2.0, 0.1), (0.0, 5.0))
    total = clip_gradients(made, 0.1, "agc")
    assert float(total) == pytest.approx(math.sqrt(25 + 0.01 + 25))
    assert float(large.grad.norm()) == pytest.approx(0.1 * 2.0)
    assert torch.equal(small.grad, torch.full((2, 2), 0.05))
    # Weights at zero count as 1e-3, so that they can move at all.
    assert float(zero.grad.norm()) == pytest.approx(0.1 * 1e-3)


def test_agc_of_a_zero_gradient_is_zero_not_nan() -> None:
    made = weights((0.0, 0.0), (1.0, 0.0))
    clip_gradients(made, 0.01, "agc")
    assert norms(made) == [0.0, 0.0]


def test_norm_scales_all_gradients_together() -> None:
    made = weights((1.0, 3.0), (1.0, 4.0))
    assert float(clip_gradients(made, 1.0, "norm")) == pytest.approx(5.0)
    assert norms(made) == pytest.approx([0.6, 0.8], rel=1e-5)
    assert float(clip_gradients(made, 10.0, "norm")) == pytest.approx(1.0, rel=1e-5)
    assert norms(made) == pytest.approx([0.6, 0.8], rel=1e-5)


def test_value_cuts_each_value() -> None:
    made = weights((1.0, 3.0), (1.0, 0.2))
    clip_gradients(made, 0.5, "value")
    assert norms(made) == pytest.approx([1.0, 0.2])


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_zero_turns_clipping_off_but_still_measures(mode: str) -> None:
    made = [*weights((1.0, 3.0), (1.0, 4.0)), nn.Parameter(torch.ones(3))]
    assert float(clip_gradients(made, 0.0, mode)) == pytest.approx(5.0)
    assert norms(made[:2]) == pytest.approx([3.0, 4.0])
    assert made[2].grad is None
