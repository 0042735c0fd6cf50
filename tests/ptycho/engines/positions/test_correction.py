"""Decisions about refined positions: kept, on trial until other causes are excluded, or given up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions import correction
from diptych.ptycho.engines.positions.correction import LEAST_ROUNDS, POSITIONS_TEST, SMALL_MOVE, PositionCorrection
from diptych.ptycho.engines.positions.cycles import SlowCycles
from diptych.ptycho.engines.positions.line import AroundSearch, LineSearch
from diptych.ptycho.engines.positions.linear import WithoutLinear
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.positions.slow import SLOW_MOVE
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


def refined(
    problem: Problem, before: float, after: float, mode: str = "auto", fit: float | None = None
) -> tuple[PositionCorrection, str]:
    """A correction after rounds that moved every second position, and the stage that follows. Held-out fits are given,
    and the fit of the start, which is that of the held-out pixels unless it is given.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "full_fit", lambda *_: {"fit": before if fit is None else fit})
        return _refined(problem, before, after, mode)


def _refined(problem: Problem, before: float, after: float, mode: str) -> tuple[PositionCorrection, str]:
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


@pytest.mark.parametrize(("mode", "kept"), [("auto", False), ("on", True)])
def test_moves_that_no_stage_makes_are_kept_only_on_request(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, mode: str, kept: bool
) -> None:
    """All positions moved alike are a move of the probe; what is left of these moves is 0.002 px."""
    monkeypatch.setitem(globals(), "MOVE", MOVE * 0.01)
    recorded = problem.forward.positions
    made, stage = refined(problem, 2.5, 1.1, mode)
    assert (stage, made.refined) == ("likelihood", kept)
    assert np.allclose(problem.forward.positions, recorded, atol=1e-9) is not kept


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
    limits: list[float] = []
    monkeypatch.setattr(correction, "holds_slow", lambda *_, least: bool(limits.append(least) or True))
    made, stage = refined(problem, 20.0, 1.2)
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert stage == "distortions"
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), SlowCycles)
    stages = [made.next_round(image, probe, 1.2)[0] for _ in range(LEAST_ROUNDS + 1)]
    assert stages == ["positions"] * LEAST_ROUNDS + ["likelihood"]
    failed, stage = refined(problem, 1.21, 1.2)
    assert (stage, failed.refined) == ("likelihood", False)
    refined(problem, 20.0, 1.4)
    refined(problem, 20.0, 1.2, mode="on")
    assert limits == [SLOW_MOVE, SMALL_MOVE, SMALL_MOVE]


def test_scale_rotation_and_shear_are_tried_without_once(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    monkeypatch.setattr(correction, "moves_linearly", lambda *_, **__: True)
    monkeypatch.setattr(correction, "UNEXPLAINED", np.inf)
    made, stage = refined(problem, 20.0, 1.2)
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert stage == "distortions"
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), WithoutLinear)
    stages = [made.next_round(image, probe, 1.2)[0] for _ in range(LEAST_ROUNDS + 1)]
    assert stages == ["positions"] * LEAST_ROUNDS + ["likelihood"]
    failed, stage = refined(problem, 1.21, 1.2)
    assert (stage, failed.refined) == ("likelihood", False)


def test_other_scales_are_tried_where_something_is_left_unexplained(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    monkeypatch.setattr(correction, "moves_linearly", lambda *_, **__: True)
    monkeypatch.setattr(correction, "misfit_at", lambda *_: 1.08)
    made, stage = refined(problem, 20.0, 1.2)
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert stage == "distortions"
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), AroundSearch)


def test_what_many_unknowns_fit_to_few_photons_is_no_excess(problem: Problem) -> None:
    """Fits of 0.9 and 1.3 leave less unexplained than 1.3 and 1.3: a smaller gain counts."""
    assert refined(problem, 1.3, 1.28)[0].refined is False
    assert refined(problem, 1.3, 1.28, fit=0.9)[0].refined is True
    assert refined(problem, 1.3, 1.295, fit=0.9)[0].refined is False


def test_the_score_is_followed_where_only_all_positions_together_tell_that_they_are_wrong(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds hardly lower the fit there."""
    made, stage = refined(problem, 1.22, 1.21)
    assert (stage, made.refined) == ("likelihood", False)
    init = PositionCorrection.__init__

    def distorted(self: PositionCorrection, *given: Any) -> None:
        init(self, *given)
        self._test.distorted = True

    monkeypatch.setattr(PositionCorrection, "__init__", distorted)
    made, stage = refined(problem, 1.22, 1.21)
    assert stage == "distortions"
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    assert isinstance(made.search(image, probe, PieSettings(), LikelihoodSettings()), LineSearch)


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


LOST = {"fit": 50.0, "held_out_fit": 60.0, "excess": 0.1}
STALLED = [60.0] * 10


def lost(problem: Problem, mode: str = "auto", why: str = "") -> tuple[PositionCorrection, list[bool]]:
    """A correction with an initial probe to start from, and what its question for a reading was told."""
    asked: list[bool] = []

    def misread(last: bool) -> str:
        asked.append(last)
        return why

    return PositionCorrection(problem, mode, misread, (torch.ones(1, 16, 16, dtype=torch.complex64),)), asked


def test_positions_are_searched_once_where_nothing_fits_and_the_fit_stalls(problem: Problem) -> None:
    made, asked = lost(problem)
    assert not made.are_lost(LOST, STALLED[:5], STALLED[:5]), "too early"
    assert not made.are_lost({**LOST, "excess": 1e-4}, STALLED, STALLED), "photon noise explains nearly all"
    assert not made.are_lost({**LOST, "held_out_fit": 2.0}, STALLED, STALLED)
    assert made.are_lost(LOST, STALLED, STALLED)
    assert asked == [True]
    assert not made.are_lost(LOST, STALLED, STALLED), "once"
    for mode in ("on", "off"):
        assert not lost(problem, mode)[0].are_lost(LOST, STALLED, STALLED)
    assert not lost(problem, why="another reading stands out")[0].are_lost(LOST, STALLED, STALLED)


@torch.no_grad()
def test_searches_that_were_made_are_not_made_again(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PositionCorrection, "_may_be_distorted", lambda *_: False)
    made, _ = lost(problem)
    image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
    stage, image, probe = made.begin(image, probe, 60.0)
    while stage != "likelihood":
        stage, image, probe = made.next_round(image, probe, 60.0)
    assert not made.refined
    resumed, _ = lost(problem)
    resumed.restore({**made.state(), "image": image})
    for each in (made, resumed):
        assert not each.are_lost(LOST, STALLED, STALLED)


@torch.no_grad()
def test_the_last_searches_are_given_up_where_they_find_nothing_and_kept_where_they_prove_right(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PositionCorrection, "_may_be_distorted", lambda *_: False)
    monkeypatch.setattr(correction, "moves_slowly", lambda *_: False)
    monkeypatch.setattr(correction, "LEAST_MOVE", 0.0)  # Nothing moves here.
    recorded = problem.forward.positions
    for found, kept in ((59.0, False), (5.5, True)):
        made, _ = lost(problem)
        assert made.are_lost(LOST, STALLED, STALLED)
        image, probe = problem.flat_object(), torch.ones(1, 16, 16, dtype=torch.complex64)
        stage, image, probe = made.search_all(image, probe, 60.0)
        stages = []
        while stage != "likelihood":
            stages.append(stage)
            resumed, _ = lost(problem)
            resumed.restore({**made.state(), "image": image})
            made = resumed
            stage, image, probe = made.next_round(image, probe, found)
        # A flat object, and a small part where that finds nothing; rounds where it finds something.
        assert stages == (["distortions", "positions", "positions", "distortions"] if kept else ["distortions"] * 2)
        assert made.refined is kept
    assert np.allclose(problem.forward.positions, recorded, atol=1e-9)


def test_a_state_of_an_earlier_version_is_read(problem: Problem) -> None:
    """It has no excess of the misfit."""
    made, _ = refined(problem, 2.5, 1.1)
    state = {"image": problem.flat_object(), **made.state()}
    again = PositionCorrection(problem, "auto")
    again.restore(state)
    assert again._excess == made._excess
    again.restore({**state, "round_fit": state["round_fit"][:2]})
    assert again._fit == made._fit
