"""Single positions that are wrong where all others are right: found on an object that is made without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.positions.strays import LEAST_FAR, StraySearch, far_moved, strays
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan

WRONG = 63


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, seed=2)


def settled(scan: Scan, positions: np.ndarray, refine_probe: bool = True) -> tuple[StraySearch, Problem]:
    """The search, from an object that was reconstructed at positions (M, 2); the true ones are the recorded ones."""
    wrong = replace(scan, positions=positions, truth=None)
    problem = make_problem(wrong, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.02, seed=0)
    assert scan.probe is not None
    probe = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
    pie = PieSettings(batch=4, refine_probe=refine_probe)
    likelihood = LikelihoodSettings(batch=sweep_batch(problem), refine_probe=refine_probe)
    here = refined(problem, rebuilt(problem, probe, pie), likelihood, 20)
    return StraySearch(problem, place(problem, here), here.probe, pie, likelihood, scan.positions), problem


def displaced(scan: Scan) -> np.ndarray:
    positions = scan.positions.copy()
    positions[WRONG] += [-5.0, 3.0]
    return positions


def off(problem: Problem, scan: Scan) -> np.ndarray:
    away = problem.forward.positions - scan.positions
    return np.hypot(*(away - np.median(away, axis=0)).T)


@torch.no_grad()
def test_a_position_at_the_edge_that_is_far_off_is_found(scan: Scan) -> None:
    search, problem = settled(scan, displaced(scan))
    assert off(problem, scan)[WRONG] > 2
    assert WRONG in strays(problem, Placed.of(problem, search.image, search.probe), scan.positions)
    search.epoch()
    assert off(problem, scan).max() < 0.1
    assert not len(strays(problem, Placed.of(problem, search.image, search.probe), scan.positions))


@torch.no_grad()
def test_right_positions_have_no_strays(scan: Scan) -> None:
    search, problem = settled(scan, scan.positions)
    assert not len(strays(problem, Placed.of(problem, search.image, search.probe), scan.positions))


def bars(texture: float) -> np.ndarray:
    """An object (H, W) of upright bars, and a texture."""
    x = np.arange(96)
    smooth = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(96, 96)), 1.5)
    phase = 0.8 * np.sign(np.sin(x / 3.1)) + texture * smooth / smooth.std()
    return np.asarray(np.exp(1j * phase))


@torch.no_grad()
@pytest.mark.parametrize(("texture", "returns"), [(0.005, True), (0.3, False)])
def test_a_pattern_that_fits_as_well_near_its_recorded_place_goes_back(texture: float, returns: bool) -> None:
    bar = diptych.simulate(object=bars(texture), size=32, patterns=64, step=4.0, dose=1e5, seed=2)
    away = bar.positions.copy()
    away[27] += [7.0, 0.0]
    # A pattern that was made there: where the object tells the places apart, it stays.
    true = bar if returns else diptych.simulate(object=bars(texture), size=32, positions=away, dose=1e5, seed=2)
    search, problem = settled(replace(true, positions=bar.positions), away)
    before = problem.forward.positions[27] - np.median(problem.forward.positions - bar.positions, axis=0)
    assert np.hypot(*(before - away[27])) < 1.0
    assert 27 in strays(problem, Placed.of(problem, search.image, search.probe), bar.positions)
    search.epoch()
    after = problem.forward.positions[27] - np.median(problem.forward.positions - bar.positions, axis=0)
    assert np.hypot(*(after - (bar.positions if returns else away)[27])) < 2.0


def test_what_moved_much_further_than_most_is_told_by_the_moves_of_most() -> None:
    rng = np.random.default_rng(0)
    recorded = rng.uniform(0, 100, (400, 2))
    moves = rng.normal([3.0, -2.0], 0.5, recorded.shape)
    moves[7] += [4.0, 0.0]
    rows, deviation = far_moved(recorded + moves, recorded)
    assert list(rows) == [7]
    assert deviation == pytest.approx(0.5, rel=0.1)
    # Where most did not move at all, less than a pixel is not far.
    some = recorded.copy()
    some[[3, 4]] += [[0.9 * LEAST_FAR, 0.0], [1.1 * LEAST_FAR, 0.0]]
    assert list(far_moved(some, recorded)[0]) == [4]


@torch.no_grad()
def test_many_patterns_that_fit_badly_are_no_exceptions(scan: Scan) -> None:
    search, problem = settled(scan, scan.positions)
    problem.counts[::3] = problem.counts[::3].flip(1)
    assert not len(strays(problem, Placed.of(problem, search.image, search.probe), scan.positions))


@torch.no_grad()
def test_a_state_that_the_search_does_not_improve_stays_and_so_does_a_fixed_probe(scan: Scan) -> None:
    search, problem = settled(scan, displaced(scan), refine_probe=False)
    probe = search.probe
    search.epoch()
    assert search.probe.equal(probe)
    # Counts that belong to no place: the new object is not better.
    search, problem = settled(scan, scan.positions)
    problem.counts[WRONG] = problem.counts[WRONG].flip(0)
    before = search.image, problem.forward.positions.copy()
    search.epoch()
    assert search.image.equal(before[0])
    assert np.array_equal(problem.forward.positions, before[1])
