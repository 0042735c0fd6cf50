"""Likelihood steps on the whole canvas: gradient, slow structure, held-out pixels, and the network's image as prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.neural import canvas
from diptych.ptycho.neural.canvas import CanvasLikelihood, Prior, descend, refine
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.probe import probe_diameter

N = 16


def made(step=2.0, *, dose=1e5, patterns=36, size=N, **options):
    scan = diptych.simulate(
        object="lines", size=size, probe="gaussian", patterns=patterns, step=step, dose=dose, seed=3, **options
    )
    patterns = ScanPatterns(scan)
    origin, shape = canvas_box(scan.positions, size)
    return scan, CanvasLikelihood(patterns, ProbeModel.of(patterns), origin, shape)


def truth(scan, likelihood):
    """The true object on the canvas, 1 where there is none."""
    (y, x), (height, width) = np.subtract(likelihood.forward.origin, scan.truth.origin), likelihood.forward.shape
    return torch.from_numpy(scan.truth.values[y : y + height, x : x + width].astype(np.complex64))


def error(scan, likelihood, image):
    """Relative error of an image with the global phase removed."""
    found = diptych.Reconstruction(
        diptych.Canvas(image.numpy(), likelihood.forward.origin), scan.true_probe, scan.positions
    )
    return diptych.evaluate(found, scan.truth, gauge="phase")["complex_error"]


def smooth_error(image, size):
    """A slow complex factor of relative size ``size``."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] / max(image.shape)
    return torch.from_numpy((1 + size * (np.sin(3 * x) + 1j * np.cos(4 * y))).astype(np.complex64))


@pytest.mark.parametrize("options", [{}, {"background": 0.2, "dead": 0.02, "modes": 2}])
def test_the_gradient_is_that_of_the_loss(options):
    scan, likelihood = made(dose=1e4, **options)
    image = truth(scan, likelihood) * smooth_error(truth(scan, likelihood), 0.3)
    rng = np.random.default_rng(0)
    way = torch.from_numpy((rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape)).astype(np.complex64))
    for prior in (None, Prior(torch.ones_like(image), 0.1)):

        def at(there, prior=prior):
            found = likelihood.evaluate(there)
            return found if prior is None else prior.add(there, found)

        slope = 2 * float((way.conj() * at(image).gradient).real.sum(dtype=torch.float64))
        measured = (at(image + 5e-3 * way).loss - at(image - 5e-3 * way).loss) / 1e-2
        assert measured == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("options", [{"integer": True}, {"background": 0.2, "dead": 0.02, "modes": 2}])
def test_the_compiled_pass_gives_the_likelihood_of_the_pass_in_steps(options, monkeypatch):
    pytest.importorskip("diptych.ptycho.physics.compiled.passes", reason="needs the extra 'speed'")
    scan, likelihood = made(4.0, dose=1e4, size=32, **options)
    image = truth(scan, likelihood) * smooth_error(truth(scan, likelihood), 0.3)
    assert all(canvas.CompiledPass.of(piece) is not None for piece in likelihood._read())
    found = likelihood.evaluate(image)
    monkeypatch.setattr(canvas.CompiledPass, "of", lambda piece: None)
    wanted = likelihood.evaluate(image)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    torch.testing.assert_close(found.held, wanted.held, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.gradient, wanted.gradient, rtol=0, atol=2e-5 * float(wanted.gradient.abs().max()))


@pytest.mark.parametrize("mask", [None, "one", "each"])
def test_held_out_pixels_are_not_fitted(mask):
    scan, _ = made(4.0, size=32)
    shown = np.random.default_rng(0).random(scan.counts.shape if mask == "each" else (32, 32)) > 0.05
    scan = diptych.Scan(scan.counts, scan.positions, scan.probe, mask=None if mask is None else shown)
    patterns = ScanPatterns(scan)
    found = []
    for change in (0.0, 1e4):
        counts = scan.counts.copy()
        for part in canvas.pieces(len(scan)):
            held = canvas.held_out_pixels(part, 32)
            some = counts[part].reshape(len(part), -1)
            np.put_along_axis(some, held, np.take_along_axis(some, held, 1) + np.float32(change), 1)
            counts[part] = some.reshape(-1, 32, 32)
        patterns = ScanPatterns(diptych.Scan(counts, scan.positions, scan.probe, mask=scan.mask))
        likelihood = CanvasLikelihood(patterns, ProbeModel.of(ScanPatterns(scan)), *canvas_box(scan.positions, 32))
        found.append(likelihood.evaluate(torch.ones(likelihood.forward.shape, dtype=torch.complex64)))
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-6)
    assert torch.allclose(found[0].gradient, found[1].gradient)
    assert (found[1].held > found[0].held).all()


def test_slow_structure_is_recovered():
    scan, likelihood = made()
    start = truth(scan, likelihood) * smooth_error(truth(scan, likelihood), 0.2)
    image, _ = descend(likelihood, start, 16)
    assert error(scan, likelihood, image) < 0.35 * error(scan, likelihood, start)


def test_noise_is_not_fitted():
    scan, likelihood = made(dose=50)
    right = truth(scan, likelihood)
    image, held = descend(likelihood, right, 60)
    assert float(held.sum()) <= float(likelihood.evaluate(right).held.sum())
    assert error(scan, likelihood, image) < 0.6


def test_no_step_gives_the_start():
    scan, likelihood = made()
    start = truth(scan, likelihood)
    assert torch.equal(descend(likelihood, start, 0)[0], start)


def full_step(size=N):
    """A scan whose steps are the probe's 90 % energy diameter: neighbours hardly overlap."""
    probe = diptych.simulate(object="lines", size=size, probe="gaussian", patterns=4, step=2.0, dose=1e5, seed=3).probe
    return made(probe_diameter(probe), dose=1e5, patterns=49, size=size)


def test_the_right_prior_halves_the_error_without_overlap():
    scan, likelihood = full_step(32)  # Of 16 px, the held-out pixels are too few to tell.
    near = truth(scan, likelihood)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=near.shape) + 1j * rng.normal(size=near.shape)
    near = near + torch.from_numpy((0.05 * noise).astype(np.complex64))
    alone, _ = descend(likelihood, torch.ones_like(near), 30)
    both, record = refine(likelihood, near, 30, prior=True)
    assert record["canvas_start"] == "network"
    assert error(scan, likelihood, both) <= 0.5 * error(scan, likelihood, alone)


@pytest.mark.parametrize("step", [2.0, None])
def test_a_wrong_prior_is_dropped(step):
    scan, likelihood = full_step() if step is None else made(step)
    wrong = truth(scan, likelihood).flip(0).flip(1).conj() * 0.7
    alone, _ = descend(likelihood, torch.ones_like(wrong), 30)
    both, _ = refine(likelihood, wrong, 30, prior=True)
    assert error(scan, likelihood, both) <= 1.02 * error(scan, likelihood, alone)
