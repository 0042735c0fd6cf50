"""The utility of settings whose pictures are known: a covariance, what it learns, and that judgements alone decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diptych.prefer.spaces.cube import Cube, settings, sobol
from diptych.prefer.spaces.image_features import ImageFeatures
from diptych.prefer.utility.gp.image_kernel import RESIDUAL_VARIANCE, ImageKernel
from diptych.prefer.utility.gp.settings_kernel import IMAGE_VARIANCE, SettingsHyperparameters, settings_kernel
from diptych.prefer.utility.settings_gp import SettingsGP

CUBE = Cube((slice(0, 2),))
D = 5
SETTINGS = settings(D, CUBE)
DEFAULTS = SettingsHyperparameters(length_scales=(1.0,) * 4)
HYPERPARAMETERS = replace(DEFAULTS, image_variance=IMAGE_VARIANCE)


def cube(count, seed=0):
    return sobol(count, D, CUBE, np.random.default_rng(seed))


def quality(points):
    """A number that settings decide in a rough way, as a reconstruction's error is decided."""
    return np.sin(14 * points[:, 2]) + np.cos(11 * points[:, 3] + 6 * points[:, 0]) + np.sin(9 * points[:, 4])


def image(point):
    """A ramp whose steepness is the quality, and a second pattern that is of no account."""
    x = np.linspace(-1, 1, 24)
    shown = 0.5 + 0.15 * quality(point[None])[0] * x[:, None] + 0.1 * np.sin(20 * point[2] * point[4]) * x
    return np.repeat((255 * np.clip(shown, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def shown(points):
    features = ImageFeatures(CUBE)
    for point in points:
        features.keep(point, image(point))
    return features.snapshot()


def judged(people, points):
    """Each compared with the next."""
    worth = quality(points)
    order = [(a, a + 1) if worth[a] > worth[a + 1] else (a + 1, a) for a in range(len(points) - 1)]
    return people.observations(points, [people.term("pair", pair) for pair in order])


def fitted_to(seen, features):
    model = SettingsGP(CUBE)
    assert model.fit(seen, features) == "ok"
    return model.fitted


def test_it_is_a_covariance_whose_diagonal_is_the_variance():
    points = cube(64)
    judged_points = ImageKernel(points[:12], CUBE, shown(points[:40]))
    kernel = judged_points.covariance(points, points, HYPERPARAMETERS)
    assert kernel == pytest.approx(kernel.T)
    assert np.linalg.eigvalsh(kernel).min() > -1e-9
    assert np.diag(kernel) == pytest.approx(judged_points.variance(points, HYPERPARAMETERS))
    assert judged_points.covariance(points[30:50], points[:7], HYPERPARAMETERS) == pytest.approx(kernel[30:50, :7])


def test_pictures_part_has_mean_zero_and_spread_one_over_those_judged_first():
    points = cube(32)
    judged_points = ImageKernel(points[:16], CUBE, shown(points))
    image_variance = 1e9  # nothing else counts
    kernel = judged_points.covariance(points[:16], points[:16], replace(HYPERPARAMETERS, image_variance=image_variance))
    assert kernel.mean(axis=0) == pytest.approx(np.zeros(16), abs=1e-6)
    assert np.trace(kernel) / 16 == pytest.approx(1, abs=1e-6)


def test_without_pictures_settings_alone_count():
    points = cube(16)
    wanted = settings_kernel(points, points, SETTINGS, DEFAULTS)
    assert np.array_equal(ImageKernel(points, CUBE).covariance(points, points, DEFAULTS), wanted)
    assert np.array_equal(
        ImageKernel(points, CUBE, shown(points[:1])).covariance(points, points, HYPERPARAMETERS),
        settings_kernel(points, points, SETTINGS, HYPERPARAMETERS),
    )
    grey = ImageFeatures(CUBE)
    for point in points:
        grey.keep(point, np.zeros((8, 8, 3), np.uint8))
    assert np.array_equal(
        ImageKernel(points, CUBE, grey.snapshot()).covariance(points, points, HYPERPARAMETERS),
        settings_kernel(points, points, SETTINGS, HYPERPARAMETERS),
    )


def test_settings_without_a_picture_are_kriged_from_those_with_one():
    points, other = cube(24), cube(64, 7)[5:9]
    judged_points = ImageKernel(points[:12], CUBE, shown(points))
    inner = settings_kernel(points, points, SETTINGS, DEFAULTS) + RESIDUAL_VARIANCE * np.eye(24)
    weights = np.linalg.solve(inner, settings_kernel(points, other, SETTINGS, DEFAULTS)).T
    known = judged_points.covariance(points, points, HYPERPARAMETERS)
    left = settings_kernel(other, other, SETTINGS, DEFAULTS) - weights @ settings_kernel(
        points, other, SETTINGS, DEFAULTS
    )
    assert judged_points.covariance(other, points, HYPERPARAMETERS) == pytest.approx(weights @ known)
    assert judged_points.covariance(other, other, HYPERPARAMETERS) == pytest.approx(weights @ known @ weights.T + left)


def test_a_dozen_judgements_tell_what_is_thought_of_pictures_never_judged(people):
    points = cube(128)
    seen = judged(people, points[:20])
    by_images, by_settings = fitted_to(seen, shown(points)), fitted_to(seen, None)
    worth = quality(points[20:])
    assert np.corrcoef(by_images.expected(points[20:]), worth)[0, 1] > 0.9
    assert np.corrcoef(by_settings.expected(points[20:]), worth)[0, 1] < 0.6
    assert np.array_equal(by_images.score(points[20:])[0], by_images.expected(points[20:]))


def test_images_that_were_not_judged_leave_the_posterior_of_the_judged_ones_unchanged(people):
    points = cube(64)
    seen = judged(people, points[:20])
    few, many = fitted_to(seen, shown(points[:20])), fitted_to(seen, shown(points))
    assert few.hyperparameters == many.hyperparameters
    assert np.allclose(few.score(points[:20]), many.score(points[:20]), rtol=1e-9)


def test_a_fit_keeps_the_features_that_it_was_given(people):
    points = cube(64)
    seen = judged(people, points[:20])
    live = ImageFeatures(CUBE)
    for point in points[:20]:
        live.keep(point, image(point))
    fitted = fitted_to(seen, live.snapshot())
    before = fitted.score(points)
    for point in points[20:60]:
        live.keep(point, image(point))
    assert np.array_equal(fitted.score(points), before)
    assert len(fitted.previewed) == 20


def test_more_features_update_the_predictions_as_a_new_fit_does(people):
    points = cube(64)
    seen = judged(people, points[:20])
    few, many = fitted_to(seen, shown(points[:20])), fitted_to(seen, shown(points))
    updated = few.with_features(shown(points))
    assert np.allclose(updated.score(points), many.score(points), rtol=1e-9)
    assert not np.allclose(few.expected(points[20:]), updated.expected(points[20:]))
    assert len(updated.previewed) == 64


def test_draws_and_predictions_of_settings_with_and_without_a_picture(people):
    points = cube(64)
    terms = [people.term("rate", [row], int(worth > 0), screen=row) for row, worth in enumerate(quality(points[:32]))]
    fitted = fitted_to(people.observations(points[:32], terms, np.arange(32)), shown(points[:48]))
    mean, spread = fitted.score(points[40:56])
    drawn = fitted.draw(points[40:56], np.random.default_rng(0), 20_000)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.03)
    assert drawn.std(axis=0) == pytest.approx(spread, abs=0.03)
    chance = fitted.predict(points[32:48])
    assert ((chance > 0.5) == (quality(points[32:48]) > 0)).mean() > 0.8
