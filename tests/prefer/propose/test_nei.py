"""Noisy expected improvement for settings: distinct, one-hot, repeatable, and nearer the peak than random points."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer.propose import Situation
from diptych.prefer.propose.nei import LOOKS, NoisyImprovement, _improving
from diptych.prefer.spaces.cube import Cube, settled, sobol
from diptych.prefer.spaces.image_features import ImageFeatures
from diptych.prefer.utility.baselines.ridge import Ridge
from diptych.prefer.utility.settings_gp import SettingsGP

CUBE = Cube((slice(0, 3),))
D = 7
PEAK = np.array([0.8, 0.3, 0.6, 0.2])


def loss(points):
    """Least at the peak and the third value: 0."""
    return np.sqrt(((points[:, 3:] - PEAK) ** 2).sum(axis=1) + 0.5 * (1 - points[:, 2]))


def observations(points, terms):
    return SimpleNamespace(latents=np.asarray(points, np.float32), screen=np.arange(len(points)) // 4 + 1, terms=terms)


def choice(rows, screen):
    return SimpleNamespace(kind="best", rows=tuple(rows), value=1, weight=1.0, screen=screen)


def searched(screens, seed=0):
    """Points shown when the best of four, and of what was best before, is chosen again and again; and the last fit."""
    model, way = SettingsGP(CUBE), NoisyImprovement()
    points, terms, best = np.zeros((0, D), np.float32), [], []
    for screen in range(screens):
        situation = Situation(D, model.fitted, cube=CUBE)
        found = way.propose(situation, 4, np.random.default_rng([seed, screen]))
        points = np.vstack([points, [one.latent for one in found]])
        rows = sorted([*best, *range(len(points) - 4, len(points))], key=lambda row: loss(points)[row])
        terms += [choice(rows[place:], screen + 1) for place in range(len(rows) - 1)]
        best = rows[:1]
        model.add(observations(points, terms))
    return points, model.fitted


@pytest.fixture(scope="module")
def found():
    return searched(6)


def test_regret_falls_and_below_that_of_chance(found):
    points, fitted = found
    recommended = points[np.argmax(fitted.expected(points))]
    rng = np.random.default_rng(0)
    chance = np.median([loss(sobol(24, D, CUBE, rng)).min() for _ in range(50)])
    assert loss(recommended[None])[0] < chance
    assert loss(points[-8:]).mean() < 0.7 * loss(points[:8]).mean()


def test_evenly_spread_points_come_before_draws_decide():
    points, fitted = searched(2)
    situation = Situation(D, fitted, cube=CUBE)
    for judged, decided in ((8, False), (12, True)):
        some = points if judged == 8 else searched(3)[0]
        model = SettingsGP(CUBE)
        model.add(observations(some, [choice(range(len(some)), 1)]))
        shown = NoisyImprovement().propose(Situation(D, model.fitted, cube=CUBE), 4, np.random.default_rng(5))
        assert [("expected" in one.provenance) for one in shown] == [decided] * 4
    early = [one.latent for one in NoisyImprovement().propose(situation, 4, np.random.default_rng(5))]
    assert np.array_equal(
        early, [one.latent for one in NoisyImprovement().propose(situation, 4, np.random.default_rng(5))]
    )
    assert not any(np.array_equal(latent, known) for latent in early for known in points)


def test_all_are_distinct_settled_and_in_the_cube(found):
    points, _ = found
    assert len(np.unique(points, axis=0)) == len(points)
    assert np.array_equal(settled(points, CUBE), points)
    assert points.min() >= 0
    assert points.max() <= 1


def test_what_is_asked_for_ahead_stays_different_and_near_the_best(found):
    points, fitted = found
    ahead = [
        NoisyImprovement().propose(Situation(D, fitted, cube=CUBE), 1, np.random.default_rng(seed))[0].latent
        for seed in range(6)
    ]
    assert len({one.tobytes() for one in ahead}) == 6
    assert not {one.tobytes() for one in ahead} & {one.tobytes() for one in points}
    everywhere = fitted.expected(sobol(256, D, CUBE, np.random.default_rng(0)))
    assert np.mean(fitted.expected(ahead)) > np.quantile(everywhere, 0.95)


def image(point):
    """Brighter the nearer the point is to the peak."""
    return np.full((4, 4, 3), round(255 * np.exp(-loss(point[None])[0])), np.uint8)


def test_more_images_are_decoded_than_shown_and_the_best_of_them_is_shown(found):
    points, _ = found
    features = ImageFeatures(CUBE)
    for point in points:
        features.keep(point, image(point))
    spare = sobol(16, D, CUBE, np.random.default_rng(9))
    features.keep(spare[np.argmin(loss(spare))], image(spare[np.argmin(loss(spare))]))
    model, previewed = SettingsGP(CUBE), []
    order = sorted(range(len(points)), key=lambda row: loss(points)[row])
    model.add(
        observations(points, [choice(order[place : place + 2], 1) for place in range(len(points) - 1)]),
        features.snapshot(),
    )

    def preview(latents):
        previewed.extend(latents)
        for latent in latents:
            features.keep(latent, image(latent))
        return model.fitted.with_features(features.snapshot())

    situation = Situation(D, model.fitted, cube=CUBE, preview=preview, given=points)
    shown = np.array([one.latent for one in NoisyImprovement().propose(situation, 2, np.random.default_rng(0))])
    assert len(previewed) == len(np.unique(previewed, axis=0)) == 2 * LOOKS
    assert not {one.tobytes() for one in previewed} & {one.tobytes() for one in points}
    waiting = np.vstack([previewed, spare[np.argmin(loss(spare))].astype(np.float32)])
    assert {one.tobytes() for one in shown} <= {one.tobytes() for one in waiting}
    assert loss(shown).min() == loss(waiting).min()
    again = replace(situation, given=np.vstack([points, shown]), preview=preview)
    other = NoisyImprovement().propose(again, 2, np.random.default_rng(0))
    assert not {one.latent.tobytes() for one in other} & {one.tobytes() for one in shown}


def test_each_point_adds_to_those_before_it():
    """The first is best by the mean gain; the third is nearly its twin and adds nothing to it; the last is never above
    the best."""
    drawn = np.array([[2.0, 0.0, 1.9, 0.5], [1.0, 1.6, 0.9, 0.5]])
    assert _improving(drawn, np.full(2, 0.6), 2) == [0, 1]
    assert _improving(drawn, np.full(2, 3.0), 4) == [0, 2, 1, 3]


@pytest.mark.parametrize("known", [False, True])
def test_same_generator_same_points_and_every_category_can_come(found, known):
    situation = Situation(D, found[1] if known else None, cube=CUBE)
    one, same, other = (NoisyImprovement().propose(situation, 3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a.latent, b.latent) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0].latent, other[0].latent)
    assert one[0].latent.dtype == np.float32
    if not known:
        many = np.array(
            [proposed.latent for proposed in NoisyImprovement().propose(situation, 30, np.random.default_rng(0))]
        )
        assert many[:, :3].any(axis=0).all()


def test_small_spaces_are_exhausted_and_then_reported():
    model = SettingsGP(CUBE)
    points = np.eye(3, dtype=np.float32)
    model.fit(observations(points, [choice([1, 0, 2], 1)]))
    situation = Situation(3, model.fitted, cube=CUBE)
    shown = NoisyImprovement().propose(situation, 3, np.random.default_rng(0))
    assert len({one.latent.tobytes() for one in shown}) == 3
    with pytest.raises(InputError, match="only 3 different settings; expected at most 3 images"):
        NoisyImprovement().propose(situation, 4, np.random.default_rng(0))


def test_a_model_without_draws_is_refused():
    model = Ridge()
    model.fit(observations(np.eye(4, 7), [SimpleNamespace(kind="rate", rows=(0,), value=1, weight=1.0, screen=1)]))
    with pytest.raises(InputError, match=r"a Linear has no joint draws .* Choose the utility surface"):
        NoisyImprovement().propose(Situation(7, model.fitted), 2, np.random.default_rng(0))
