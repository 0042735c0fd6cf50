"""Positions that are far off, from a flat object: they are found, the rounds end, and a resumed search is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import LEAST_ROUNDS, MOST_ROUNDS, Afresh, JointRounds
from diptych.ptycho.engines.positions.distortion import PositionSearch
from diptych.ptycho.engines.positions.placing import Placed
from diptych.ptycho.engines.positions.slow import SlowSearch
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, probe_error=0.3, seed=2)


def problem_of(scan: Scan, positions: np.ndarray) -> tuple[Problem, torch.Tensor]:
    wrong = replace(scan, positions=positions, truth=None)
    problem = make_problem(wrong, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.02, seed=0)
    assert scan.probe is not None
    return problem, scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)


def settings_of(problem: Problem, **changes: bool) -> LikelihoodSettings:
    return LikelihoodSettings(batch=sweep_batch(problem), **changes)


def test_a_fixed_probe_stays(scan: Scan) -> None:
    problem, probe = problem_of(scan, scan.positions)
    fixed = PieSettings(batch=4, refine_probe=False), settings_of(problem, refine_probe=False)
    image = problem.flat_object()
    recorded = Placed.of(problem, image, probe)
    with torch.no_grad():
        search = Afresh(problem, image, probe, 1e9, (probe,), recorded, *fixed)
        search.epoch()
    assert search.probe.equal(probe)


def distance(problem: Problem, scan: Scan) -> float:
    off = problem.forward.positions - scan.positions
    return float(np.sqrt(np.square(off - off.mean(0)).sum(1).mean()))


def jittered(scan: Scan, rms: float) -> np.ndarray:
    return scan.positions + np.random.default_rng(5).normal(0, rms / np.sqrt(2), scan.positions.shape)


def test_positions_that_are_far_off_are_found(scan: Scan) -> None:
    with torch.no_grad():
        problem, probe = problem_of(scan, jittered(scan, 1.2))
        rounds = JointRounds.from_flat(problem, probe, PieSettings(batch=4), settings_of(problem))
        while rounds.goes_on:
            rounds.advance()
    assert rounds.fit < 1.3
    assert distance(problem, scan) < 0.05


@pytest.mark.parametrize(
    ("fits", "goes_on"),
    [
        ([], True),
        ([9.0] * (LEAST_ROUNDS - 1), True),
        ([9.0] * LEAST_ROUNDS, False),
        ([9.0, 8.0, 7.0, 6.0], True),
        ([9.0, 8.0, 7.0, 6.8], False),
        ([9.0, 8.0, float("inf"), float("inf")], False),
        ([100.0 * 0.8**n for n in range(MOST_ROUNDS)], False),
    ],
)
def test_rounds_go_on_while_they_gain(scan: Scan, fits: list[float], goes_on: bool) -> None:
    problem, probe = problem_of(scan, scan.positions)
    rounds = JointRounds(problem, Placed.of(problem, problem.flat_object(), probe), settings_of(problem), fits)
    assert rounds.goes_on is goes_on


def afresh(scan: Scan) -> Afresh:
    problem, probe = problem_of(scan, jittered(scan, 1.0))
    image = problem.flat_object()
    recorded = Placed.of(problem, image, probe)
    return Afresh(problem, image, probe, 50.0, (probe, probe), recorded, PieSettings(batch=4), settings_of(problem))


def cycles(scan: Scan) -> SlowSearch:
    recorded = scan.positions.mean(0) + 1.02 * (scan.positions - scan.positions.mean(0))
    problem, probe = problem_of(scan, jittered(scan, 0.5))
    return SlowSearch(problem, problem.flat_object(), probe, PieSettings(batch=4), settings_of(problem), recorded)


def trials(scan: Scan) -> SlowSearch:
    """A search whose cycles have ended at a poor fit."""
    search = cycles(scan)
    search.restore(search.state() | {"slow_fits": torch.tensor([9.0, 9.0, 9.0], dtype=torch.float64)})
    return search


@pytest.mark.parametrize("make", [afresh, cycles, trials])
def test_a_resumed_search_is_the_uninterrupted_one(make: type[PositionSearch], scan: Scan) -> None:
    with torch.no_grad():
        one, other = make(scan), make(scan)
        one.epoch()
        state = {name: tensor.clone() for name, tensor in one.state().items()}
        where = one.problem.forward
        other.problem.forward.move(where.positions.copy(), where.origin, where.shape)
        other._best = Placed.of(other.problem, state["image"], state["probe"])
        other.restore(state)
        reports = [engine.epoch() for engine in (one, other)]
        assert reports[0] == pytest.approx(reports[1], rel=1e-4)
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=1e-3)
        assert one.most_epochs == other.most_epochs


def test_cycles_end_at_the_right_positions(scan: Scan) -> None:
    with torch.no_grad():
        search, made = cycles(scan), 0
        while made < search.most_epochs:
            search.epoch()
            made += 1
    assert 2 <= made <= 8
    assert distance(search.problem, scan) < 0.05
