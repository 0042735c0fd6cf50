"""Statements, their likelihoods and their slopes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit

from diptych.errors import InputError
from diptych.prefer.utility.inference.observations import RECENT, build_design, derivatives, log_likelihood, recent_rows

STAR, TIE = 0.8, 0.5


@pytest.fixture
def mixture(people):
    term = people.term
    terms = [
        term("rate", [0], 1, screen=1),
        term("rate", [1], 0, weight=2.5, screen=1),
        *[term("stars", [2], stars, screen=2) for stars in range(1, 6)],
        term("pair", [0, 3]),
        term("tie", [1, 3]),
        term("skip", [5]),
        term("best", [4, 0, 1, 2], weight=1.7),
        term("best", [0, 2]),
    ]
    return build_design(people.observations(np.eye(6, 16), terms, [1, 1, 2, 2, 2, 3]))


def test_a_skip_says_nothing_and_a_choice_of_two_is_a_pair(mixture):
    assert len(mixture) == 2 + 5 + 1 + 1 + 3 + 1
    assert 9 not in mixture.term
    assert (mixture.choice >= 0).sum() == 3
    assert mixture.unit[-1] == mixture.unit[7]


def test_chances_of_all_outcomes_add_up_to_one(people):
    def chance(*terms, eta=0.3):
        given = build_design(people.observations(np.eye(3, 8), terms))
        return np.exp(log_likelihood(np.full(len(given), eta), given, *given.limits(STAR, TIE)))

    term = people.term
    assert chance(term("rate", [0], 1)) + chance(term("rate", [0], 0)) == pytest.approx(1)
    assert sum(chance(term("stars", [0], stars)) for stars in range(1, 6)) == pytest.approx(1)
    lost = chance(term("pair", [1, 0]), eta=-0.3)
    assert chance(term("pair", [0, 1])) + lost + chance(term("tie", [0, 1])) == pytest.approx(1)


def test_choice_is_plackett_luce(people):
    given = build_design(people.observations(np.eye(3, 8), [people.term("best", [1, 0, 2])]))
    u = np.array([0.4, -0.2, 1.1])
    eta = given.contrast @ u
    assert log_likelihood(eta, given, *given.limits(STAR, TIE)) == pytest.approx(-0.2 - np.log(np.exp(u).sum()))


def test_pairs_without_ties_are_logistic_in_the_difference(people):
    given = build_design(people.observations(np.eye(2, 8), [people.term("pair", [0, 1])]))
    assert log_likelihood(np.array([0.7]), given, *given.limits(STAR, 0.0)) == pytest.approx(np.log(expit(0.7)))


def test_gradient_and_curvature_are_those_of_the_likelihood(mixture):
    limits = mixture.limits(STAR, TIE)
    eta = np.random.default_rng(0).standard_normal(len(mixture))
    assert (
        check_grad(lambda e: log_likelihood(e, mixture, *limits), lambda e: derivatives(e, mixture, *limits)[0], eta)
        < 1e-5
    )
    slope, curvature = derivatives(eta, mixture, *limits)
    step = 1e-6
    jacobian = np.stack(
        [(derivatives(eta + step * unit, mixture, *limits)[0] - slope) / step for unit in np.eye(len(eta))]
    )
    root = curvature.times(np.eye(len(eta)))
    assert np.allclose(root.T @ root, -jacobian, atol=1e-4)
    assert np.allclose(curvature.times(np.eye(len(eta)), transpose=True), root.T)


def test_weight_multiplies_the_log_likelihood(people):
    def value(weight):
        given = build_design(
            people.observations(
                np.eye(3, 8), [people.term("best", [0, 1, 2], weight=weight), people.term("rate", [0], 1, weight)]
            )
        )
        return log_likelihood(np.array([0.2, -0.3, 0.5]), given, *given.limits(STAR, TIE))

    assert value(3.0) == pytest.approx(3 * value(1.0))


def test_threshold_follows_only_what_was_seen_on_earlier_screens():
    seen = np.repeat(np.arange(1, 11), 4)
    assert list(recent_rows(seen, 1)) == []
    assert list(recent_rows(seen, 3)) == list(range(8))
    assert list(recent_rows(seen, None)) == list(range(40 - RECENT, 40))


def test_unknown_kind_is_refused(people):
    with pytest.raises(InputError, match="'maybe'"):
        build_design(people.observations(np.eye(2, 8), [people.term("maybe", [0])]))
