"""A scan of the wrong scale along one axis: found along the score of all positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions import line
from diptych.ptycho.engines.positions.line import SIZES, AroundSearch, LineSearch, downhill
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.problem import Problem, make_problem
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan

STRETCH = 1.03


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(object="natural", size=32, patterns=144, step=4.0, dose=1e6, probe_error=0.3, seed=3)


@pytest.fixture(scope="module")
def stretched(scan: Scan) -> Scan:
    middle = scan.positions.mean(0)
    places = middle + (scan.positions - middle) * np.array([1.0, STRETCH])
    return replace(scan, positions=places, truth=None, true_probe=None)


@pytest.fixture(scope="module")
def reached(stretched: Scan) -> tuple[Problem, Placed]:
    """What PIE and maximum likelihood reach at the wrong positions."""
    problem = make_problem(stretched, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.03, seed=0)
    probe = scaled_to(torch.from_numpy(stretched.probe.copy()), problem.power)
    pie = Pie(problem, problem.flat_object(), probe, PieSettings(batch=9), np.random.default_rng(0))
    for _ in range(14):
        pie.epoch()
    engine = MaximumLikelihood(problem, pie.image, pie.probe, LikelihoodSettings())
    for _ in range(24):
        engine.epoch()
    return problem, Placed.of(problem, engine.image.clone(), engine.probe.clone())


def off(positions: np.ndarray, scan: Scan) -> float:
    """Distance from the true positions, px rms, common shift left out."""
    rest = positions - scan.positions
    return float(np.sqrt(((rest - rest.mean(0)) ** 2).sum(1).mean()))


def search(reached: tuple[Problem, Placed]) -> LineSearch:
    problem, placed = reached
    return LineSearch(problem, placed.image, placed.probe, PieSettings(batch=9), LikelihoodSettings(), placed)


def test_the_score_points_at_the_true_positions(scan: Scan, reached: tuple[Problem, Placed]) -> None:
    problem, placed = reached
    way, error = downhill(problem, placed), scan.positions - placed.positions
    error = error - error.mean(0)
    assert np.sqrt((way**2).sum(1).mean()) == pytest.approx(1, abs=1e-6)
    assert (way * error).sum() / np.sqrt((way**2).sum() * (error**2).sum()) > 0.95


def test_the_search_goes_most_of_the_way_and_a_resumed_one_gives_the_same(
    scan: Scan, reached: tuple[Problem, Placed]
) -> None:
    problem, placed = reached
    before = off(placed.positions, scan)
    one = search(reached)
    one.epoch()
    np.testing.assert_array_equal(problem.forward.positions, placed.positions)
    one.epoch()
    state = {name: value.clone() for name, value in one.state().items()}
    while one.most_epochs > len(one._levels):
        report = one.epoch()
    assert len(one._levels) < len(SIZES)
    assert off(problem.forward.positions, scan) < 0.4 * before
    assert report["held_out_fit"] < 2

    other = search(reached)
    other.restore(state)
    while other.most_epochs > len(other._levels):
        other.epoch()
    np.testing.assert_allclose(other._levels, one._levels, rtol=1e-6)
    np.testing.assert_allclose(other.image.numpy(), one.image.numpy(), atol=1e-4)


def test_by_default_the_true_scale_is_found(scan: Scan, stretched: Scan) -> None:
    result = diptych.reconstruct(stretched)
    assert off(stretched.positions, scan) > 0.3
    assert off(result.positions, scan) < 0.05


@pytest.fixture(scope="module")
def half_a_pixel(scan: Scan) -> tuple[Problem, Placed]:
    """Object and probe at positions that are stretched by 0.5 px rms along both axes."""
    there = scan.positions - scan.positions.mean(0)
    places = scan.positions + 0.5 * there / np.sqrt((there**2).sum(1).mean())
    wrong = replace(scan, positions=places, truth=None, true_probe=None)
    problem = make_problem(wrong, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.03, seed=0)
    probe = scaled_to(torch.from_numpy(wrong.probe.copy()), problem.power)
    pie = Pie(problem, problem.flat_object(), probe, PieSettings(batch=9), np.random.default_rng(0))
    for _ in range(20):
        pie.epoch()
    return problem, Placed.of(problem, pie.image.clone(), pie.probe.clone())


def test_the_right_scale_is_found_and_a_resumed_search_gives_the_same(
    scan: Scan, half_a_pixel: tuple[Problem, Placed]
) -> None:
    problem, placed = half_a_pixel

    def made() -> AroundSearch:
        place(problem, placed)
        return AroundSearch(problem, placed.image, placed.probe, PieSettings(batch=9), LikelihoodSettings())

    one = made()
    one.epoch()
    state, best = {name: value.clone() for name, value in one.state().items()}, one._best
    while one.most_epochs > len(one._levels) - 1:
        one.epoch()
    assert one.most_epochs == 9
    assert off(problem.forward.positions, scan) < 0.2 * off(placed.positions, scan)
    found = problem.forward.positions
    other = made()
    other.restore(state)
    other._best = best
    while other.most_epochs > len(other._levels) - 1:
        other.epoch()
    assert other._levels == one._levels
    np.testing.assert_array_equal(problem.forward.positions, found)


def test_a_start_stays_where_no_scale_fits_better(
    monkeypatch: pytest.MonkeyPatch, half_a_pixel: tuple[Problem, Placed]
) -> None:
    problem, placed = half_a_pixel
    levels = iter([1.1, 1.2, *[1.19] * 8])
    monkeypatch.setattr(line, "level", lambda found: next(levels))
    monkeypatch.setattr(line, "refined", lambda problem, here, *_: here)
    place(problem, placed)
    search = AroundSearch(problem, placed.image, placed.probe, PieSettings(batch=9), LikelihoodSettings())
    for _ in range(search.most_epochs):
        search.epoch()
    assert search.image.equal(placed.image)
    np.testing.assert_allclose(problem.forward.positions, placed.positions, atol=1e-9)


@pytest.mark.parametrize(
    ("levels", "least"),
    [
        ([1.2], 1.2),
        ([1.2, 1.195], 1.195),  # The new object at the start is the best so far.
        ([1.2, 1.195, 1.17], 1.17),
        ([1.2, 1.3], 1.27),  # It had fewer epochs: a tenth below its excess is clear.
        ([1.2, 1.3, 1.28], 1.27),
        ([1.2, 1.3, 1.25], 1.25),
        ([1.2, 1.21], 1.2),
    ],
)
def test_what_a_new_object_must_reach(half_a_pixel: tuple[Problem, Placed], levels: list[float], least: float) -> None:
    problem, placed = half_a_pixel
    place(problem, placed)
    search = AroundSearch(problem, placed.image, placed.probe, PieSettings(), LikelihoodSettings())
    search._levels = levels
    assert search._least() == pytest.approx(least)
