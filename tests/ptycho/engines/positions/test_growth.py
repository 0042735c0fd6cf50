"""Positions found from a small part of the scan outwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.positions.growth import Growth
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.physics.modes import scaled_to


@pytest.mark.slow
def test_a_drift_is_recovered_from_a_small_part() -> None:
    scan = diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e6, seed=1)
    true, t = scan.positions, np.linspace(0, 1, 64)
    drift = 15 * np.stack([0.8 * t**2, 0.6 * np.sin(2.5 * t)], 1)
    wrong = true + drift + np.random.default_rng(3).normal(0, 1.06, true.shape)
    problem = make_problem(
        replace(scan, positions=wrong, truth=None),
        device=torch.device("cpu"),
        double=False,
        subpixel=True,
        held_out=0.02,
        seed=0,
    )
    assert scan.probe is not None
    with torch.no_grad():
        start = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
        engine, done = Growth(problem, problem.flat_object(), start, (start,), wrong), 0
        while done < engine.most_epochs:
            engine.epoch()
            done += 1
    off = problem.forward.positions - true
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < 0.2
