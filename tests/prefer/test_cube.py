"""The geometry of settings: every point one setting, every category reachable, and nothing outside."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.cube import nearby, numbers, settings, settled, sobol

CATEGORIES = (slice(1, 4), slice(5, 7))
D = 8


def test_points_that_choose_alike_are_one_point() -> None:
    points = settled([[0.3, 0.2, 0.9, 0.1, 0.5, 0.4, 0.4, 0.8], [0.3, 0.0, 0.5, 0.4, 0.5, 1.0, 0.0, 0.8]], CATEGORIES)
    assert np.array_equal(points[0], points[1])
    assert points[0].tolist() == [0.3, 0, 1, 0, 0.5, 1, 0, 0.8]
    assert np.array_equal(settled(points, CATEGORIES), points)
    assert numbers(D, CATEGORIES).tolist() == [0, 4, 7]
    assert settings(D, CATEGORIES) == (slice(0, 1), slice(4, 5), slice(7, 8), *CATEGORIES)


def test_sobol_points_are_even_over_numbers_and_categories() -> None:
    points = sobol(512, D, CATEGORIES, np.random.default_rng(0))
    assert np.array_equal(settled(points, CATEGORIES), points)
    assert np.abs(points[:, numbers(D, CATEGORIES)].mean(axis=0) - 0.5).max() < 0.01
    for part in CATEGORIES:
        assert points[:, part].mean(axis=0) == pytest.approx(1 / (part.stop - part.start), abs=0.01)
    assert np.array_equal(points, sobol(512, D, CATEGORIES, np.random.default_rng(0)))
    assert not np.array_equal(points, sobol(512, D, CATEGORIES, np.random.default_rng(1)))
    assert sobol(3, D, CATEGORIES, np.random.default_rng(0)).shape == (3, D)


def test_neighbours_are_near_reach_the_walls_and_every_category() -> None:
    place = settled(np.full(D, 0.05), CATEGORIES)
    points = nearby(place, 256, CATEGORIES, np.random.default_rng(0))
    assert np.array_equal(settled(points, CATEGORIES), points)
    assert points.min() == 0
    assert points.max() <= 1
    moved = np.abs(points - place)[:, numbers(D, CATEGORIES)]
    assert np.median(moved[moved > 0]) < 0.1
    for part in CATEGORIES:
        assert points[:, part].any(axis=0).all()
