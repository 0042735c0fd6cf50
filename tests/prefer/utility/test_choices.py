"""Choices among several: the posterior against weighted draws of the prior, up to scales at which every choice is
sure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.ep import expectation_propagation
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.linear_gp import LinearGP


def chosen(people, count, d, per=4, weight=1.0, seed=0):
    """A person who always takes the best of a screen, and her weights."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d)
    w /= np.linalg.norm(w)
    z = rng.standard_normal((count * per, d))
    z *= np.sqrt(d) / np.linalg.norm(z, axis=1, keepdims=True)
    screen = np.repeat(np.arange(count) + 1, per)
    rows = [sorted(np.flatnonzero(screen == number), key=lambda row: -(z[row] @ w)) for number in range(1, count + 1)]
    return people.observations(z, [people.term("best", row, weight=weight) for row in rows], screen), w


def prior_of(seen, scale):
    gram = Gram()
    gram.update(seen.latents)
    given = build_design(seen)
    return Prior(ObservationGram(gram, given), given, Hyperparameters(scale=scale))


def fitted_to(seen, scale):
    """The fit and the posterior mean (d,) of the weights, for a given scale."""
    prior = prior_of(seen, scale)
    mode = expectation_propagation(prior, prior.design, prior.limits())
    return mode, (prior.weights.T @ mode.alpha) @ seen.latents * scale / seen.latents.shape[1]


@pytest.mark.parametrize("scale", [1.0, 6.0, 48.0])
@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_fit_has_the_moments_of_the_posterior(people, scale, weight):
    seen, _ = chosen(people, 3, 16, weight=weight)
    prior = prior_of(seen, scale)
    mode = expectation_propagation(prior, prior.design, prior.limits())
    covariance = prior.dense()
    drawn = np.random.default_rng(0).standard_normal((400_000, 9)) @ np.linalg.cholesky(covariance).T
    logs = -weight * sum(
        np.logaddexp(0, logsumexp(-drawn[:, prior.design.choice == choice], axis=1)) for choice in range(3)
    )
    parts = np.exp(logs - logs.max())
    parts /= parts.sum()
    mean = parts @ drawn
    spread = np.sqrt(parts @ (drawn - mean) ** 2)
    assert np.abs((mode.eta - mean) / spread).max() < 0.1
    left = np.sqrt(np.diag(covariance) - mode.reduction(covariance))
    assert left == pytest.approx(spread, rel=0.1)
    assert mode.log_evidence == pytest.approx(logsumexp(logs) - np.log(len(logs)), abs=0.1 if weight >= 1 else 0.3)


@pytest.mark.parametrize("scale", [3.0, 12.0, 48.0, 200.0])
def test_a_sure_person_is_understood_at_every_scale(people, scale):
    """The predicted utility of the best latent is the realised one; above some scale the result no longer changes."""
    seen, w = chosen(people, 40, 4096)
    mode, mean = fitted_to(seen, scale)
    found = mean @ w / np.linalg.norm(mean) * 64
    assert found > 6
    assert np.linalg.norm(mean) * 64 == pytest.approx(found, rel=0.15)
    assert (mode.eta > 0).all()
    assert -40 * np.log(4) < mode.log_evidence < -40 * np.log(4) + 3


def test_scale_of_a_sure_person_rises(people):
    """In few dimensions, where screens repeat one another, certainty shows; the search passes through scales at which
    choices are sure."""
    seen, w = chosen(people, 64, 24)
    model = LinearGP()
    assert model.fit(seen) == "ok"
    posterior = model.posterior
    assert posterior.hyperparameters.scale > 5
    found = posterior.direction() @ w * np.sqrt(24)
    assert found > 0.9 * np.sqrt(24)
    assert posterior.reach == pytest.approx(found, rel=0.15)
    assert posterior.loo_agreement().share > 0.6


def test_a_choice_of_weight_two_is_said_twice(people):
    once, _ = chosen(people, 5, 256, weight=2.0)
    twice = people.observations(
        once.latents, [people.term("best", one.rows) for one in once.terms for _ in range(2)], once.screen
    )
    (_, heavy), (_, double) = (fitted_to(seen, 2.0) for seen in (once, twice))
    assert np.linalg.norm(heavy - double) < 0.05 * np.linalg.norm(double)


def test_start_changes_nothing(people):
    seen, _ = chosen(people, 20, 1024)
    prior = prior_of(seen, 6.0)
    cold = expectation_propagation(prior, prior.design, prior.limits())
    other = prior_of(seen, 24.0)
    warm = expectation_propagation(
        prior, prior.design, prior.limits(), expectation_propagation(other, other.design, other.limits()).sites
    )
    assert warm.eta == pytest.approx(cold.eta, abs=1e-3)
    assert warm.log_evidence == pytest.approx(cold.log_evidence, abs=1e-4)
