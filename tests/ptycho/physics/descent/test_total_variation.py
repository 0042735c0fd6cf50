"""Smooth total variation of a complex object."""

from __future__ import annotations

import pytest
import torch

from diptych.ptycho.physics.descent.total_variation import EDGE, TotalVariation


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """A random object and the pixels that count: neither all, nor a rectangle."""
    generator = torch.Generator().manual_seed(0)
    image = 1 + 0.3 * torch.randn(9, 7, 2, generator=generator, dtype=torch.float64)
    return torch.view_as_complex(image), torch.rand(9, 7, generator=generator) > 0.2


def by_hand(image: torch.Tensor, lit: torch.Tensor, strength: float) -> torch.Tensor:
    """The penalty of the module's text, pixel by pixel."""
    unit = image / image[lit].abs().square().mean().sqrt()
    total = torch.zeros((), dtype=torch.float64)
    for y, x in torch.nonzero(torch.ones_like(lit)).tolist():
        square = torch.full((), EDGE**2, dtype=torch.float64)
        for b, a in ((y + 1, x), (y, x + 1)):
            if b < lit.shape[0] and a < lit.shape[1] and lit[y, x] and lit[b, a]:
                square = square + (unit[b, a] - unit[y, x]).abs().square()
        total = total + square.sqrt() - EDGE
    return strength * total


def test_value_and_gradient_are_those_of_autograd() -> None:
    image, lit = problem()
    value, gradient = TotalVariation(lit, 3.0).value_and_gradient(image)
    leaf = image.clone().requires_grad_()
    expected = by_hand(leaf, lit, 3.0)
    expected.backward()
    assert leaf.grad is not None
    assert value == pytest.approx(float(expected.detach()), rel=1e-10)
    # torch returns twice the derivative by the conjugate.
    torch.testing.assert_close(gradient, leaf.grad / 2, rtol=1e-9, atol=1e-12)


def test_the_scale_and_unlit_pixels_do_not_matter() -> None:
    image, lit = problem()
    penalty = TotalVariation(lit, 2.0)
    value, gradient = penalty.value_and_gradient(image)
    assert penalty.value_and_gradient(image * 7j)[0] == pytest.approx(value, rel=1e-10)
    changed, there = penalty.value_and_gradient(torch.where(lit, image, 100.0 + 0j))
    assert changed == pytest.approx(value, rel=1e-10)
    assert (there[~lit] == 0).all()
    assert (gradient[~lit] == 0).all()
    assert penalty.value_and_gradient(torch.ones_like(image))[0] == 0
    curvature = penalty.curvature(image)
    assert (curvature >= 0).all()
    assert (curvature[~lit] == 0).all()
