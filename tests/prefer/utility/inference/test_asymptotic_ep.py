"""Asymptotic cavity variances against expectation propagation, for random latents and for latents near each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.asymptotic_ep import cavity_variances, fit_cavity_factor, posterior_fraction
from diptych.prefer.utility.inference.ep import CavityLikelihood, expectation_propagation
from diptych.prefer.utility.inference.laplace import ObservationLikelihood, find_mode
from diptych.prefer.utility.inference.observations import build_design


def rated(people, count, dimension, along=0.0, seed=0):
    """Ratings of latents that have a cosine of ``along`` with what is liked, and their latents' inner products."""
    rng = np.random.default_rng(seed)
    taste = rng.standard_normal(dimension)
    taste /= np.linalg.norm(taste)
    other = rng.standard_normal((count, dimension))
    other -= np.outer(other @ taste, taste)
    other /= np.linalg.norm(other, axis=1)[:, None]
    cosine = along + rng.standard_normal(count) / np.sqrt(dimension)
    latents = np.sqrt(dimension) * (cosine[:, None] * taste + np.sqrt(1 - cosine[:, None] ** 2) * other)
    good = rng.random(count) < expit(3 * np.sqrt(dimension) * (cosine - along))
    seen = people.observations(
        latents, [people.term("rate", [row], int(good[row]), screen=row) for row in range(count)], range(count)
    )
    gram, given = Gram(), build_design(seen)
    gram.update(seen.latents)
    return gram, given


def fitted(gram, given, hyperparameters):
    prior = Prior(ObservationGram(gram, given), given, hyperparameters)
    return prior, expectation_propagation(prior, given, prior.limits())


def test_it_solves_its_equation():
    for count, dimension, scale in ((10, 10_000, 3.0), (500, 256, 4.0), (10_000, 64, 2.0)):
        c = posterior_fraction(count, dimension, scale)
        strength = scale**2 * 0.25 / np.sqrt(1 + np.pi / 4 * scale**2 * 1.5)
        assert c == pytest.approx(1 / (1 + count / dimension * strength / (1 + strength * c)))
    assert posterior_fraction(0, 256, 3.0) == pytest.approx(1)
    assert posterior_fraction(1, 10**9, 3.0) == pytest.approx(1)


@pytest.mark.parametrize("dimension", [128, 512, 4096])
def test_of_random_latents_it_is_what_matched_moments_leave_open(people, dimension):
    prior, mode = fitted(*rated(people, 400, dimension), Hyperparameters(adaptation=0.0, walk=1e-4))
    assert fit_cavity_factor(prior, mode, dimension) == pytest.approx(1, abs=0.15)


def test_near_what_is_liked_cavities_are_narrower(people):
    near, _ = (
        fit_cavity_factor(*fitted(*rated(people, 300, 4096, along), Hyperparameters(adaptation=0.0, walk=1e-4)), 4096)
        for along in (0.7, 0.0)
    )
    assert near == pytest.approx(1 - 0.7**2, abs=0.12), "what lies along the taste is known"


@pytest.mark.parametrize(("dimension", "along"), [(256, 0.0), (4096, 0.0), (4096, 0.7)])
def test_fits_to_many_observations_come_near_the_matched_moments(people, dimension, along):
    gram, given = rated(people, 400, dimension, along)
    hyperparameters = Hyperparameters(adaptation=0.0, walk=1e-4)
    first = given.first(256)
    narrow = fit_cavity_factor(*fitted(gram, first, hyperparameters), dimension)
    prior, exact = fitted(gram, given, replace(hyperparameters, cavity_factor=narrow))
    near = find_mode(
        prior,
        CavityLikelihood(ObservationLikelihood(given, *prior.limits()), cavity_variances(prior, dimension)),
        np.zeros(400),
    )
    assert np.corrcoef(exact.alpha, near.alpha)[0, 1] > 0.99
    assert np.linalg.norm(near.eta) == pytest.approx(np.linalg.norm(exact.eta), rel=0.03)
    plain = find_mode(prior, ObservationLikelihood(given, *prior.limits()), np.zeros(400))
    assert np.linalg.norm(near.eta - exact.eta) < 0.5 * np.linalg.norm(plain.eta - exact.eta)


def test_choices_among_several_have_none_of_their_own(people):
    seen = people.observations(
        np.random.default_rng(0).standard_normal((8, 64)),
        [people.term("best", range(4)), people.term("best", range(4, 8))],
    )
    gram, given = Gram(), build_design(seen)
    gram.update(seen.latents)
    assert fit_cavity_factor(*fitted(gram, given, Hyperparameters()), 64) == Hyperparameters().cavity_factor
