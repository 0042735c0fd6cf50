"""Slow distortions that independent position errors hold by chance are taken out, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions import cycles
from diptych.ptycho.engines.positions.cycles import SlowCycles, held_by_chance, holds_slow
from diptych.ptycho.engines.positions.placing import Placed
from diptych.ptycho.engines.positions.slow import slow_modes
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, seed=2)


def cycles_of(
    scan: Scan, positions: np.ndarray, recorded: np.ndarray, refine_probe: bool = True
) -> tuple[SlowCycles, Problem]:
    """Cycles that start at positions (M, 2), from the scan's probe."""
    problem = make_problem(
        replace(scan, positions=positions, truth=None),
        device=torch.device("cpu"),
        double=False,
        subpixel=True,
        held_out=0.02,
        seed=0,
    )
    assert scan.probe is not None
    probe = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
    pie = PieSettings(batch=4, refine_probe=refine_probe)
    likelihood = LikelihoodSettings(batch=sweep_batch(problem), refine_probe=refine_probe)
    return SlowCycles(problem, problem.flat_object(), probe, pie, likelihood, recorded), problem


def turned(scan: Scan, degrees: float) -> np.ndarray:
    angle, middle = np.deg2rad(degrees), scan.positions.mean(0)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return middle + (scan.positions - middle) @ matrix.T


def distance(problem: Problem, scan: Scan) -> float:
    off = problem.forward.positions - scan.positions
    return float(np.sqrt(np.square(off - off.mean(0)).sum(1).mean()))


def recorded_of(scan: Scan) -> np.ndarray:
    return scan.positions + np.random.default_rng(5).normal(0, 2, scan.positions.shape)


@torch.no_grad()
def test_a_rotation_that_is_left_is_taken_out(scan: Scan) -> None:
    wrong = turned(scan, 1.0)
    engine, problem = cycles_of(scan, wrong, recorded_of(scan))
    before, done = distance(problem, scan), 0
    while done < engine.most_epochs:
        engine.epoch()
        done += 1
    assert before > 0.15
    assert distance(problem, scan) < 0.03
    assert done < 12


@torch.no_grad()
def test_a_resumed_search_is_the_same_and_a_fixed_probe_stays(scan: Scan) -> None:
    engine, problem = cycles_of(scan, turned(scan, 1.0), recorded_of(scan), refine_probe=False)
    probe = engine.probe
    engine.epoch()
    kept, best = {name: value.clone() for name, value in engine.state().items()}, engine._best
    engine.epoch()
    other, again = cycles_of(scan, turned(scan, 1.0), recorded_of(scan), refine_probe=False)
    other.restore(kept)
    other._best = best
    assert other.most_epochs == 2
    other.epoch()
    assert other.image.equal(engine.image)
    assert np.array_equal(again.forward.positions, problem.forward.positions)
    assert np.array_equal(other._next.positions, engine._next.positions)
    assert other.probe.equal(probe)


@pytest.mark.parametrize("what", ["nothing finite", "another object"])
@torch.no_grad()
def test_a_start_that_cycles_do_not_improve_stays(scan: Scan, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    engine, problem = cycles_of(scan, scan.positions, recorded_of(scan))
    here = cycles.refined(problem, cycles.rebuilt(problem, engine.probe, engine._pie), engine._likelihood, 30)
    engine._best = engine._next = here
    factor = float("nan") if what == "nothing finite" else 1.1
    monkeypatch.setattr(cycles, "refined", lambda *_: replace(here, image=here.image * factor))
    engine.epoch()
    assert engine.image.equal(here.image)
    assert engine.most_epochs == 1


@torch.no_grad()
def test_cycles_end_at_the_lowest_fit_once_it_no_longer_falls(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, problem = cycles_of(scan, scan.positions, recorded_of(scan))
    fits = iter(
        [1.2, 1.003, 1.001, 1.002, 1.0009, 1.004, 0.9]
    )  # Of the start, and of each cycle; the last is too late.
    step = 0.2 * engine._modes[0]
    ends: list[np.ndarray] = []

    def moved(problem: Problem, start: Placed, *_: object) -> Placed:
        ends.append(start.positions + step)
        return replace(start, positions=ends[-1])

    monkeypatch.setattr(cycles, "refined", moved)
    monkeypatch.setattr(cycles, "full_fit", lambda *_: {"fit": (fit := next(fits)), "held_out_fit": fit})
    done = 0
    while done < engine.most_epochs:
        engine.epoch()
        done += 1
    assert done == 5
    np.testing.assert_allclose(problem.forward.positions, ends[3], atol=1e-4)


def test_what_is_left_follows_from_the_moves(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves that go a fixed share of the way meet at its end; no further than errors of that size hold."""
    monkeypatch.setattr(cycles, "USUAL_SPREAD", 1e-6)
    engine, _ = cycles_of(scan, scan.positions, recorded_of(scan))
    modes, first = engine._modes, engine._first
    way, rate = np.linspace(-0.3, 0.3, len(modes)), np.linspace(0.1, 0.9, len(modes))
    starts = [share * way for share in (0.0, 0.2, 0.7)]
    engine._starts, engine._moves = [first + start for start in starts], [rate * (way - start) for start in starts]

    def reached() -> np.ndarray:
        return starts[-1] + engine._moves[-1] + engine._onwards()

    np.testing.assert_allclose(reached(), way, atol=1e-6)
    engine._farthest = 0.2
    np.testing.assert_allclose(reached(), way.clip(-0.2, 0.2), atol=1e-6)
    engine._starts, engine._moves, engine._farthest = engine._starts[:1], engine._moves[:1], 10.0
    np.testing.assert_allclose(engine._onwards(), engine._moves[0] * (1 / cycles.USUAL_RATE - 1), atol=1e-6)


@torch.no_grad()
def test_small_moves_go_on_where_much_is_left_and_a_start_too_far_on_is_taken_back(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cycle goes a tenth of the way to the truth; beyond it the fit is worse, and no guide."""
    engine, _ = cycles_of(scan, scan.positions, recorded_of(scan))
    mode, end = engine._modes[0], 0.25
    starts: list[float] = []

    def along(positions: np.ndarray) -> float:
        return float((mode * (positions - scan.positions)).sum() / len(positions))

    def moved(problem: Problem, start: Placed, *_: object) -> Placed:
        starts.append(along(start.positions))
        return replace(start, positions=start.positions + 0.1 * (end - starts[-1]) * mode)

    def fit(problem: Problem, *_: object) -> dict[str, float]:
        here = along(problem.forward.positions)
        found = 1.0 + (end - here if here < end + 0.02 else 5.0)
        return {"fit": found, "held_out_fit": found, "excess": 0.0}

    monkeypatch.setattr(cycles, "FURTHER", 0.0)
    monkeypatch.setattr(cycles, "refined", moved)
    monkeypatch.setattr(cycles, "full_fit", fit)
    monkeypatch.setattr(SlowCycles, "_report", lambda *_: {})
    engine.epoch()
    assert engine.most_epochs == 2, "0.025 px are a small move, but the first of many"
    truth = engine._along(scan.positions + end * mode)
    monkeypatch.setattr(cycles, "FARTHEST", np.inf)
    monkeypatch.setattr(SlowCycles, "_onwards", lambda self: 1.5 * (truth - self._starts[-1] - self._moves[-1]))
    while len(starts) < engine.most_epochs:
        engine.epoch()
    assert max(starts) > end + 0.02
    assert engine._failed > 0
    assert abs(along(engine._best.positions) - end) < end / 2


def test_independent_errors_hold_as_much_as_they_do_on_average(scan: Scan) -> None:
    draws = np.random.default_rng(1).normal(0, 2, (200, *scan.positions.shape))
    modes = np.stack(slow_modes(scan.positions))
    true = np.sqrt(np.mean([((modes * draw).sum((1, 2)) ** 2).sum() / len(draw) ** 2 for draw in draws]))
    found = np.mean([held_by_chance(scan.positions, scan.positions + draw) for draw in draws])
    assert found == pytest.approx(true, rel=0.1)
    assert holds_slow(scan.positions, scan.positions + draws[0])
    assert holds_slow(scan.positions, turned(scan, 3.0))
    assert not holds_slow(scan.positions, turned(scan, 0.5))
    assert not holds_slow(scan.positions, scan.positions + draws[0] / 10)
