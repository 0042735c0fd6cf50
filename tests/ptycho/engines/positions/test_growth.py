"""Positions found from a small part of the scan outwards: in what state the search ends, is stopped and goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions import growth
from diptych.ptycho.engines.positions.growth import Growth, Method
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan
from diptych.runtime.interrupts import stoppable


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> Scan:
    """A small scan, of which one small part is tried, in one cycle, and extended however well it fits."""
    for name, value in {"SEED_PATTERNS": 12, "CYCLES": 1, "USABLE_SEED": np.inf}.items():
        monkeypatch.setattr(growth, name, value)
    return diptych.simulate(object="natural", size=16, patterns=20, step=2.0, dose=1e6, seed=1)


def growth_of(
    scan: Scan, positions: np.ndarray, refine_probe: bool = True, most: int = 1
) -> tuple[Growth, Problem, torch.Tensor]:
    wrong = replace(scan, positions=positions, truth=None)
    problem = make_problem(wrong, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.02, seed=0)
    assert scan.probe is not None
    start = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
    method = Method(
        PieSettings(refine_probe=refine_probe),
        LikelihoodSettings(batch=sweep_batch(problem), refine_probe=refine_probe),
    )
    with torch.no_grad():
        return Growth(problem, problem.flat_object(), start, (start,), positions, method, most), problem, start


@torch.no_grad()
def finished(engine: Growth) -> Growth:
    done = 0
    while done < engine.most_epochs and done < 40:
        engine.epoch()
        done += 1
    return engine


def test_a_fixed_probe_stays(scan: Scan) -> None:
    engine, problem, probe = growth_of(scan, scan.positions, refine_probe=False)
    before = problem.forward.positions.copy()
    finished(engine)
    assert engine.probe.equal(probe)
    assert not np.array_equal(problem.forward.positions, before)


@torch.no_grad()
def test_a_search_that_was_stopped_goes_on_with_the_same_numbers(scan: Scan) -> None:
    whole, problem, _ = growth_of(scan, scan.positions)
    finished(whole)
    stopped, _, _ = growth_of(scan, scan.positions)
    stopped.epoch()
    stopped.epoch()
    kept = {name: value.clone() for name, value in stopped.state().items()}
    with stoppable(lambda: True), pytest.raises(KeyboardInterrupt):
        stopped.epoch()
    resumed, again, _ = growth_of(scan, scan.positions)
    resumed.restore(kept)
    done = 2
    while done < resumed.most_epochs:
        resumed.epoch()
        done += 1
    assert done > 3
    assert not np.array_equal(problem.forward.positions, scan.positions)
    assert resumed.image.equal(whole.image)
    assert np.array_equal(again.forward.positions, problem.forward.positions)


@torch.no_grad()
def test_a_pattern_that_fits_nowhere_is_left_out(scan: Scan) -> None:
    alien = 7
    counts = scan.counts.copy()
    counts[alien] = np.random.default_rng(0).permutation(counts[alien].ravel()).reshape(counts[alien].shape)
    engine, _, _ = growth_of(replace(scan, counts=counts), scan.positions)
    finished(engine)
    assert alien not in engine.state()["growth_rows"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("alien", [False, True], ids=["right frames", "a frame that fits nowhere"])
def test_a_drift_is_recovered_from_a_small_part(alien: bool) -> None:
    scan = diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, seed=1)
    true, t = scan.positions, np.linspace(0, 1, 64)
    drift = 15 * np.stack([0.8 * t**2, 0.6 * np.sin(2.5 * t)], 1)
    wrong = true + drift + np.random.default_rng(3).normal(0, 1.06, true.shape)
    counts = scan.counts.copy()
    if alien:
        counts[27] = np.random.default_rng(0).permutation(counts[27].ravel()).reshape(counts[27].shape)
    engine, problem, _ = growth_of(replace(scan, counts=counts), wrong, most=8)
    finished(engine)
    off = np.delete(problem.forward.positions - true, [27] if alien else [], axis=0)
    # In the end the alien frame is in the object again, and moves its neighbours.
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < (0.5 if alien else 0.2)
