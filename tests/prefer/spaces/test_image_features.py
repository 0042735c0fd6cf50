"""What pictures look like: blocks against sums by hand, distances, and which points have a picture."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.spaces.cube import Cube, settled
from diptych.prefer.spaces.image_features import SIDE, Gallery, appearance

CUBE = Cube((slice(0, 2),))


def image(seed, shape=(40, 96, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_look_is_mean_and_spread_of_blocks():
    given = image(0, (50, 96, 3))
    look = appearance(given)
    # Blocks of 96 / 32 = 3 pixels: 17 rows of them, the last of two pixels, and 32 columns.
    blocks = [given[y : y + 3, x : x + 3].reshape(-1, 3) / 255 for y in range(0, 50, 3) for x in range(0, 96, 3)]
    wanted = np.concatenate(
        [np.ravel([block.mean(axis=0) for block in blocks]), np.ravel([block.std(axis=0) for block in blocks])]
    )
    assert look == pytest.approx(wanted, abs=1e-6)


def test_small_pictures_count_pixel_by_pixel():
    given = image(0, (5, SIDE, 3))
    look = appearance(given)
    assert look[: given.size] == pytest.approx(given.ravel() / 255)
    assert not look[given.size :].any()


def test_noise_is_seen_that_means_hide():
    flat = np.full((64, 64, 3), 128, np.uint8)
    noisy = flat + np.tile(np.array([[40, 216], [216, 40]], np.uint8)[..., None], (32, 32, 3))
    half = len(appearance(flat)) // 2
    assert np.abs(appearance(noisy) - appearance(flat))[:half].max() < 0.01
    assert np.abs(appearance(noisy) - appearance(flat))[half:].min() > 0.1


def test_distances_are_those_of_looks():
    gallery = Gallery(CUBE)
    assert gallery.pictures is None
    points = settled(np.random.default_rng(0).random((4, 4)), CUBE)
    for seed, point in enumerate(points):
        gallery.keep(point, image(seed))
    looks = np.stack([appearance(image(seed)) for seed in range(4)])
    assert gallery.pictures.apart == pytest.approx(((looks[:, None] - looks) ** 2).sum(axis=2), rel=1e-5)
    assert np.array_equal(gallery.pictures.points, points)


def test_the_first_picture_of_settings_counts_and_one_of_another_shape_does_not():
    gallery = Gallery(CUBE)
    gallery.keep([0.9, 0.1, 0.5], image(0))
    gallery.keep([1.0, 0.0, 0.5], image(1))
    gallery.keep([0.0, 1.0, 0.5], image(2, (30, 30, 3)))
    gallery.keep([0.0, 1.0, 0.7], image(3))
    assert [0.6, 0.3, 0.5] in gallery
    assert [0.0, 1.0, 0.5] not in gallery
    points = settled([[1, 0, 0.5], [0, 1, 0.5], [0, 1, 0.7]], CUBE)
    assert gallery.places(points).tolist() == [0, -1, 1]
    assert gallery.pictures.apart[0, 1] == pytest.approx(
        ((appearance(image(0)) - appearance(image(3))) ** 2).sum(), rel=1e-5
    )


def test_what_was_handed_out_does_not_change():
    gallery = Gallery(CUBE)
    gallery.keep([1, 0, 0.5], image(0))
    before = gallery.pictures
    gallery.keep([1, 0, 0.6], image(1))
    assert before.points.shape == (1, 3)
    assert before.apart.shape == (1, 1)
    assert gallery.pictures.apart.shape == (2, 2)
