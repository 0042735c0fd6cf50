"""Scale, rotation and shear of refined positions are taken back unless the patterns prove them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions import linear
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.linear import WithoutLinear, linear_part, moves_linearly
from diptych.ptycho.engines.positions.placing import Positions, place
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, seed=2)


def stretched(positions: Positions, share: float = 0.04) -> Positions:
    middle = positions.mean(0)
    return np.asarray(middle + (1 + share) * (positions - middle))


def trial_of(scan: Scan, reached: Positions, recorded: Positions, epochs: int = 20) -> tuple[WithoutLinear, Problem]:
    """The trial after a reconstruction, with the probe known, that starts from positions (M, 2)."""
    problem = make_problem(
        replace(scan, positions=reached, truth=None),
        device=torch.device("cpu"),
        double=False,
        subpixel=True,
        held_out=0.02,
        seed=0,
    )
    assert scan.probe is not None
    probe = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
    likelihood = LikelihoodSettings(batch=sweep_batch(problem), refine_probe=False)
    here = rebuilt(problem, probe, PieSettings(batch=4, refine_probe=False))
    here = refined(problem, here, likelihood, epochs)
    return WithoutLinear(problem, place(problem, here), here.probe, likelihood, recorded), problem


def run(engine: WithoutLinear) -> int:
    done = 0
    while done < engine.most_epochs:
        engine.epoch()
        done += 1
    return done


def off(problem: Problem, positions: Positions) -> float:
    moves = problem.forward.positions - positions
    return float(np.sqrt(np.square(moves - moves.mean(0)).sum(1).mean()))


def test_the_linear_part_holds_scale_rotation_and_shear_and_no_shift(scan: Scan) -> None:
    there = scan.positions - scan.positions.mean(0)
    matrix = np.array([[0.01, -0.03], [0.02, 0.04]])
    rough = np.random.default_rng(0).normal(size=there.shape)
    rough -= rough.mean(0)
    rough -= linear_part(rough, scan.positions)
    moves = there @ matrix + rough + [3.0, -7.0]
    np.testing.assert_allclose(linear_part(moves, scan.positions), there @ matrix, atol=1e-9)
    assert not moves_linearly(scan.positions, scan.positions + rough + 5.0)
    assert moves_linearly(scan.positions, stretched(scan.positions))


@torch.no_grad()
def test_a_wrong_scale_that_was_recorded_is_not_brought_back(scan: Scan) -> None:
    recorded = stretched(scan.positions)
    engine, problem = trial_of(scan, scan.positions, recorded)
    assert off(problem, scan.positions) < 0.03
    run(engine)
    assert off(problem, scan.positions) < 0.03


@torch.no_grad()
def test_positions_that_return_by_themselves_were_right_whatever_the_fit(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, problem = trial_of(scan, scan.positions, stretched(scan.positions))
    monkeypatch.setattr(linear, "full_fit", lambda *_: {"fit": 1.2, "held_out_fit": 1.3})
    monkeypatch.setattr(WithoutLinear, "_report", lambda self, problem: {"width": len(place(problem, self._best))})
    run(engine)
    assert engine._back > linear.BACK
    assert off(problem, scan.positions) < 0.03


@torch.no_grad()
def test_a_scale_that_the_patterns_do_not_tell_is_taken_back(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that explains the patterns badly, here one of another brightness, tells scales badly, too."""
    engine, problem = trial_of(scan, stretched(scan.positions), scan.positions, epochs=0)
    levels = iter([1.30, 1.40, 1.32])
    monkeypatch.setattr(linear, "full_fit", lambda *_: {"fit": 1.2, "held_out_fit": next(levels), "excess": 0.1})
    monkeypatch.setattr(WithoutLinear, "_report", lambda self, problem: {"width": len(place(problem, self._best))})
    assert off(problem, scan.positions) > 0.5
    before = linear_part(problem.forward.positions - scan.positions, scan.positions)
    assert run(engine) == 2
    after = linear_part(problem.forward.positions - scan.positions, scan.positions)
    assert np.linalg.norm(after) < 0.2 * np.linalg.norm(before)


@pytest.mark.parametrize(
    ("fit", "levels", "done"),
    [
        (1.2, [1.30, 1.32], 1),
        (1.2, [1.30, 1.40, 1.40, 1.40], 3),
        (1.2, [1.30, 1.60], 1),
        (0.9, [1.11, 1.1109], 1),
        (0.9, [1.11, 1.1115, 1.1115, 1.1115], 3),
        (0.9, [1.11, 1.13], 1),
        (1.2, [1.30, np.nan], 1),
    ],
)
@torch.no_grad()
def test_rounds_go_on_while_there_is_hope(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, fit: float, levels: list[float], done: int
) -> None:
    engine, _ = trial_of(scan, stretched(scan.positions, 0.02), scan.positions)
    monkeypatch.setattr(linear, "refined", lambda problem, start, *_: start)
    found = iter(levels)
    monkeypatch.setattr(linear, "full_fit", lambda *_: {"fit": fit + 0 * (last := next(found)), "held_out_fit": last})
    monkeypatch.setattr(WithoutLinear, "_report", lambda *_: {})
    start = engine._best
    assert run(engine) == done
    taken = levels[-1] - levels[0] <= 0.1 * max((fit * levels[0]) ** 0.5 - 1, 0.01)
    assert (engine._best is not start) is taken


@torch.no_grad()
def test_a_resumed_trial_is_the_same(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "HOPELESS", np.inf)
    monkeypatch.setattr(linear, "BACK", np.inf)
    recorded = stretched(scan.positions)
    engine, _ = trial_of(scan, scan.positions, recorded)
    engine.epoch()
    kept = {name: value.clone() for name, value in engine.state().items()}
    engine.epoch()
    other, _ = trial_of(scan, scan.positions, recorded)
    other.restore(kept)
    assert other.most_epochs == 2
    other.epoch()
    assert other._levels == engine._levels
    assert np.array_equal(other._trial.positions, engine._trial.positions)
    assert other._trial.image.equal(engine._trial.image)
