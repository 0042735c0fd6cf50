"""Refinement of positions: derivatives, the test of the positions, distortions, and whole reconstructions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import diptych
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.distortion import DistortionSearch, displaced, distortions
from diptych.ptycho.engines.positions.placing import Placed, place
from diptych.ptycho.engines.positions.score import position_score
from diptych.ptycho.engines.problem import Problem, make_problem
from diptych.ptycho.physics.patches import cut


def scan_of(error: float, *, patterns: int = 64, dose: float = 1e6, size: int = 32) -> tuple[diptych.Scan, NDArray]:
    """A scan whose positions are wrong by ``error`` pixels rms, with the right ones."""
    scan = diptych.simulate(object="blocks", size=size, patterns=patterns, step=4.0, dose=dose, seed=1)
    wrong = scan.positions + np.random.default_rng(5).normal(0, error / np.sqrt(2), scan.positions.shape)
    return replace(scan, positions=wrong, truth=None), scan.positions


def problem_of(scan: diptych.Scan, double: bool = False) -> Problem:
    return make_problem(
        scan, device=torch.device("cpu"), double=double, subpixel=True, held_out=0.01, seed=0, power=None
    )


def rms(found: NDArray, right: NDArray) -> float:
    """Distance rms, common shift removed."""
    off = found - right
    return float(np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()))


def test_the_derivative_along_a_shift_is_that_of_the_exit_waves() -> None:
    # An odd side has no Nyquist frequency, whose small derivative is neglected.
    scan, _ = scan_of(0.7, patterns=9, size=17)
    forward = problem_of(scan, double=True).forward
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(2, *forward.shape))).mul_(0.3)
    image = torch.complex(1 + image[0], image[1])
    probe = torch.from_numpy(scan.probe.astype(np.complex128))
    batch = np.arange(9)
    waves = torch.from_numpy(rng.normal(size=(2, 9, 1, 17, 17)))
    waves = torch.complex(waves[0], waves[1])
    _, along = forward.probe_and_shift_adjoint(forward.views(image, probe, batch), waves.clone())
    step = 1e-4
    for axis in (0, 1):
        sides = []
        for sign in (1, -1):
            fractions = forward.fractions.clone()
            fractions[:, axis] += sign * step
            moved = forward.views(image, probe, batch, fractions).exit_waves()
            sides.append((waves.conj() * moved).real.sum((1, 2, 3)))
        torch.testing.assert_close(along[:, axis], (sides[0] - sides[1]) / (2 * step), rtol=1e-4, atol=1e-3)


def test_right_positions_gain_what_noise_gains_and_wrong_ones_more() -> None:
    gains = []
    for error in (0.0, 0.3):
        scan, _ = scan_of(error, dose=1e5)
        result = diptych.reconstruct(scan, correct_positions="off", epochs=40, probe="fixed")
        problem = problem_of(scan)
        image, probe = (torch.from_numpy(a) for a in (result.object.values, result.probe))
        gains.append(position_score(problem, image, probe).gains())
    assert all(len(each) == 64 for each in gains)
    # One nat on average for the true object; less for a fitted one.
    assert 0.2 < np.mean(gains[0]) < 2
    assert np.median(gains[1]) > 10 * np.median(gains[0])


def test_distortions_are_orthogonal_and_shift_nothing_as_a_whole() -> None:
    positions = diptych.simulate(size=16, patterns=100, step=3.0, seed=0).positions
    modes = np.stack(distortions(positions)).reshape(-1, 200)
    np.testing.assert_allclose(modes @ modes.T / 100, np.eye(len(modes)), atol=1e-9)
    np.testing.assert_allclose(modes.reshape(-1, 100, 2).mean(1), 0, atol=1e-9)
    assert 4 <= len(modes) <= 8


def test_a_displaced_object_goes_with_the_positions() -> None:
    """Moving all positions by whole pixels moves the object: every window sees what it saw."""
    scan, _ = scan_of(0.0, patterns=16)
    problem = problem_of(replace(scan, positions=np.rint(scan.positions)))
    values = torch.from_numpy(np.random.default_rng(0).random(problem.shape)).to(torch.complex64)
    start = Placed.of(problem, values, torch.from_numpy(scan.probe))
    before = cut(values, start.positions, 32, origin=start.origin)
    moved = displaced(problem, start, np.full_like(start.positions, 3.0))
    image = place(problem, moved)
    after = cut(image, moved.positions, 32, origin=problem.origin)
    inner = slice(4, -4)
    torch.testing.assert_close(after[:, inner, inner], before[:, inner, inner], atol=2e-2, rtol=0)


def test_the_canvas_grows_with_the_positions_and_nothing_is_cut_off() -> None:
    scan, _ = scan_of(0.0, patterns=16)
    problem = problem_of(scan)
    image = 2 * problem.flat_object()
    old_origin, old_shape = problem.origin, problem.shape
    positions = scan.positions.copy()
    positions[0] -= 20
    grown = place(problem, Placed(image, torch.from_numpy(scan.probe), positions, old_origin))
    assert tuple(grown.shape) == problem.shape
    y, x = (a - b for a, b in zip(old_origin, problem.origin, strict=True))
    assert (grown[y : y + old_shape[0], x : x + old_shape[1]] == 2).all()
    assert grown[0, 0] == 1
    np.testing.assert_allclose(problem.forward.positions, positions, atol=1e-12)


@pytest.mark.integration
def test_wrong_positions_are_found_and_right_ones_left_alone() -> None:
    wrong, right = scan_of(1.0)
    found = diptych.reconstruct(wrong, correct_positions="auto")
    assert rms(found.positions, right) < 0.15
    assert abs((found.positions - wrong.positions).mean(0)).max() < 0.51, "no common shift"
    kept = diptych.reconstruct(scan_of(0.0)[0], correct_positions="auto")
    np.testing.assert_allclose(kept.positions, right, atol=1e-9)
    off = diptych.reconstruct(wrong, correct_positions="off")
    assert off.provenance["held_out_fit"] > 2 * found.provenance["held_out_fit"]


@pytest.mark.integration
def test_a_refinement_that_is_interrupted_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    scan, _ = scan_of(1.0, patterns=25)
    whole = diptych.reconstruct(scan, correct_positions="auto", epochs=45, stop=False)

    class Stops:
        """Asks for a stop after some epochs."""

        def __init__(self, after: int) -> None:
            self.left = after

        @property
        def requested(self) -> bool:
            self.left -= 1
            return self.left < 0

    checkpoint = tmp_path / "checkpoint.npz"
    with pytest.raises(KeyboardInterrupt):
        diptych.reconstruct(
            scan, correct_positions="auto", epochs=45, stop=False, checkpoint=checkpoint, cancel=Stops(33)
        )
    again = diptych.reconstruct(
        scan, correct_positions="auto", epochs=45, stop=False, checkpoint=checkpoint, resume=True
    )
    np.testing.assert_array_equal(again.positions, whole.positions)
    np.testing.assert_array_equal(again.object.values, whole.object.values)


def test_the_search_of_distortions_finds_a_rotation() -> None:
    scan = diptych.simulate(object="blocks", size=32, patterns=100, step=4.0, dose=1e6, seed=1)
    turn = np.deg2rad(4.0)
    centre = scan.positions.mean(0)
    wrong = (
        centre + (scan.positions - centre) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).T
    )
    problem = problem_of(replace(scan, positions=wrong, truth=None))
    probe = torch.from_numpy(scan.probe)
    with torch.no_grad():
        search = DistortionSearch(problem, problem.flat_object(), probe, PieSettings(batch=8))
        for _ in range(search.most_epochs):
            search.epoch()
    assert rms(problem.forward.positions, scan.positions) < 0.5 * rms(wrong, scan.positions)
