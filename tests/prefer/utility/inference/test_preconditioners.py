"""Approximate inverses, and that what is remembered between fits is what would be found anew."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.laplace import ObservationLikelihood, conjugate_gradients
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.inference.preconditioners import LowRankPreconditioner, extend_factor, factorize
from diptych.prefer.utility.linear_gp import LinearGP


def prior_and_curvature(people, terms=None, hyperparameters=None, count=60, d=256):
    seen, _ = people.rated(count, d=d)
    seen = seen if terms is None else people.observations(seen.latents, terms, seen.screen)
    gram, given = Gram(), build_design(seen)
    gram.update(seen.latents)
    prior = Prior(ObservationGram(gram, given), given, hyperparameters or Hyperparameters())
    eta = np.random.default_rng(0).standard_normal(len(prior.design))
    return prior, ObservationLikelihood(prior.design, *prior.limits()).derivatives(eta)[1]


@pytest.mark.parametrize("choices", [False, True])
def test_a_factor_grows_to_what_it_is_anew(people, choices):
    terms = [people.term("best", range(i, i + 4)) for i in range(0, 60, 4)] if choices else None
    prior, curvature = prior_and_curvature(people, terms)
    whole = factorize(prior.dense(), curvature)
    have = prior.design.uncut(32)
    assert np.allclose(extend_factor(whole[:have, :have], prior.dense(), curvature), whole, atol=1e-9)


@pytest.mark.parametrize(("walk", "share"), [(0.0, 0.85), (0.003, 0.7), (0.3, 0.2)])
def test_parts_save_steps(people, walk, share):
    prior, curvature = prior_and_curvature(people, None, Hyperparameters(walk=walk), 300, 2048)
    counted = []

    def steps(nearly):
        products = []

        def product(v):
            products.append(1)
            return v + curvature.times(prior.dense() @ curvature.times(v, transpose=True))

        right = np.random.default_rng(1).standard_normal(len(prior.design))
        x = conjugate_gradients(product, right, 1e-8, nearly)
        assert np.allclose(product(x), right, atol=1e-5)
        counted.append(len(products))

    steps(lambda v: v)
    steps(LowRankPreconditioner(prior).inverse(curvature, 0.0))
    assert counted[1] < share * counted[0]


def test_the_threshold_is_inverted_exactly(people, monkeypatch):
    """Latents of no length leave a threshold alone, here with several ratings a screen; two vectors at once."""
    seen, _ = people.rated(60, per=3)
    gram, given = Gram(), build_design(seen)
    gram.update(np.zeros_like(seen.latents))
    prior = Prior(ObservationGram(gram, given), given, Hyperparameters(walk=0.3, offset=0.0))
    monkeypatch.setattr(prior, "prior_variances", lambda: np.zeros(60))
    curvature = ObservationLikelihood(given, *prior.limits()).derivatives(np.random.default_rng(0).standard_normal(60))[
        1
    ]
    vectors = np.random.default_rng(1).standard_normal((60, 2))
    found = LowRankPreconditioner(prior).inverse(curvature, 0.0)(vectors)
    assert np.allclose(found + curvature.times(prior.dense() @ curvature.times(found)), vectors, atol=1e-9)


def test_covariance_that_grew_is_the_one_made_at_once(people):
    seen, _ = people.rated(90, per=3)
    model = LinearGP()
    for count in (30, 31, 60, 45, 90):
        model.add(people.first(seen, count))
    fresh = LinearGP()
    fresh.fit(seen)
    assert np.allclose(model.posterior.prior.dense(), fresh.posterior.prior.dense(), atol=1e-5)


def test_observations_are_not_cut_within_a_choice(people):
    terms = [people.term("best", [0, 1, 2, 3]), people.term("rate", [4], 1), people.term("best", [5, 6, 7])]
    given = build_design(people.observations(np.eye(8), terms))
    assert [given.uncut(count) for count in range(7)] == [0, 0, 0, 3, 4, 4, 6]
    assert [len(given.first(count)) for count in (1, 3, 4, 5)] == [3, 3, 4, 6]
