"""Approximations of the posterior against sums over a grid and against one another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.ep import CavityLikelihood, expectation_propagation
from diptych.prefer.utility.inference.laplace import ObservationLikelihood, conjugate_gradients, find_mode
from diptych.prefer.utility.inference.observations import build_design


def prior_of(seen, hyperparameters=None):
    gram = Gram()
    gram.update(seen.latents)
    given = build_design(seen)
    return Prior(ObservationGram(gram, given), given, hyperparameters or Hyperparameters())


class Fixed:
    """A covariance that is given."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, dtype=float)

    def dense(self):
        return self.matrix

    def times(self, vectors):
        return self.matrix @ vectors


def test_one_rating_has_the_moments_of_its_integral(people):
    seen = people.observations(np.eye(1, 8), [people.term("rate", [0], 1, screen=1)])
    given = build_design(seen)
    limits = given.limits(1.0, 1.0)
    mode = expectation_propagation(Fixed([[4.0]]), given, limits)
    grid = np.linspace(-25, 25, 20001)
    density = np.exp(-(grid**2) / 8) * expit(grid)
    mean = (grid * density).sum() / density.sum()
    assert mode.eta[0] == pytest.approx(mean, abs=2e-3)
    assert mode.log_evidence == pytest.approx(np.log(0.5), abs=1e-6)
    left = 4.0 - mode.reduction(np.array([[4.0]]))[0]
    assert left == pytest.approx(((grid - mean) ** 2 * density).sum() / density.sum(), abs=5e-3)


def test_evidence_of_two_observations_is_their_integral(people):
    terms = [people.term("rate", [0], 1, screen=1), people.term("rate", [1], 0, screen=1)]
    given = build_design(people.observations(np.eye(2, 8), terms, [1, 1]))
    covariance = np.array([[3.0, 1.8], [1.8, 2.0]])
    mode = expectation_propagation(Fixed(covariance), given, given.limits(1.0, 1.0))
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(2), covariance, 400_000)
    chance = expit(draws[:, 0]) * expit(-draws[:, 1])
    assert mode.log_evidence == pytest.approx(np.log(chance.mean()), abs=0.01)
    assert mode.eta == pytest.approx((draws * chance[:, None]).sum(0) / chance.sum(), abs=0.03)


def test_evidence_of_a_choice_is_near_its_integral(people):
    given = build_design(people.observations(np.eye(3, 8), [people.term("best", [0, 1, 2])]))
    covariance = np.array([[1.0, 0.5], [0.5, 1.0]])
    mode = expectation_propagation(Fixed(covariance), given, given.limits(1.0, 1.0))
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(2), covariance, 200_000)
    chance = 1 / (1 + np.exp(-draws).sum(axis=1))
    assert mode.log_evidence == pytest.approx(np.log(chance.mean()), abs=0.05)
    assert mode.eta == pytest.approx((draws * chance[:, None]).sum(0) / chance.sum(), abs=0.06)


def test_mode_is_stationary_and_alpha_is_the_gradient(people):
    prior = prior_of(people.rated(80)[0])
    plain = ObservationLikelihood(prior.design, *prior.limits())
    mode = find_mode(prior, plain, np.zeros(80))
    assert np.allclose(mode.alpha, plain.derivatives(mode.eta)[0], atol=1e-7)
    assert np.allclose(prior.dense() @ mode.alpha, mode.eta, atol=1e-7)


def test_iterative_mode_is_the_dense_one(people):
    prior = prior_of(people.rated(120, per=4)[0])
    plain = ObservationLikelihood(prior.design, *prior.limits())
    dense, other = (find_mode(prior, plain, np.zeros(120), iterative=iterative) for iterative in (False, True))
    assert np.allclose(dense.eta, other.eta, atol=1e-4)
    some = np.random.default_rng(0).standard_normal((120, 2))
    assert np.allclose(dense.reduction(some), other.reduction(some), rtol=1e-3)


def test_product_without_the_matrix_is_that_with_it(people):
    prior = prior_of(people.rated(90, per=3)[0], Hyperparameters(walk=0.2, offset=0.1, adaptation=0.5))
    v = np.random.default_rng(0).standard_normal((90, 2))
    assert np.allclose(prior.times(v), prior.dense() @ v, atol=1e-4)
    own = np.diag(prior.dense() - prior.threshold() * prior.hyperparameters.scale**2)
    assert np.allclose(prior.prior_variances(), own, rtol=0.35)
    assert np.allclose(
        prior.utility_product(v), (prior.dense() - prior.threshold() * prior.hyperparameters.scale**2) @ v, atol=1e-4
    )


def test_drawn_thresholds_have_the_covariance_of_the_prior(people):
    seen, _ = people.rated(6, per=2)
    prior = prior_of(seen, Hyperparameters(walk=0.3, offset=0.2))
    drawn = prior.draw_threshold(np.random.default_rng(0), 100_000)
    assert np.allclose(np.cov(drawn), prior.threshold(), atol=0.06)


def test_function_of_the_cavity_has_the_slope_it_says(people):
    prior = prior_of(people.rated(12)[0])
    cavity = CavityLikelihood(ObservationLikelihood(prior.design, *prior.limits()), np.linspace(0.5, 20, 12))
    eta = np.random.default_rng(3).standard_normal(12)
    slope, curvature = cavity.derivatives(eta)
    for index in range(12):
        step = 1e-5 * np.eye(12)[index]
        assert (cavity.value(eta + step) - cavity.value(eta - step)) / 2e-5 == pytest.approx(slope[index], abs=1e-6)
        bend = (cavity.derivatives(eta + step)[0] - cavity.derivatives(eta - step)[0])[index] / 2e-5
        assert curvature.root[index] ** 2 == pytest.approx(-bend, rel=1e-4)


def test_conjugate_gradients_solve_several_right_sides():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((40, 40))
    matrix, right = root @ root.T + np.eye(40), rng.standard_normal((40, 3))
    assert np.allclose(matrix @ conjugate_gradients(lambda v: matrix @ v, right, 1e-10), right, atol=1e-7)
