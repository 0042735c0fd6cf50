"""Saturated pixels in the likelihood: closed forms, gradients, and what they are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import poisson

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.physics.censoring import Censored, censored_terms, saturated_counts


@pytest.mark.parametrize("level", [1, 7, 255, 4095, 65535])
def test_the_loss_is_that_of_the_poisson_distribution(level: int) -> None:
    rates = level * np.array([0.5, 0.9, 1.0, 1.1, 3.0])
    loss, _ = censored_terms(torch.from_numpy(rates), level)
    with np.errstate(divide="ignore"):
        exact = -poisson.logsf(level - 1, rates)
    known = exact < 500
    np.testing.assert_allclose(loss.numpy()[known], exact[known], rtol=1e-6, atol=1e-12)
    assert (np.diff(loss.numpy()) <= 0).all()


@pytest.mark.parametrize("level", [1.0, 40.0, 255.0, 1e5])
def test_the_derivative_is_that_of_the_loss(level: float) -> None:
    rates = torch.tensor([1e-3, 0.02, 0.4, 0.8, 1.0, 1.3], dtype=torch.float64) * level
    step = 1e-6 * rates
    up, down = censored_terms(rates + step, level)[0], censored_terms(rates - step, level)[0]
    found = censored_terms(rates, level)[1]
    torch.testing.assert_close((up - down) / (2 * step), found, rtol=1e-3, atol=1e-7)
    assert bool((found <= 0).all())


def test_far_below_the_level_loss_and_derivative_are_finite_and_continuous() -> None:
    rates = torch.linspace(2e4, 9e4, 20001, dtype=torch.float64)
    loss, derivative = censored_terms(rates, 1e5)
    assert bool(torch.isfinite(loss).all() and torch.isfinite(derivative).all())
    steps = loss.diff()
    assert float(((steps[1:] - steps[:-1]) / steps[:-1]).abs().max()) < 0.01


def test_a_batch_finds_its_saturated_pixels_and_no_held_out_ones() -> None:
    high = np.zeros((4, 3, 3), bool)
    high[0, 1, 1] = high[2, 0, 2] = high[2, 2, 2] = high[3, 0, 0] = True
    held = torch.tensor([[0], [1], [8], [5]])
    censored = Censored.found(high, held, 10.0)
    rows, pixels = censored.where(np.array([3, 1, 2]))
    assert rows.tolist() == [0, 2]
    assert pixels.tolist() == [0, 2]


def test_masked_and_lower_counts_are_not_saturated() -> None:
    counts = np.array([[[5, 9], [9, 3]]])
    assert saturated_counts(counts, None, None) is None
    assert saturated_counts(counts, None, 10.0) is None
    mask = np.array([[True, False], [True, True]])
    found = saturated_counts(counts, mask, 9.0)
    assert found is not None
    assert found.tolist() == [[[False, False], [True, False]]]


def clipped(share: float, kind: str = "blocks", dose: float = 1e5) -> tuple[diptych.Scan, diptych.Scan]:
    """A scan, and the same one whose detector saturates at a share of its largest count."""
    scan = diptych.simulate(object=kind, size=32, patterns=64, step=4, dose=dose, seed=2)
    level = int(share * scan.counts.max())
    return scan, replace(scan, counts=np.minimum(scan.counts, level))


def test_the_gradient_is_that_of_the_loss_at_saturated_pixels() -> None:
    _, scan = clipped(0.3)
    scan = replace(scan, saturation=float(scan.counts.max()))
    problem = make_problem(scan, device=torch.device("cpu"), double=True, subpixel=True, held_out=0.01, seed=0)
    assert problem.censored is not None
    assert len(problem.censored.pixels) > 50
    rng = np.random.default_rng(0)
    image = problem.flat_object() + torch.from_numpy(0.1 * rng.standard_normal(problem.shape))
    probe = torch.from_numpy(scan.probe.astype(np.complex128))
    engine = MaximumLikelihood(problem, image, probe, LikelihoodSettings())
    direction = torch.from_numpy(rng.standard_normal(len(engine._point)))
    step = 1e-6
    up, down = (engine._evaluate(engine._point + sign * step * direction)[0] for sign in (1, -1))
    # The engine's gradient is with respect to the complex conjugate: half of that in real and imaginary parts.
    expected = 2 * float(engine._gradient @ direction)
    assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5)


def error(scan: diptych.Scan, truth: diptych.Scan, saturated: str) -> float:
    result = diptych.reconstruct(scan, saturated=saturated)
    return float(diptych.evaluate(result, truth)["complex_error"])


@pytest.mark.integration
def test_censored_counts_are_worth_more_than_masked_ones() -> None:
    whole, scan = clipped(0.05)
    masked, censored = (error(scan, whole, saturated) for saturated in ("auto", "censor"))
    assert censored < 0.9 * masked


def test_other_engines_mask_saturated_pixels() -> None:
    _, scan = clipped(0.3)
    images = [diptych.reconstruct(scan, engine="rpie", epochs=3, saturated=each) for each in ("auto", "censor")]
    np.testing.assert_array_equal(images[0].object.values, images[1].object.values)
    assert any('"at least this many"' in flag for flag in images[1].flags)


def test_a_saturation_that_is_no_number_of_counts_is_refused() -> None:
    scan, _ = clipped(0.3)
    with pytest.raises(InputError, match="saturation"):
        replace(scan, saturation=-1.0)
