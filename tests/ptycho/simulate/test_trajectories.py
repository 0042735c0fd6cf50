from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.stats import kstest

from diptych.ptycho.simulate.options import SimulationOptions
from diptych.ptycho.simulate.trajectories import fermat_spiral, make_trajectory, random, raster

KINDS = SimulationOptions.model_fields["trajectory"].annotation.__args__


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), step=st.floats(0.5, 40), patterns=st.integers(1, 400))
def test_as_many_patterns_as_asked_for(kind, step, patterns) -> None:
    positions = make_trajectory(kind, step, generator(), patterns=patterns)
    assert positions.shape == (patterns, 2)
    assert positions.dtype == np.float64
    assert np.isfinite(positions).all()


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), step=st.floats(2, 10), height=st.floats(1, 200), width=st.floats(1, 200))
def test_a_field_is_filled_and_not_left(kind, step, height, width) -> None:
    positions = make_trajectory(
        kind, step, generator(), field=(height, width), jitter=0.0 if kind == "jittered-raster" else None
    )
    assert len(positions) >= 1
    assert (np.abs(positions) <= np.array([height, width]) / 2 + 1e-9).all()
    if min(height, width) > 8 * step:
        assert len(positions) == pytest.approx(height * width / step**2, rel=0.3)


def test_raster_rows_and_columns() -> None:
    positions = raster(8.0, 256)
    steps = np.diff(positions, axis=0)
    assert (np.abs(positions).max(0) == 60).all()
    assert (np.abs(steps[:, 1]) == 8).sum() == 240
    assert raster(2.0, 1, field=(6.0, 4.0)).tolist()[:4] == [[-3, -2], [-3, 0], [-3, 2], [-1, -2]]
    assert len(raster(2.0, 1, field=(6.0, 4.0))) == 12
    # 0.3 / 0.1 is 2.9999999999999996 in floating point.
    assert len(raster(0.1, 1, field=(0.3, 0.0001))) == 4
    assert len(raster(16.0, 516)) == 516


def test_jitter_is_uniform_and_bounded() -> None:
    displaced = make_trajectory("jittered-raster", 8.0, generator(), patterns=2500, jitter=2.0) - raster(8.0, 2500)
    assert np.abs(displaced).max() <= 2
    assert kstest(displaced.ravel() / 4 + 0.5, "uniform").pvalue > 0.01
    default = make_trajectory("jittered-raster", 8.0, generator(), patterns=2500)
    np.testing.assert_array_equal(default, displaced + raster(8.0, 2500))


def test_fermat_spiral_has_one_pattern_per_step_squared_everywhere() -> None:
    step, positions = 5.0, fermat_spiral(5.0, 2000)
    radius = np.hypot(*positions.T)
    for share in (0.1, 0.3, 0.6, 1.0):
        edge = share * radius.max()
        assert (radius <= edge).sum() == pytest.approx(np.pi * edge**2 / step**2, rel=0.02)
    nearest = cKDTree(positions).query(positions, k=2)[0][:, 1]
    # Points of a Fermat spiral keep apart: nearest neighbours within 15 % of each other but for the edge.
    inner = nearest[radius < 0.95 * radius.max()]
    assert inner.min() > 0.8 * step
    assert inner.max() < 1.15 * step


def test_random_is_uniform_over_its_square() -> None:
    positions = random(4.0, generator(1), 2500)
    assert np.abs(positions).max() <= 100
    for axis in positions.T:
        assert kstest(axis / 200 + 0.5, "uniform").pvalue > 0.01


def test_only_the_generator_decides() -> None:
    for kind in KINDS:
        first, again = (make_trajectory(kind, 3.0, generator(4), patterns=50) for _ in range(2))
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(random(3.0, generator(1), 50), random(3.0, generator(2), 50))
