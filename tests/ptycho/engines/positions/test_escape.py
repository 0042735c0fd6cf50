"""Single positions far off: found by a search around them, and told in the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.flags.base import MOVED, MOVED_FAR, by_kind, faults
from diptych.ptycho.engines.positions.escape import escaped, pattern_deviances
from diptych.ptycho.engines.positions.placing import position_flag, step_length
from diptych.ptycho.engines.problem import Problem, make_problem


def solved(scan: diptych.Scan) -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """The problem of a scan with its true object and probe."""
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.01, seed=0)
    assert scan.truth is not None
    assert scan.true_probe is not None
    (y, x), (h, w) = np.subtract(problem.origin, scan.truth.origin), problem.shape
    image = torch.from_numpy(scan.truth.values[y : y + h, x : x + w].astype(np.complex64))
    return problem, image, torch.from_numpy(scan.true_probe.astype(np.complex64))


@pytest.fixture(scope="module")
def scan() -> diptych.Scan:
    return diptych.simulate(object="blocks", size=32, patterns=36, step=4.0, dose=1e5, seed=1)


def test_a_position_that_is_far_off_is_found_and_the_others_stay(scan: diptych.Scan) -> None:
    problem, image, probe = solved(scan)
    np.testing.assert_array_equal(escaped(problem, image, probe), problem.forward.positions)
    wrong = scan.positions.copy()
    wrong[14] += (3.0, -2.0)
    problem.forward.move(wrong, problem.origin, problem.shape)
    found = escaped(problem, image, probe)
    assert np.abs(found[14] - scan.positions[14]).max() < 0.6
    np.testing.assert_allclose(np.delete(found, 14, 0), np.delete(scan.positions, 14, 0), atol=1e-6)


def test_deviances_are_those_of_noise_at_the_truth_and_defined_beyond_the_canvas(scan: diptych.Scan) -> None:
    problem, image, probe = solved(scan)
    every = np.arange(len(scan))
    right = pattern_deviances(problem, image, probe, scan.positions, every)
    assert (right < 1.3 * 32**2).all()
    some = np.array([0, 35])
    far = pattern_deviances(problem, image, probe, scan.positions[some] + [[-30.0, -30.0], [30.0, 30.0]], some)
    assert np.isfinite(far).all()
    assert (far > right[some]).all()


def test_masked_and_held_out_pixels_do_not_count(scan: diptych.Scan) -> None:
    mask = np.ones((32, 32), bool)
    mask[10:14] = False
    counts = scan.counts.copy()
    counts[:, ~mask] = 60000
    problem, image, probe = solved(replace(scan, counts=counts, mask=mask))
    assert (pattern_deviances(problem, image, probe, scan.positions, np.arange(36)) < 1.3 * 32**2).all()


def test_the_flag_says_how_far_and_far_moves_are_a_fault() -> None:
    recorded = np.stack(np.mgrid[:6, :6].astype(float), -1).reshape(-1, 2) * 8
    moves = np.random.default_rng(0).normal(size=recorded.shape)
    assert step_length(recorded) == 8
    assert step_length(recorded[:1]) == np.inf
    assert position_flag(recorded, recorded, 20.0) == ()
    near = position_flag(recorded + 0.5 * moves + 40, recorded, 20.0)
    assert list(by_kind(near)) == [MOVED]
    assert faults(near) == ()
    assert "common shift left out" in near[0]
    far = position_flag(recorded + 4 * moves, recorded, 20.0)
    assert faults(far) == (MOVED_FAR,)
    assert "step of 8" in far[0]
    assert faults(position_flag(recorded + 2 * moves, recorded, 5.0)) == (MOVED_FAR,), "against the probe"
