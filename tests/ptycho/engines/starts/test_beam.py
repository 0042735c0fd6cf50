"""The slope of factors of the frames over a scan, for beams that vary in time in several ways."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.ptycho.engines.starts.beam import slope_over_scan

SLOPE = np.array([2e-3, -1e-3])
ROWS = 12

Array = NDArray[np.float64]


def places(to_and_fro: bool = True) -> Array:
    """A jittered raster of 12 rows."""
    y, x = np.divmod(np.arange(ROWS**2), ROWS)
    if to_and_fro:
        x = np.where(y % 2, ROWS - 1 - x, x)
    jitter = np.random.default_rng(1).uniform(-2, 2, (ROWS**2, 2))
    return 8.0 * np.stack([y, x], 1) + jitter


def error(beam: Array, where: Array) -> float:
    """Largest error of the slope, times the extent of the scan: of the logarithm from edge to edge."""
    noise = np.random.default_rng(2).normal(0, 1e-3, len(beam))
    return float(np.abs(slope_over_scan(where @ SLOPE + beam + noise + 5.0, where) - SLOPE).max() * 8 * ROWS)


def test_independent_factors_give_the_least_squares_slope() -> None:
    where, beam = places(), np.random.default_rng(3).normal(0, 0.2, ROWS**2)
    design = np.column_stack([np.ones(ROWS**2), where])
    expected = np.linalg.lstsq(design, where @ SLOPE + beam, rcond=None)[0][1:]
    found = slope_over_scan(where @ SLOPE + beam, where)
    # 0.2 over the root of 144 frames and 28 px rms is 6e-4.
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("to_and_fro", [True, False])
def test_a_step_in_the_middle_of_a_scan_is_the_beams(to_and_fro: bool) -> None:
    step = np.where(np.arange(ROWS**2) < 70, 0.0, -0.43)
    assert error(step, places(to_and_fro)) < 0.01


def test_decay_with_refills_is_the_beams() -> None:
    time = np.arange(ROWS**2)
    assert error(-0.004 * (time % 50), places()) < 0.05


def test_even_decay_is_told_where_rows_go_to_and_fro() -> None:
    assert error(-0.3 * np.arange(ROWS**2) / ROWS**2, places()) < 0.03


def test_random_walk_is_better_than_least_squares() -> None:
    where, design = places(), np.column_stack([np.ones(ROWS**2), places()])
    walks = np.cumsum(np.random.default_rng(4).normal(0, 0.02, (20, ROWS**2)), 1)
    ours = [np.abs(slope_over_scan(walk, where)).max() for walk in walks]
    plain = [np.abs(np.linalg.lstsq(design, walk, rcond=None)[0][1:]).max() for walk in walks]
    assert np.median(ours) < 0.6 * np.median(plain)


def test_an_axis_that_is_not_scanned_has_no_slope() -> None:
    line = np.stack([np.zeros(40), 4.0 * np.arange(40)], 1)
    beam = np.random.default_rng(5).normal(0, 0.1, 40)
    found = slope_over_scan(line @ SLOPE + beam, line)
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert np.isfinite(found).all()


def test_constant_factors_and_very_few_frames() -> None:
    assert not slope_over_scan(np.full(144, 0.3), places()).any()
    assert not slope_over_scan(np.array([0.1, 0.2]), places()[:2]).any()
