"""Decisions about refined positions: kept, on trial until other causes are excluded, or given up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions import correction
from diptych.ptycho.engines.positions.correction import LEAST_ROUNDS, POSITIONS_TEST, PositionCorrection
from diptych.ptycho.engines.positions.cycles import SlowCycles
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.positions.strays import StraySearch
from diptych.ptycho.engines.problem import Problem, make_problem

MOVE = np.array([0.4, -0.3])


@pytest.fixture
def problem() -> Problem:
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e5, seed=1)
    return make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.05, seed=0)


@pytest.fixture(autouse=True)
def _no_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "escaped", lambda problem, image, probe: problem.forward.positions)


def refined(problem: Problem, before: float, after: float, mode: str = "auto") -> tuple[PositionCorrection, str]:
    """A correction after rounds that moved every second position, and the stage that follows."""
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    made = PositionCorrection(problem, mode)
    stage, image, probe = made.begin(image, probe, before)
    moved = problem.forward.positions
    moved[::2] += MOVE
    for number in range(LEAST_ROUNDS + 1):
        assert stage == "positions", number
        image = place(problem, Placed(image, probe, moved, problem.origin))
        stage, image, probe = made.next_round(image, probe, after)
        if stage != "positions":
            break
    return made, stage


def test_refined_positions_that_lower_the_fit_are_kept(problem: Problem) -> None:
    recorded = problem.forward.positions
    made, stage = refined(problem, 2.5, 1.1)
    assert (stage, made.refined, made.open) == ("likelihood", True, True)
    np.testing.assert_allclose((problem.forward.positions - recorded)[::2], np.tile(MOVE, (8, 1)), atol=1e-6)
    assert made.fail(1.1, POSITIONS_TEST, settled=True) is None
    assert made.refined


@pytest.mark.parametrize(("now", "kept"), [(1.5, True), (9.0, False)])
def test_a_great_gain_that_ends_at_a_poor_fit_is_on_trial(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, now: float, kept: bool
) -> None:
    monkeypatch.setattr(PositionCorrection, "_may_be_distorted", lambda *_: False)
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    recorded = problem.forward.positions
    made, stage = refined(problem, 70.0, 15.0)
    assert (stage, made.refined) == ("likelihood", True)
    assert made.fail(now, POSITIONS_TEST - 1, settled=False) is None, "too early"
    other = PositionCorrection(problem, "auto")
    image = problem.flat_object()
    other.restore({**made.state(), "image": image})
    for each in (made, other):
        back = each.fail(now, POSITIONS_TEST, settled=False)
        assert (back is None) is kept
        assert each.refined is kept
    assert np.allclose(problem.forward.positions, recorded, atol=1e-9) is not kept


def test_a_small_gain_is_given_up_and_a_wish_is_followed(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PositionCorrection, "_may_be_distorted", lambda *_: False)
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    recorded = problem.forward.positions
    made, stage = refined(problem, 20.0, 15.0)
    assert (stage, made.refined) == ("likelihood", False)
    np.testing.assert_allclose(problem.forward.positions, recorded, atol=1e-9)
    made, stage = refined(problem, 20.0, 15.0, mode="on")
    assert (stage, made.refined) == ("likelihood", True)


def test_distortions_are_searched_where_the_fit_is_poor_or_the_moves_are_slow(problem: Problem) -> None:
    made = PositionCorrection(problem, "on")
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    made.begin(image, probe, 5.0)
    here = Placed.of(problem, image, probe)
    middle = here.positions.mean(0)
    stretched = Placed(image, probe, middle + 1.2 * (here.positions - middle), here.origin)
    assert not made._may_be_distorted(here, 1.5)
    assert made._may_be_distorted(here, 2.5)
    assert made._may_be_distorted(stretched, 1.5)
    assert not made._may_be_distorted(stretched, 1.2)


@pytest.mark.parametrize(("fit", "searched"), [(1.6, True), (3.5, False)])
def test_patterns_that_fit_badly_after_the_rounds_are_searched_once_where_the_others_fit(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, fit: float, searched: bool
) -> None:
    monkeypatch.setattr(correction, "strays", lambda *_: np.array([3]))
    monkeypatch.setattr(PositionCorrection, "_may_be_distorted", lambda *_: False)
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    made, stage = refined(problem, 20.0, fit)
    if not searched:
        assert stage == "likelihood"
        return
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert stage == "distortions"
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), StraySearch)
    stages = [made.next_round(image, probe, fit)[0] for _ in range(LEAST_ROUNDS + 1)]
    assert stages == ["positions"] * LEAST_ROUNDS + ["likelihood"]


def test_cycles_follow_once_where_the_moves_hold_slow_distortions(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    monkeypatch.setattr(correction, "holds_slow", lambda *_, least: True)
    made, stage = refined(problem, 20.0, 1.2)
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert stage == "distortions"
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), SlowCycles)
    stages = [made.next_round(image, probe, 1.2)[0] for _ in range(LEAST_ROUNDS + 1)]
    assert stages == ["positions"] * LEAST_ROUNDS + ["likelihood"]
    failed, stage = refined(problem, 1.21, 1.2)
    assert (stage, failed.refined) == ("likelihood", False)


@pytest.mark.parametrize(
    ("fits", "done"),
    [
        ([3.0, 2.0, 1.9, 1.8, 1.7], False),
        ([3.0, 2.0, 1.9, 1.8, 1.7, 1.65], False),
        ([1.30, 1.291, 1.291, 1.291, 1.291, 1.291], False),
        ([1.30, 1.291, 1.291, 1.291, 1.291, 1.291, 1.290], True),
        ([2.0 - 0.05 * n for n in range(15)], True),
    ],
)
def test_a_round_ends_where_it_no_longer_gains(fits: list[float], done: bool) -> None:
    assert PositionCorrection.round_is_done(fits) is done
