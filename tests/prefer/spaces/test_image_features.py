"""Image features: block statistics computed by hand, distances, and which points have an image."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.spaces.cube import Cube, settled
from diptych.prefer.spaces.image_features import SIDE, ImageFeatures, image_features

CUBE = Cube((slice(0, 2),))


def image(seed, shape=(40, 96, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_features_are_mean_and_standard_deviation_of_blocks():
    given = image(0, (50, 96, 3))
    features = image_features(given)
    # Blocks of 96 / 32 = 3 pixels: 17 rows of them, the last of two pixels, and 32 columns.
    blocks = [given[y : y + 3, x : x + 3].reshape(-1, 3) / 255 for y in range(0, 50, 3) for x in range(0, 96, 3)]
    wanted = np.concatenate(
        [np.ravel([block.mean(axis=0) for block in blocks]), np.ravel([block.std(axis=0) for block in blocks])]
    )
    assert features == pytest.approx(wanted, abs=1e-6)


def test_small_images_have_one_block_per_pixel():
    given = image(0, (5, SIDE, 3))
    features = image_features(given)
    assert features[: given.size] == pytest.approx(given.ravel() / 255)
    assert not features[given.size :].any()


def test_noise_changes_the_standard_deviations():
    flat = np.full((64, 64, 3), 128, np.uint8)
    noisy = flat + np.tile(np.array([[40, 216], [216, 40]], np.uint8)[..., None], (32, 32, 3))
    half = len(image_features(flat)) // 2
    assert np.abs(image_features(noisy) - image_features(flat))[:half].max() < 0.01
    assert np.abs(image_features(noisy) - image_features(flat))[half:].min() > 0.1


def test_distances_are_between_features():
    known = ImageFeatures(CUBE)
    assert known.snapshot().points.shape == (0, 0)
    points = settled(np.random.default_rng(0).random((4, 4)), CUBE)
    for seed, point in enumerate(points):
        known.keep(point, image(seed))
    features = np.stack([image_features(image(seed)) for seed in range(4)])
    assert known.snapshot().distances == pytest.approx(((features[:, None] - features) ** 2).sum(axis=2), rel=1e-5)
    assert np.array_equal(known.snapshot().points, points)


def test_the_first_image_of_settings_is_kept_and_one_of_another_shape_is_rejected():
    known = ImageFeatures(CUBE)
    known.keep([0.9, 0.1, 0.5], image(0))
    known.keep([1.0, 0.0, 0.5], image(1))
    known.keep([0.0, 1.0, 0.5], image(2, (30, 30, 3)))
    known.keep([0.0, 1.0, 0.7], image(3))
    assert [0.6, 0.3, 0.5] in known
    assert [0.0, 1.0, 0.5] not in known
    points = settled([[1, 0, 0.5], [0, 1, 0.5], [0, 1, 0.7]], CUBE)
    assert known.snapshot().rows(points).tolist() == [0, -1, 1]
    assert known.snapshot().distances[0, 1] == pytest.approx(
        ((image_features(image(0)) - image_features(image(3))) ** 2).sum(), rel=1e-5
    )


def test_a_snapshot_does_not_change():
    known = ImageFeatures(CUBE)
    known.keep([1, 0, 0.5], image(0))
    before = known.snapshot()
    known.keep([1, 0, 0.6], image(1))
    assert before.points.shape == (1, 3)
    assert before.distances.shape == (1, 1)
    assert known.snapshot().distances.shape == (2, 2)
