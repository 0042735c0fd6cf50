"""The utility of settings: its prior against sums over the cube, its posterior against closed forms and integrals, and
invariances."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from diptych.prefer.spaces.cube import Cube, settings, settled, sobol
from diptych.prefer.utility import Fitted, Utility, expected, make_utility
from diptych.prefer.utility.gp.settings_kernel import (
    SettingsHyperparameters,
    linear_features,
    settings_kernel,
    settings_variance,
)
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.settings_gp import ImageKernel, SettingsGP, maximize_settings_evidence

CUBE = Cube((slice(0, 3),))
D = 6
SETTINGS = settings(D, CUBE)
HYPERPARAMETERS = SettingsHyperparameters(length_scales=(0.6, 1.0, 2.0, 1.3))


def cube(count=64, seed=0):
    return sobol(count, D, CUBE, np.random.default_rng(seed))


def taste(points):
    """Best in a corner of the second value."""
    return points[:, 3] - (points[:, 4] - 0.8) ** 2 + 0.5 * points[:, 1]


@pytest.fixture
def pairs(people):
    """Forty points, of which neighbours were compared."""
    points = cube(40, 3)
    worth = taste(points)
    order = [(a, a + 1) if worth[a] > worth[a + 1] else (a + 1, a) for a in range(39)]
    return people.observations(points, [people.term("pair", pair) for pair in order])


def fitted_to(seen):
    model = SettingsGP(CUBE)
    assert model.fit(seen) == "ok"
    return model.fitted


def test_it_meets_the_protocol(pairs):
    model = make_utility("surface", cube=CUBE)
    assert isinstance(model, Utility)
    assert model.status == "untrained"
    assert model.fitted is None
    fitted: Fitted = fitted_to(pairs)
    assert fitted.dimension == D
    assert fitted.reach > 0
    assert np.linalg.norm(fitted.direction()) == pytest.approx(1)
    assert fitted.sample(np.random.default_rng(0), 3).shape == (3, D)
    assert np.array_equal(expected(fitted, cube()), fitted.score(cube())[0])


def test_the_prior_has_mean_zero_and_spread_one_over_the_cube():
    points = cube(4096)
    some = points[:16]
    assert settings_kernel(points, some, SETTINGS, HYPERPARAMETERS).mean(axis=0) == pytest.approx(
        np.zeros(16), abs=2e-3
    )
    assert settings_variance(points, SETTINGS, HYPERPARAMETERS).mean() == pytest.approx(1, abs=2e-3)
    assert (linear_features(points, SETTINGS) ** 2).sum(axis=1).mean() == pytest.approx(1, abs=2e-3)
    assert np.diag(settings_kernel(some, some, SETTINGS, HYPERPARAMETERS)) == pytest.approx(
        settings_variance(some, SETTINGS, HYPERPARAMETERS)
    )
    assert np.linalg.eigvalsh(settings_kernel(points[:200], points[:200], SETTINGS, HYPERPARAMETERS)).min() > -1e-9


def test_faint_choices_give_the_closed_form_of_regression(people):
    """A choice of three with little weight is a Gaussian observation: gradient weight x p and curvature
    weight x (diag(p) - pp'), with p = 1/3."""
    points, other, weight = cube(12, 5), cube(8, 9), 1e-3
    seen = people.observations(points, [people.term("best", (a, a + 1, a + 4), weight=weight) for a in (0, 3, 6)])
    fitted = fitted_to(seen)
    hyperparameters, contrast = fitted.hyperparameters, build_design(seen).contrast.toarray()
    assert hyperparameters == SettingsHyperparameters(length_scales=(1.0,) * 4), "few judgements leave the defaults"
    covariance = (
        hyperparameters.scale**2 * contrast @ settings_kernel(points, points, SETTINGS, hyperparameters) @ contrast.T
    )
    bend = weight * np.kron(np.eye(3), np.eye(2) / 3 - np.ones((2, 2)) / 9)
    inner = np.linalg.inv(covariance + np.linalg.inv(bend))
    across = hyperparameters.scale * contrast @ settings_kernel(points, other, SETTINGS, hyperparameters)
    mean, spread = fitted.score(other)
    wanted = across.T @ inner @ np.linalg.solve(bend, np.full(6, weight / 3))
    assert np.abs(mean - wanted).max() < 0.05 * np.abs(wanted).max()
    left = settings_variance(other, SETTINGS, hyperparameters) - np.einsum("mk,ml,lk->k", across, inner, across)
    assert spread == pytest.approx(np.sqrt(left), rel=0.02)
    assert spread.max() < np.sqrt(settings_variance(other, SETTINGS, hyperparameters)).max()


@pytest.mark.parametrize("kind", ["rate", "pair"])
def test_one_judgement_has_the_moments_of_its_integral(people, kind):
    points = cube(2, 1)
    term = people.term("rate", [0], 1, screen=1) if kind == "rate" else people.term("pair", [0, 1])
    fitted = fitted_to(people.observations(points, [term], [1, 1]))
    hyperparameters = fitted.hyperparameters
    kernel = settings_kernel(points, points, SETTINGS, hyperparameters)
    rng = np.random.default_rng(0)
    u = rng.multivariate_normal(np.zeros(2), kernel, 400_000)
    if kind == "rate":
        level = rng.normal(0, math.sqrt(2 + hyperparameters.offset), len(u))
        chance = expit(hyperparameters.scale * (u[:, 0] - level))
    else:
        chance = expit(hyperparameters.scale * (u[:, 0] - u[:, 1] - hyperparameters.tie_width))
    mean = (u * chance[:, None]).sum(axis=0) / chance.sum()
    spread = np.sqrt(((u - mean) ** 2 * chance[:, None]).sum(axis=0) / chance.sum())
    found = fitted.score(points)
    assert found[0] == pytest.approx(mean, abs=0.01)
    assert found[1] == pytest.approx(spread, abs=0.01)


def test_draws_have_the_moments_of_the_posterior(pairs):
    fitted, points = fitted_to(pairs), cube(12, 9)
    mean, spread = fitted.score(points)
    drawn = fitted.draw(points, np.random.default_rng(0), 20_000)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.03)
    assert drawn.std(axis=0) == pytest.approx(spread, abs=0.03)
    slopes = fitted.sample(np.random.default_rng(0), 20_000).mean(axis=0)
    assert slopes @ fitted.direction() == pytest.approx(np.linalg.norm(slopes), rel=0.01)
    assert np.array_equal(fitted.draw(points, np.random.default_rng(1)), fitted.draw(points, np.random.default_rng(1)))


def test_every_kind_of_judgement_teaches(people):
    points = cube(24, 3)
    worth = taste(points)
    order = np.argsort(-worth)
    term = people.term
    kinds = {
        "rate": [term("rate", [row], int(worth[row] > np.median(worth)), screen=row // 4) for row in range(24)],
        "stars": [
            term("stars", [row], 1 + int(np.searchsorted(np.quantile(worth, (0.2, 0.4, 0.6, 0.8)), worth[row])))
            for row in range(24)
        ],
        "pair": [term("pair", sorted((a, a + 1), key=lambda row: -worth[row])) for a in range(23)],
        "best": [term("best", sorted(range(a, a + 4), key=lambda row: -worth[row])) for a in range(0, 21, 2)],
        "tie": [term("pair", order[[0, 23]]), *(term("tie", order[[a, a + 1]]) for a in range(23))],
    }
    for kind, terms in kinds.items():
        fitted = fitted_to(people.observations(points, [*terms, term("skip", [0])], np.arange(24) // 4))
        other = cube(256, 8)
        assert np.corrcoef(fitted.expected(other), taste(other))[0, 1] > (0.3 if kind == "tie" else 0.6), kind
        assert fitted.train.total == fitted.loo_agreement().total == len(terms)


def test_weight_is_repetition_and_the_order_of_fits_does_not_matter(people, pairs):
    points, other = pairs.latents, cube(16, 8)
    choices = [[0, 1, 2], [3, 1, 4]]
    once = fitted_to(people.observations(points, [people.term("best", rows, weight=1.0) for rows in choices]))
    heavy = fitted_to(people.observations(points, [people.term("best", rows, weight=1.5) for rows in choices]))
    parts = [people.term("best", choices[0], weight=0.75), people.term("best", choices[1], weight=1.5)]
    repeated = fitted_to(people.observations(points, [*parts, parts[0]]))
    assert np.allclose(heavy.score(other), repeated.score(other), atol=0.03), (
        "sites of half the weight are a little less exact"
    )
    assert heavy.reach > once.reach
    grown = SettingsGP(CUBE)
    for count in (3, 9, 17, 30, 39, 12, 39):
        grown.add(people.observations(points, pairs.terms[:count]))
    assert np.allclose(grown.fitted.score(other), fitted_to(pairs).score(other), atol=1e-9)


def test_points_that_mean_the_same_settings_have_the_same_utility(people, pairs):
    fitted = fitted_to(pairs)
    unused = cube(8, 2)
    unused[:, :3] = 0.2 + 0.5 * unused[:, :3]
    assert np.array_equal(fitted.score(unused), fitted.score(settled(unused, CUBE)))
    unused = np.asarray(pairs.latents, np.float64)
    unused[:, :3] = 0.1 + 0.6 * unused[:, :3]
    assert np.allclose(
        fitted_to(people.observations(unused, pairs.terms)).expected(cube(8, 2)), fitted.expected(cube(8, 2)), atol=1e-6
    )


def test_turning_a_setting_round_turns_the_utility_round(people, pairs):
    turned = pairs.latents.copy()
    turned[:, 3] = 1 - turned[:, 3]
    points = cube(16, 8)
    mirrored = points.copy()
    mirrored[:, 3] = 1 - mirrored[:, 3]
    fitted, other = fitted_to(pairs), fitted_to(people.observations(turned, pairs.terms))
    assert np.allclose(other.expected(mirrored), fitted.expected(points), atol=1e-4)


def test_evidence_finds_which_settings_matter(people):
    """Only one number counts, and it counts sharply: its hills are narrow, those along the others wide."""
    points = cube(64, 4)
    worth = np.sin(9 * points[:, 3])
    order = [people.term("pair", sorted((a, (a + 7) % 64), key=lambda row: -worth[row])) for a in range(64)]
    seen = people.observations(points, order)
    found = maximize_settings_evidence(
        ImageKernel(points, CUBE), build_design(seen), replace(HYPERPARAMETERS, length_scales=(1.0,) * 4)
    )
    assert found.length_scales[0] < 0.75
    assert min(found.length_scales[1:]) > 2 * found.length_scales[0]
    assert np.corrcoef(fitted_to(seen).expected(cube(256, 8)), np.sin(9 * cube(256, 8)[:, 3]))[0, 1] > 0.8


@pytest.mark.integration
def test_ratings_are_predicted_and_choices_among_twelve_are_supported(people):
    points = cube(64, 6)
    worth = taste(points)
    terms = [people.term("rate", [row], int(worth[row] > 0.6), screen=row) for row in range(48)]
    fitted = fitted_to(people.observations(points, terms, np.arange(64)))
    chance = fitted.predict(points[48:])
    assert ((chance > 0.5) == (worth[48:] > 0.6)).mean() > 0.75
    assert ((chance > 0) & (chance < 1)).all()
    order = np.argsort(-worth)
    ranked = [people.term("best", order[place : place + 12]) for place in range(0, 52, 4)]
    fitted = fitted_to(people.observations(points, ranked))
    assert np.corrcoef(fitted.expected(points), worth)[0, 1] > 0.9


def test_nothing_said_is_untrained(people):
    model = SettingsGP(CUBE)
    assert model.fit(people.observations(cube(4), [people.term("skip", [0])])) == "untrained"
    assert model.fit(people.observations(cube(4), [people.term("tie", [0, 1])])) == "untrained"
    assert model.fitted is None
