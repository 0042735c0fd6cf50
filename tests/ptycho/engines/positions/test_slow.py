"""Slow distortions that a refinement leaves: which moves are slow, and when positions are tested or kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.positions.slow import moves_slowly, slow_modes, slow_part

POSITIONS = diptych.simulate(size=16, patterns=100, step=3.0, seed=0).positions


def turned(positions: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    turn, middle = np.deg2rad(degrees), positions.mean(0)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return middle + (positions - middle) @ matrix.T


def test_a_stretch_and_a_turn_are_slow_and_independent_moves_are_not() -> None:
    wrong = turned(POSITIONS, 4.0, 1.05)
    off = wrong - POSITIONS
    np.testing.assert_allclose(slow_part(off - off.mean(0), POSITIONS), off - off.mean(0), atol=1e-9)
    assert moves_slowly(POSITIONS, wrong)
    noise = np.random.default_rng(0).normal(0, 2.0, POSITIONS.shape)
    assert not moves_slowly(POSITIONS, POSITIONS + noise)
    assert not moves_slowly(POSITIONS, POSITIONS + 5.0), "a common shift"


def test_slow_modes_are_orthogonal() -> None:
    modes = np.stack(slow_modes(POSITIONS)).reshape(-1, 200)
    np.testing.assert_allclose(modes @ modes.T / 100, np.eye(len(modes)), atol=1e-9)


@pytest.mark.slow
def test_a_stretched_and_turned_scan_is_found() -> None:
    scan = diptych.simulate(object="natural", size=32, patterns=144, step=4.0, dose=1e6, probe_error=0.5, seed=3)
    wrong = replace(scan, positions=turned(scan.positions, 3.0, 1.02), truth=None)
    off = diptych.reconstruct(wrong, correct_positions="auto").positions - scan.positions
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < 0.1


@pytest.mark.slow
def test_a_corner_that_slipped_by_a_pixel_is_put_back() -> None:
    """Joint refinement ends at 0.41 px here: a corner of the scan has slipped against the rest, and holds a stretch."""
    scan = diptych.simulate(object="blocks", size=64, patterns=225, step=8.0, dose=1e6, probe_error=0.5, seed=1)
    wrong = replace(scan, positions=turned(scan.positions, 3.0, 1.02), truth=None)
    off = diptych.reconstruct(wrong).positions - scan.positions
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < 0.05


@pytest.mark.slow
def test_a_beam_that_varies_is_found_although_positions_are_wrong() -> None:
    """Wrong positions hide what the intensity does; the error was 1.8 times that of a run that was told both."""
    scan = diptych.simulate(object="blocks", size=32, patterns=100, step=4.0, dose=1e5, probe_error=0.3, seed=9)
    rng = np.random.default_rng(2)
    varying = np.random.default_rng(1).normal(1, 0.1, len(scan)).clip(0.3, 3)
    counts = rng.binomial(np.rint(scan.counts).astype(int), (varying / varying.max())[:, None, None])
    positions = scan.positions + rng.normal(0, 0.7, scan.positions.shape)
    result = diptych.reconstruct(replace(scan, counts=counts.astype(np.float32), positions=positions, truth=None))
    assert result.frame_factors is not None
    np.testing.assert_allclose(result.frame_factors, varying / varying.mean(), rtol=0.05)
    off = result.positions - scan.positions
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < 0.1
