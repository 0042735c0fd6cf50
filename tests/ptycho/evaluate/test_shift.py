"""A result in other coordinates scores what it scores in the right ones; unrelated images have no score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.evaluate.registration.shift import FAR, HERE, HERE_PX, NEAR, NEAR_PX, agreement
from diptych.ptycho.physics.illumination import soft_outside


@pytest.fixture(scope="module")
def scan():
    return diptych.simulate(object="dead-leaves", size=32, patterns=225, step=6, dose=1e6, seed=3)


@pytest.fixture(scope="module")
def result(scan):
    rng = np.random.default_rng(0)
    values = scan.truth.values + 0.05 * rng.normal(size=scan.truth.shape)
    return diptych.Reconstruction(diptych.Canvas(values, scan.truth.origin), scan.probe, scan.positions)


@pytest.mark.parametrize("moved", [(10, 0), (0, -25), (32, 32), (-100, 100), (400, 0)])
@pytest.mark.parametrize("with_positions", [False, True])
def test_the_origin_of_a_result_does_not_change_its_score(scan, result, moved, with_positions):
    right = diptych.evaluate(result, scan.truth)["complex_error"]
    canvas = replace(result.object, origin=tuple(np.add(result.object.origin, moved).tolist()))
    positions = result.positions + np.multiply(moved, with_positions)
    found = diptych.evaluate(replace(result, object=canvas, positions=positions), scan.truth)
    assert found["complex_error"] == pytest.approx(right, rel=0.05)
    assert found.alignment.shift == pytest.approx(moved, abs=0.2)


@pytest.mark.parametrize("kind", ["natural", "blocks", "gaussian-field"])
def test_unrelated_images_have_no_score_and_a_reason(scan, result, kind):
    other = diptych.simulate(object=kind, size=32, patterns=225, step=6, seed=8).truth
    rng = np.random.default_rng(1)
    noise = rng.normal(size=other.shape) + 1j * rng.normal(size=other.shape)
    for image in (other, replace(other, values=noise.astype(np.complex64))):
        surface = agreement(image.values, scan.truth.values)
        assert surface.peak().agreement < FAR
    found = diptych.evaluate(replace(result, object=replace(other, values=noise)), scan.truth)
    assert np.isnan(found["complex_error"])
    assert "no shift makes the images agree" in found.details["complex_error"].reason


LIT = {"all": 2.0, "half": 0.4, "tenth": 0.18}
"""Radius of a lit disc, in sides of the image."""


def partly_lit(image, radius, dose, rng):
    """The image with noise of that many photons per pixel in a lit disc, and anything outside it; and the light."""
    y, x = (np.arange(n) - n * part for n, part in zip(image.shape, (0.45, 0.55), strict=True))
    inside = np.hypot(y[:, None], x) < radius * min(image.shape)
    noise = rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape)
    return np.where(inside, image + noise / 2 / np.sqrt(dose), 20 * noise), soft_outside(inside, 8.0)


@pytest.mark.parametrize("lit", LIT)
@pytest.mark.parametrize("dose", [10.0, 200.0])
def test_chance_is_told_from_a_far_shift_whatever_was_lit(lit, dose):
    kinds = ("blocks", "lines", "dead-leaves", "natural")
    images = [diptych.simulate(object=kind, size=32, patterns=400, step=6, seed=4).truth.values for kind in kinds]
    for number, image in enumerate(images):
        rng = np.random.default_rng(number)
        seen, light = partly_lit(image, LIT[lit], dose, rng)
        surface = agreement(seen * light, images[number - 1], weight=light)
        assert surface.peak().agreement < FAR
        assert surface.peak(NEAR_PX).agreement < NEAR
        assert surface.peak(HERE_PX).agreement < HERE
        # The true image, moved by up to half of the field.
        away = (image.shape[0] // 4, -image.shape[1] // 3)
        moved = agreement(seen * light, image, away, light).peak()
        assert moved.shift == away
        # Lit to a tenth, a true shift may stay below what chance reaches elsewhere: then nothing is claimed.
        assert lit == "tenth" or moved.agreement > FAR


def test_large_images_are_searched_in_bins_to_the_pixel(monkeypatch):
    from diptych.ptycho.evaluate.registration import shift

    truth = diptych.simulate(object="dead-leaves", size=32, patterns=400, step=6, seed=1).truth
    monkeypatch.setattr(shift, "_LARGEST", 64)
    surface = agreement(truth.values, truth.values, (31, -17))
    assert surface.step > 1
    exact = shift.refined(truth.values, truth.values, (31, -17), surface.peak(), surface.step)
    assert exact == (31, -17)
