"""Point spread: power, variance, adjoint and derivative, and an engine that is told it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diptych.ptycho.physics.detector.point_spread import PointSpread, kernel

CPU = torch.device("cpu")


def spread(widths: tuple[float, float], size: int = 48) -> PointSpread:
    return PointSpread(widths, size, torch.float64, CPU)


@pytest.mark.parametrize("width", [0.05, 0.4, 1.0, 2.5])
def test_a_point_keeps_its_light_and_gets_the_stated_widths(width: float) -> None:
    point = torch.zeros((48, 48), dtype=torch.float64)
    point[24, 24] = 1.0
    seen = spread((width, 2 * width))(point).numpy()
    assert seen.sum() == pytest.approx(1.0, abs=1e-5)
    away = (np.arange(48) - 24) ** 2
    assert (seen.sum(1) @ away, seen.sum(0) @ away) == pytest.approx((width**2, 4 * width**2), rel=1e-3)


def test_without_width_nothing_is_spread() -> None:
    counts = torch.rand((3, 48, 48), dtype=torch.float64)
    assert torch.equal(spread((0.0, 0.0))(counts), counts)
    assert len(kernel(0.0, 47)) == 1


def test_widths_add_in_squares_away_from_the_edges() -> None:
    counts = torch.zeros((48, 48), dtype=torch.float64)
    counts[20:28, 20:28] = torch.rand((8, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    twice = spread((0.6, 0.8))(spread((0.8, 0.6))(counts))
    assert torch.allclose(twice, spread((1.0, 1.0))(counts), atol=1e-5)


def test_it_is_its_own_adjoint_at_the_edges_too() -> None:
    seen, generator = spread((0.7, 1.3), 16), torch.Generator().manual_seed(0)
    one, two = torch.rand((2, 16, 16), dtype=torch.float64, generator=generator)
    assert float((seen(one) * two).sum()) == pytest.approx(float((one * seen(two)).sum()), rel=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_slopes_are_derivatives_by_the_variances(axis: int) -> None:
    counts = torch.rand((48, 48), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    variances, small = np.array([0.5, 1.2]), 1e-5
    there = [variances + sign * small * np.eye(2)[axis] for sign in (1, -1)]
    more, less = (spread((float(np.sqrt(y)), float(np.sqrt(x))))(counts) for y, x in there)
    slope = spread((float(np.sqrt(0.5)), float(np.sqrt(1.2)))).slopes(counts)[axis]
    assert torch.allclose(slope, (more - less) / (2 * small), atol=1e-5)
