"""Likelihood steps on the whole canvas: gradient, slow structure, held-out pixels, and the network's image as prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.neural.canvas import CanvasLikelihood, Prior, descend, refine
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.probe import probe_diameter

N = 16


def made(step=2.0, *, dose=1e5, patterns=36, **options):
    scan = diptych.simulate(
        object="lines", size=N, probe="gaussian", patterns=patterns, step=step, dose=dose, seed=3, **options
    )
    patterns = ScanPatterns(scan)
    origin, shape = canvas_box(scan.positions, N)
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


def full_step(seed=0):
    """A scan whose steps are the probe's 90 % energy diameter: neighbours hardly overlap."""
    probe = diptych.simulate(object="lines", size=N, probe="gaussian", patterns=4, step=2.0, dose=1e5, seed=3).probe
    return made(probe_diameter(probe), dose=1e5, patterns=49)


def test_the_right_prior_halves_the_error_without_overlap():
    scan, likelihood = full_step()
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
