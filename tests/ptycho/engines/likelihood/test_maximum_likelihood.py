"""Maximum likelihood: the gradient by finite differences, descent at every step, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import (
    EPOCHS,
    LONG_EPOCHS,
    MANY_PHOTONS,
    LikelihoodSettings,
    MaximumLikelihood,
    joined,
)
from diptych.ptycho.physics.likelihood import deviance

KINDS: list[dict[str, Any]] = [
    {},
    {"masked": 0.2},
    {"background": 5.0},
    {"modes": 3},
    {"subpixel": True},
    {"modes": 2, "subpixel": True, "masked": 0.1, "background": 2.0, "size": 11},
    {"photons": 30.0},
]


def noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=like.shape) + 1j * rng.normal(size=like.shape)).to(like.dtype)


@pytest.mark.parametrize("poisson", [True, False], ids=["poisson", "amplitude"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_by_finite_differences(make_case: Any, kind: dict[str, Any], poisson: bool) -> None:
    """The loss changes by 2 Re <gradient, change>, for changes of the object, of the probe and of both; away from the
    truth."""
    case = make_case(**kind)
    probe = case.probe * (1 + 0.2 * noise(case.probe, 1))
    image = case.image * (1 + 0.2 * noise(case.image, 2))
    engine = MaximumLikelihood(case.problem, image, probe, LikelihoodSettings(batch=7, poisson=poisson))
    gradient = engine._parts(engine._gradient)
    scale = float(probe.abs().max())
    for on_image, on_probe in ((1.0, 0.0), (0.0, scale), (1.0, scale)):
        change = [on_image * noise(image, 3), on_probe * noise(probe, 4)]
        h = 1e-6
        up, down = (
            engine._evaluate(joined([x + s * h * d for x, d in zip((image, probe), change, strict=True)]))[0]
            for s in (1, -1)
        )
        slope = 2 * sum(float(torch.vdot(g.flatten(), d.flatten()).real) for g, d in zip(gradient, change, strict=True))
        # Pixels without a photon count as 1e-6 photons in the loss: 1e-4 of their weight at the default dark counts.
        assert (up - down) / (2 * h) == pytest.approx(slope, rel=2e-4)


def test_poisson_loss_is_half_the_deviance(make_case: Any) -> None:
    case = make_case(held_out=0.0)
    engine = MaximumLikelihood(case.problem, case.image, case.probe, LikelihoodSettings(dark=0.0))
    _, expected = case.problem.forward.detect(
        case.problem.forward.views(case.image, case.probe, np.arange(25)).exit_waves()
    )
    assert engine.loss == pytest.approx(0.5 * float(deviance(case.problem.counts, expected).sum()), rel=1e-4)


def test_the_truth_of_noise_free_counts_is_a_stationary_point(make_case: Any) -> None:
    case = make_case(noise=False, held_out=0.0, subpixel=True, modes=2)
    engine = MaximumLikelihood(case.problem, case.image, case.probe, LikelihoodSettings(dark=0.0))
    at_truth = engine._parts(engine._evaluate(joined([case.image, case.probe]))[1])
    beside = engine._parts(engine._evaluate(joined([case.image * 1.01, case.probe]))[1])
    for here, there in zip(at_truth, beside, strict=True):
        assert float(here.abs().max()) < 1e-4 * float(there.abs().max())


@pytest.mark.parametrize("kind", [{}, {"modes": 2, "subpixel": True}, {"masked": 0.2, "background": 3.0}])
def test_every_step_lowers_the_loss_until_photon_noise_is_reached(make_case: Any, kind: dict[str, Any]) -> None:
    case = make_case(double=False, **kind)
    engine = MaximumLikelihood(case.problem, torch.ones_like(case.image), case.probe, LikelihoodSettings())
    losses = [engine.loss]
    for _ in range(60):
        engine.epoch()
        losses.append(engine.loss)
    assert all(b <= a for a, b in pairwise(losses))
    assert losses[-1] < 0.01 * losses[0]
    assert full_fit(case.problem, engine.image, engine.probe)["fit"] < 1.1


def test_settles_by_itself(make_case: Any) -> None:
    case = make_case(double=False, photons=1e3)
    engine = MaximumLikelihood(case.problem, torch.ones_like(case.image), case.probe, LikelihoodSettings())
    assert engine.settled == ""
    for _ in range(300):
        engine.epoch()
        if engine.settled:
            break
    assert "nats" in engine.settled


@pytest.mark.parametrize(("photons", "most"), [(0.9 * MANY_PHOTONS, EPOCHS), (1.1 * MANY_PHOTONS, LONG_EPOCHS)])
def test_many_photons_allow_more_epochs(make_case: Any, photons: float, most: int) -> None:
    case = make_case(double=False)
    problem = replace(case.problem, power=photons)
    assert MaximumLikelihood(problem, case.image, case.probe, LikelihoodSettings()).most_epochs == most


@pytest.mark.parametrize("poisson", [True, False], ids=["poisson", "amplitude"])
def test_masked_and_held_out_counts_never_reach_object_or_probe(make_case: Any, poisson: bool) -> None:
    case = make_case(masked=0.1)
    problem = case.problem
    spoiled = problem.counts.clone()
    spoiled.view(25, -1).scatter_(1, problem.held, 1e7)
    spoiled.masked_fill_(problem.invalid, 12345.0)
    engines = []
    for counts in (problem.counts, spoiled):
        engine = MaximumLikelihood(
            replace(problem, counts=counts),
            torch.ones_like(case.image),
            case.probe,
            LikelihoodSettings(poisson=poisson),
        )
        for _ in range(6):
            engine.epoch()
        engines.append(engine)
    assert torch.equal(engines[0].image, engines[1].image)
    assert torch.equal(engines[0].probe, engines[1].probe)


def test_a_fixed_probe_stays(make_case: Any) -> None:
    case = make_case(double=False)
    engine = MaximumLikelihood(
        case.problem, torch.ones_like(case.image), case.probe, LikelihoodSettings(refine_probe=False)
    )
    before = engine.loss
    for _ in range(5):
        engine.epoch()
    assert torch.equal(engine.probe, case.probe)
    assert engine.loss < before


def test_state_and_restore_go_on_exactly(make_case: Any) -> None:
    case = make_case(double=False)
    settings = LikelihoodSettings()
    engine = MaximumLikelihood(case.problem, torch.ones_like(case.image), case.probe, settings)
    for _ in range(7):
        engine.epoch()
    saved = {name: value.clone() for name, value in engine.state().items()}
    other = MaximumLikelihood(case.problem, torch.ones_like(case.image), case.probe * 0.5, settings)
    other.restore(saved)
    for _ in range(12):
        assert engine.epoch() == other.epoch()
        assert engine.settled == other.settled
    assert torch.equal(engine.image, other.image)
    assert torch.equal(engine.probe, other.probe)
