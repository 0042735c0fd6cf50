"""The sphere, the anchor of a prompt, and the tests of typicality."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.fft import dctn, idctn

from angles import angle_between
from diptych.errors import InputError
from diptych.prefer.spaces.sphere import (
    LIMIT,
    Typicality,
    combine,
    on_sphere,
    prompt_anchor,
    turn,
    typicality,
    usual_shape,
)

SHAPE = (4, 64, 64)


def noise(seed, count=None, d=16384):
    return np.random.default_rng(seed).standard_normal(d if count is None else (count, d))


def test_sphere_keeps_direction_and_sets_length():
    z = 7 * noise(0)
    assert np.linalg.norm(on_sphere(z)) == pytest.approx(128)
    assert angle_between(z, on_sphere(z)) == pytest.approx(0, abs=1e-9)


def test_zero_has_no_direction():
    with pytest.raises(InputError, match="no direction"):
        on_sphere(np.zeros(256))


def test_turn_makes_the_angle_asked_for():
    a, b = noise(1, 2)
    for angle in (0.05, 0.9, math.pi / 2):
        assert angle_between(a, turn(a, b, angle)) == pytest.approx(angle, abs=1e-9)


def test_combination_lies_between_its_parents():
    a, b = noise(2, 2)
    child = combine([a, b], [1.0, 1.0])
    assert angle_between(a, child) == pytest.approx(angle_between(b, child), abs=1e-9)
    assert angle_between(a, child) == pytest.approx(angle_between(a, b) / 2, abs=1e-9)


def test_anchor_belongs_to_its_prompt():
    assert np.array_equal(prompt_anchor("a house", 256), prompt_anchor("a house", 256))
    assert angle_between(prompt_anchor("a house", 16384), prompt_anchor("a mouse", 16384)) == pytest.approx(
        math.pi / 2, abs=0.05
    )


@pytest.mark.parametrize(
    ("d", "shape"), [(256, (4, 8, 8)), (12544, (4, 56, 56)), (16384, SHAPE), (25600, (4, 80, 80)), (300, (1, 1, 300))]
)
def test_usual_shapes(d, shape):
    assert usual_shape(d) == shape


@pytest.mark.parametrize("d", [256, 300, 4096, 12544, 16384])
def test_noise_passes(d):
    tests = typicality(usual_shape(d))
    passed = [tests.passes(on_sphere(noise(seed, d=d))) for seed in range(60)]
    assert sum(passed) >= 59


def test_statistics_of_noise_are_standardised():
    tests = Typicality(SHAPE)
    scores = np.array([list(tests.scores(noise(seed)).values()) for seed in range(200)])
    assert np.all(np.abs(scores.mean(axis=0)) < 0.3)
    assert np.all(np.abs(scores.std(axis=0) - 1) < 0.2)


def spoiled(kind):
    z = noise(5).reshape(SHAPE)
    if kind == "smooth":
        waves = dctn(z, axes=(1, 2), norm="ortho")
        waves[:, :8, :8] *= 2
        z = idctn(waves, axes=(1, 2), norm="ortho")
    elif kind == "bright":
        z = z + np.array([0.5, 0, 0, 0])[:, None, None]
    elif kind == "channel":
        z = z * np.array([1.3, 1, 1, 1])[:, None, None]
    elif kind == "neighbours":
        z = z + 0.2 * np.roll(z, 1, axis=2)
    return z.ravel()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("smooth", "band 0"), ("bright", "mean of channel 0"), ("channel", "channel 0"), ("neighbours", "across")],
)
def test_projection_fixes_what_fails_and_names_it(kind, name):
    tests, z = typicality(SHAPE), spoiled(kind)
    assert not tests.passes(on_sphere(z))
    projection = tests.project(z)
    assert tests.passes(projection.latent)
    assert tests.passes(projection.latent.astype(np.float32))
    assert any(name in bound for bound in projection.bound)
    assert angle_between(z, projection.latent) < 0.5
    assert np.linalg.norm(projection.latent) == pytest.approx(128)


def test_projection_leaves_noise_alone():
    z = on_sphere(noise(6))
    projection = typicality(SHAPE).project(z)
    assert projection.bound == ()
    assert np.allclose(projection.latent, z)


def test_bands_hold_enough_coefficients_and_cover_all():
    for d in (256, 300, 1024, 4096, 16384, 25600):
        from diptych.prefer.spaces.sphere import BAND, _bands

        counts = np.bincount(_bands(usual_shape(d)).ravel())
        assert counts.sum() == d
        assert counts.min() >= min(BAND, d)


def test_every_limit_is_kept_by_a_far_extrapolation():
    tests = typicality(SHAPE)
    low = np.zeros(SHAPE)
    low[:, :3, :3] = 10 * np.random.default_rng(1).standard_normal((4, 3, 3))
    z = idctn(low, axes=(1, 2), norm="ortho").ravel() + noise(3)
    assert max(abs(score) for score in tests.scores(tests.project(z).latent).values()) <= LIMIT
