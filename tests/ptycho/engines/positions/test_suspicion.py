"""When positions are tested in a run, and what says that they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import diptych
from diptych.ptycho.engines.positions.distortion import distortions
from diptych.ptycho.engines.positions.score import PositionScore, position_score
from diptych.ptycho.engines.positions.suspicion import (
    COMMON_SCORE,
    POSITIONS_DOUBT,
    POSITIONS_SCORE,
    POSITIONS_TEST,
    POSITIONS_TEST_SOON,
    PositionTest,
)
from diptych.ptycho.engines.problem import Problem, make_problem

NOTHING = torch.zeros(0)
RIGHT, DOUBTFUL, WRONG = POSITIONS_SCORE / 4, (POSITIONS_SCORE + POSITIONS_DOUBT) / 2, 10 * POSITIONS_DOUBT

Scores = Callable[..., None]


@pytest.fixture
def problem() -> Problem:
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e5, seed=1)
    return make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.05, seed=0)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    """Sets the gains of single positions and of common distortions."""

    def put(single: float, common: float = 0.0) -> None:
        monkeypatch.setattr(PositionTest, "_gains", lambda *_: (single, common))

    return put


def asked(test: PositionTest, epochs: int, fit: float = 1.1, settled: bool = False, soon: bool = False) -> bool:
    return test.wrong(NOTHING, NOTHING, {"fit": fit, "held_out_fit": fit}, epochs, settled, soon)


def test_large_gains_are_believed_at_the_first_test_and_small_ones_are_asked_once(
    problem: Problem, scores: Scores
) -> None:
    scores(WRONG)
    assert not asked(PositionTest(problem, "auto"), POSITIONS_TEST - 1)
    assert asked(PositionTest(problem, "auto"), POSITIONS_TEST)
    assert asked(PositionTest(problem, "auto"), POSITIONS_TEST_SOON, soon=True)
    assert not asked(PositionTest(problem, "off"), POSITIONS_TEST)
    scores(RIGHT, COMMON_SCORE / 2)
    test = PositionTest(problem, "auto")
    assert not asked(test, POSITIONS_TEST)
    assert test.mode == "off"
    assert asked(PositionTest(problem, "on"), 1)


@pytest.mark.parametrize(("single", "common"), [(DOUBTFUL, 0.0), (RIGHT, 3 * COMMON_SCORE)])
def test_doubtful_gains_are_tested_again_until_the_fit_falls_no_more(
    problem: Problem, scores: Scores, single: float, common: float
) -> None:
    scores(single, common)
    test = PositionTest(problem, "auto")
    fits = [1.5, 1.4, 1.3, 1.295]
    found = []
    for number, fit in enumerate(fits):
        due = POSITIONS_TEST * (number + 1)
        assert not asked(test, due - 1, fit)
        again = PositionTest(problem, "off")
        again.restore(test.state())
        found.append(asked(test, due, fit))
        assert asked(again, due, fit) is found[-1]
    assert found == [False, False, False, True]
    assert test.distorted is (common > COMMON_SCORE)


def test_a_run_that_has_settled_is_not_asked_again_and_one_that_became_right_is_left(
    problem: Problem, scores: Scores
) -> None:
    scores(DOUBTFUL)
    assert asked(PositionTest(problem, "auto"), 3, settled=True)
    test = PositionTest(problem, "auto")
    assert not asked(test, POSITIONS_TEST, 1.5)
    scores(RIGHT)
    assert not asked(test, 2 * POSITIONS_TEST, 1.1)
    assert test.mode == "off"


def test_another_reading_goes_before_positions(problem: Problem, scores: Scores) -> None:
    scores(WRONG)
    told: list[bool] = []

    def misread(lost: bool) -> str:
        told.append(lost)
        return "transposed patterns"

    test = PositionTest(problem, "auto", misread)
    assert not asked(test, POSITIONS_TEST)
    assert test.misread(lost=True)
    assert told == [False, True]


def reconstructed(stretch: float) -> tuple[Problem, Tensor, Tensor]:
    """A scan with one axis stretched, and what is reached at its positions."""
    scan = diptych.simulate(object="natural", size=32, patterns=144, step=4.0, dose=1e6, probe_error=0.3, seed=3)
    middle = scan.positions.mean(0)
    scan = replace(scan, positions=middle + (scan.positions - middle) * np.array([1.0, stretch]), truth=None)
    result = diptych.reconstruct(scan, correct_positions="off", modes=1, epochs=60)
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.03, seed=0)
    image = problem.flat_object()
    top, left = (a - b for a, b in zip(result.object.origin, problem.origin, strict=True))
    height, width = result.object.values.shape
    image[int(top) : int(top) + height, int(left) : int(left) + width] = torch.from_numpy(result.object.values)
    return problem, image, torch.from_numpy(result.probe)


def test_one_axis_that_is_stretched_shows_in_all_positions_together() -> None:
    """The object is stretched along, and the probe's focus differs along one axis: each position hardly tells."""
    common = []
    for stretch in (1.0, 1.02):
        problem, image, probe = reconstructed(stretch)
        score = position_score(problem, image, probe)
        common.append(score.common_gain(distortions(problem.forward.positions)))
        if stretch == 1.0:
            assert np.median(score.gains()) < POSITIONS_SCORE
    assert common[0] < COMMON_SCORE / 2
    assert common[1] > 2 * COMMON_SCORE


def test_gains_of_gaussian_scores_are_those_of_their_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4000, 2, 2))
    score = PositionScore((root @ rng.normal(size=(4000, 2, 1)))[..., 0], root @ root.transpose(0, 2, 1))
    assert score.gains().mean() == pytest.approx(1.0, abs=0.05)
    directions = [rng.normal(size=(4000, 2)) for _ in range(200)]
    assert score.common_gain(directions) == pytest.approx(100, rel=0.25)
