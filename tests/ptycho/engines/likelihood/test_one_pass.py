"""A likelihood pass in one compiled call: loss, gradients and expected counts are those of the pass in steps."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.engines.fit_monitor import FitMeter
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Limits, Problem, make_problem
from diptych.ptycho.physics.compiled import fftw
from diptych.ptycho.physics.compiled.one_pass import CompiledPass
from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward
from diptych.ptycho.scan import Scan
from diptych.runtime.cpu.parallel import shared_out

SHAPES = (32, 32), (1, 32, 32), (20, 2)
"""Of first mode, components and coefficients of a probe that varies."""

CASES: dict[str, dict[str, Any]] = {
    "whole pixels": {"integer": True},
    "sub-pixel": {},
    "two modes": {"modes": 2},
    "mask of each pattern, background": {"dead": 0.02, "background": 5.0, "integer": True},
    "64 px, two modes": {"size": 64, "modes": 2, "patterns": 6},
    "96 px": {"size": 96, "patterns": 4},
    "256 px, whole pixels": {"size": 256, "patterns": 2, "integer": True},
    "point spread, two modes": {"modes": 2, "background": 2.0},
    "point spread, 64 px": {"size": 64, "patterns": 4, "integer": True},
}


def scan_of(case: str) -> Scan:
    asked = {"object": "blocks", "size": 32, "patterns": 20, "dose": 1e4, "seed": 2, "probe_error": 0.3, **CASES[case]}
    scan = diptych.simulate(**{**asked, "step": asked["size"] / 6})
    if case == "two modes":  # A mask of its own for each pattern.
        mask = np.random.default_rng(0).random(scan.counts.shape) > 0.01
        return Scan(scan.counts, scan.positions, scan.probe, mask=mask)
    return scan


def problem_of(scan: Scan, case: str = "", **changes: Any) -> Problem:
    given: dict[str, Any] = {"device": torch.device("cpu"), "double": False, "subpixel": True, "held_out": 0.01}
    problem = make_problem(scan, **{"seed": 0, **given, **changes})
    if case.startswith("point spread"):
        problem.forward.spread = PointSpread((0.9, 0.3), scan.size, torch.float32, torch.device("cpu"))
    return problem


def engine_of(problem: Problem, scan: Scan, **settings: Any) -> MaximumLikelihood:
    generator = torch.Generator().manual_seed(1)
    image = 1 + 0.2 * torch.randn(problem.shape, dtype=torch.complex64, generator=generator)
    return MaximumLikelihood(problem, image, torch.from_numpy(scan.probe.copy()), LikelihoodSettings(8, **settings))


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_as_in_steps(case: str, positions: bool, factors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_of(case)
    problem = problem_of(scan, case)
    assert problem.forward.factors is not None
    problem.forward.factors.fitted = factors
    engine = engine_of(problem, scan, refine_positions=positions)
    assert CompiledPass.of(problem) is not None
    loss, gradient, fit = engine._evaluate(engine._point)
    values = problem.forward.factors.values.clone()
    monkeypatch.setattr(CompiledPass, "of", lambda problem: None)
    wanted, expected, known = engine._evaluate(engine._point)
    assert loss == pytest.approx(wanted, rel=2e-6)
    assert torch.allclose(values, problem.forward.factors.values, rtol=1e-5)
    assert factors == bool((values != 1).any())
    for name in ("fit", "held_out_fit", "excess"):
        assert fit[name] == pytest.approx(known[name], rel=1e-4)
    found = [*engine._parts(gradient), engine._shifts(gradient)]
    for ours, theirs in zip(found, [*engine._parts(expected), engine._shifts(expected)], strict=True):
        if ours is not None and theirs is not None:
            assert float((ours - theirs).abs().max()) < 2e-5 * float(theirs.abs().max())


def test_threads_of_pie_divide_one_canvas() -> None:
    """Three threads take a third of its rows each; the sums are added in another order only."""
    scan, made = scan_of("whole pixels"), []
    for count in (1, 3):
        with shared_out(True, count) as workers:
            problem = problem_of(scan, workers=workers)
            image, probe = engine_of(problem, scan).image, torch.from_numpy(scan.probe.copy())
            engine = Pie(problem, image, probe, PieSettings(batch=10), np.random.default_rng(0))
            engine.epoch()
            assert not any(bool(each.any()) for each in engine._canvases)
            made.append((engine.image, engine.probe))
    for ours, theirs in zip(*made, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("poisson", [True, False])
@pytest.mark.parametrize("case", list(CASES))
def test_an_epoch_of_pie_as_in_steps(case: str, poisson: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_of(case)
    made = []
    for in_steps in (False, True):
        if in_steps:
            monkeypatch.setattr(CompiledPass, "of", lambda problem: None)
        problem = problem_of(scan, case)
        assert (CompiledPass.of(problem) is None) == in_steps
        image = engine_of(problem, scan).image
        settings = PieSettings(batch=6, poisson=poisson)
        engine = Pie(problem, image, torch.from_numpy(scan.probe.copy()), settings, np.random.default_rng(0))
        made.append((engine.epoch(), engine.image, engine.probe))
    (fit, *found), (known, *expected) = made
    assert fit["fit"] == pytest.approx(known["fit"], rel=1e-3)
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-3 * float(theirs.abs().max())


def test_threads_and_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_of("sub-pixel")
    problem = problem_of(scan)
    one = engine_of(problem, scan)
    monkeypatch.setattr("diptych.ptycho.physics.compiled.one_pass.CHUNK", 3)
    with shared_out(True, 3) as workers:
        several = engine_of(problem_of(scan, workers=workers), scan)
        assert several.loss == pytest.approx(one.loss, rel=1e-6)
        assert torch.equal(several._evaluate(several._point)[1], several._gradient)
    assert float((several._gradient - one._gradient).abs().max()) < 2e-5 * float(one._gradient.abs().max())


def test_a_known_probe_has_no_gradient() -> None:
    scan = scan_of("whole pixels")
    engine = engine_of(problem_of(scan), scan, refine_probe=False)
    assert not engine._parts(engine._gradient)[1].any()


def test_left_to_pytorch() -> None:
    scan = scan_of("whole pixels")
    problem = problem_of(scan)
    assert CompiledPass.of(problem_of(scan, double=True)) is None
    noisy = diptych.simulate(size=32, patterns=9, step=5.0, read_noise=2.0, gain=1.0, seed=0)
    assert CompiledPass.of(problem_of(noisy)) is None
    other = diptych.simulate(size=50, patterns=9, step=5.0, seed=0)
    assert CompiledPass.of(problem_of(other)) is None
    varied = replace(problem, forward=VaryingForward.of(problem.forward))
    assert CompiledPass.of(varied) is not None
    varied.forward.variation = Variation.of(*(torch.ones(shape, dtype=torch.complex64) for shape in SHAPES))
    assert CompiledPass.of(varied) is None
    limited = replace(problem, limits=Limits(9.0, torch.zeros(problem.counts.shape, dtype=torch.bool)))
    assert CompiledPass.of(limited) is None


def test_amplitudes_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_of("whole pixels")
    found = engine_of(problem_of(scan), scan, poisson=False).loss
    monkeypatch.setattr(CompiledPass, "of", lambda problem: None)
    assert found == engine_of(problem_of(scan), scan, poisson=False).loss


def test_an_object_of_another_canvas_is_refused() -> None:
    scan = scan_of("whole pixels")
    problem = problem_of(scan)
    small = torch.ones((problem.shape[0] - 9, problem.shape[1]), dtype=torch.complex64)
    probe, found = torch.from_numpy(scan.probe.copy()), CompiledPass.of(problem)
    assert found is not None
    sums, meter = (torch.zeros_like(small), torch.zeros_like(probe)), FitMeter(problem)
    with pytest.raises(ValueError, match="canvas"):
        found.likelihood((small, probe), None, np.arange(3), meter, sums, None, 0.01)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_plans_are_found_once_and_are_ffts(size: int) -> None:
    wave = fftw.aligned(size, size)
    assert wave.ctypes.data % 64 == 0
    wave[:] = torch.randn(size, size, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).numpy()
    expected = np.fft.fft2(wave)
    assert fftw.plans(size) is fftw.plans(size)
    for plan, wanted in zip(fftw.plans(size), (expected, np.fft.ifft2(expected) * size**2), strict=True):
        fftw._library.fftwf_execute_dft(*(ctypes.c_void_p(each) for each in (plan, wave.ctypes.data, wave.ctypes.data)))
        assert float(np.abs(wave - wanted).max()) < 1e-5 * float(np.abs(wanted).max())
