"""The geometry of settings: every point one setting, every category reachable, and nothing outside."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.spaces.cube import Cube, Flat, nearby, numbers, settings, settled, sobol

CATEGORIES = (slice(1, 4), slice(5, 7))
CUBE = Cube(CATEGORIES)
D = 8


def test_points_that_choose_alike_are_one_point() -> None:
    points = settled([[0.3, 0.2, 0.9, 0.1, 0.5, 0.4, 0.4, 0.8], [0.3, 0.0, 0.5, 0.4, 0.5, 1.0, 0.0, 0.8]], CUBE)
    assert np.array_equal(points[0], points[1])
    assert points[0].tolist() == [0.3, 0, 1, 0, 0.5, 1, 0, 0.8]
    assert np.array_equal(settled(points, CUBE), points)
    assert numbers(D, CUBE).tolist() == [0, 4, 7]
    assert settings(D, CUBE) == (slice(0, 1), slice(4, 5), slice(7, 8), *CATEGORIES)


def test_sobol_points_are_even_over_numbers_and_categories() -> None:
    points = sobol(512, D, CUBE, np.random.default_rng(0))
    assert np.array_equal(settled(points, CUBE), points)
    assert np.abs(points[:, numbers(D, CUBE)].mean(axis=0) - 0.5).max() < 0.01
    for part in CATEGORIES:
        assert points[:, part].mean(axis=0) == pytest.approx(1 / (part.stop - part.start), abs=0.01)
    assert np.array_equal(points, sobol(512, D, CUBE, np.random.default_rng(0)))
    assert not np.array_equal(points, sobol(512, D, CUBE, np.random.default_rng(1)))
    assert sobol(3, D, CUBE, np.random.default_rng(0)).shape == (3, D)


def test_neighbours_are_near_reach_the_walls_and_every_category() -> None:
    place = settled(np.full(D, 0.05), CUBE)
    points = nearby(place, 256, CUBE, np.random.default_rng(0))
    assert np.array_equal(settled(points, CUBE), points)
    assert points.min() == 0
    assert points.max() <= 1
    moved = np.abs(points - place)[:, numbers(D, CUBE)]
    assert np.median(moved[moved > 0]) < 0.1
    for part in CATEGORIES:
        assert points[:, part].any(axis=0).all()


def test_points_that_mean_the_same_number_are_one_point() -> None:
    whole = Flat(0, (0.0, 0.25, 0.75), (0.25, 0.75, 1.0), (0.0, 0.5, 1.0))
    cube = Cube(CATEGORIES, (whole, Flat(4, (0.5,), (1.0,), (0.5,))))
    values = np.array([0.0, 0.2, 0.3, 0.6, 0.8, 1.0])
    points = np.zeros((6, D))
    points[:, [0, 4, 7]] = values[:, None]
    found = settled(points, cube)
    assert found[:, 0].tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert found[:, 4].tolist() == [0, 0.2, 0.3, 0.5, 0.5, 0.5]
    assert found[:, 7].tolist() == values.tolist()
    assert np.array_equal(settled(found, cube), found)
    for made in (sobol(64, D, cube, np.random.default_rng(0)), nearby(found[2], 64, cube, np.random.default_rng(0))):
        assert np.array_equal(settled(made, cube), made)
        assert set(made[:, 0]) == {0, 0.5, 1}
