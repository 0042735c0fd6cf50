"""Difference map and RAAR: the solution is a fixed point, and the map finds its neighbourhood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.projection import Projections, ProjectionSettings


@pytest.mark.parametrize("beta", [1.0, 0.8], ids=["dm", "raar"])
@pytest.mark.parametrize("kind", [{}, {"modes": 2}, {"subpixel": True}, {"masked": 0.2, "background": 5.0}])
def test_the_truth_of_noise_free_counts_is_a_fixed_point(make_case: Any, kind: dict[str, Any], beta: float) -> None:
    case = make_case(noise=False, **kind)
    engine = Projections(case.problem, case.image, case.probe, ProjectionSettings(beta, probe_from=0))
    for _ in range(4):
        engine.epoch()
    bright = case.problem.forward.illumination(case.probe)
    seen = bright > 0.05 * bright.max()
    # The probe carries the free scale, fixed here by its true power.
    assert float((engine.image - case.image)[seen].abs().max()) < 1e-2
    assert float((engine.probe - case.probe).norm() / case.probe.norm()) < 1e-2
    assert full_fit(case.problem, engine.image, engine.probe)["fit"] < 0.05


@pytest.mark.parametrize("beta", [1.0, 0.8], ids=["dm", "raar"])
@pytest.mark.parametrize("kind", [{}, {"modes": 2}, {"subpixel": True}, {"background": 3.0}])
def test_comes_down_from_a_flat_start(make_case: Any, kind: dict[str, Any], beta: float) -> None:
    case = make_case(double=False, **kind)
    engine = Projections(case.problem, torch.ones_like(case.image), case.probe, ProjectionSettings(beta))
    before = full_fit(case.problem, engine.image, engine.probe)["fit"]
    fits = []
    for _ in range(60):
        engine.epoch()
        fits.append(full_fit(case.problem, engine.image, engine.probe)["fit"])
    assert before > 30
    assert min(fits) < 0.1 * before


def test_masked_and_held_out_counts_never_reach_object_or_probe(make_case: Any) -> None:
    case = make_case(masked=0.1)
    problem = case.problem
    spoiled = problem.counts.clone()
    spoiled.view(25, -1).scatter_(1, problem.held, 1e7)
    spoiled.masked_fill_(problem.invalid, 12345.0)
    results = []
    for counts in (problem.counts, spoiled):
        engine = Projections(
            replace(problem, counts=counts), torch.ones_like(case.image), case.probe, ProjectionSettings()
        )
        for _ in range(6):
            engine.epoch()
        results.append((engine.image, engine.probe))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_holds_the_gauge_and_a_fixed_probe(make_case: Any) -> None:
    case = make_case(double=False)
    engine = Projections(case.problem, torch.ones_like(case.image), case.probe, ProjectionSettings())
    for _ in range(8):
        engine.epoch()
    assert float(engine.probe.abs().square().sum()) == pytest.approx(case.problem.power, rel=1e-5)
    engine = Projections(case.problem, torch.ones_like(case.image), case.probe, ProjectionSettings(refine_probe=False))
    for _ in range(8):
        engine.epoch()
    assert torch.equal(engine.probe, case.probe)


def test_keeps_one_exit_wave_per_pattern_and_mode(make_case: Any) -> None:
    case = make_case(modes=2, double=False)
    waves = Projections(case.problem, case.image, case.probe, ProjectionSettings()).state()["psi"]
    assert waves.numel() * waves.element_size() == 25 * 2 * case.problem.size**2 * 8
