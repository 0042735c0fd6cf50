"""Previews: small images of amplitude, phase and probe."""

from __future__ import annotations

import numpy as np

from diptych.runtime.progress import PREVIEW_PIXELS, Preview, Progress


def test_large_images_are_averaged_to_at_most_256_pixels() -> None:
    image, probe = np.full((1030, 700), 2j), np.full((3, 300, 300), 1 + 0j)
    preview = Preview.of(image, probe)
    assert max(preview.amplitude.shape) <= PREVIEW_PIXELS
    assert preview.amplitude.shape == preview.phase.shape == (206, 140)
    np.testing.assert_allclose(preview.amplitude, 2)
    np.testing.assert_allclose(preview.phase, np.pi / 2)
    np.testing.assert_allclose(preview.probe, np.sqrt(3), rtol=1e-6)
    assert {each.dtype for each in (preview.amplitude, preview.phase, preview.probe)} == {np.dtype(np.float32)}


def test_small_images_are_kept_as_they_are() -> None:
    image = np.exp(1j * np.linspace(0, 1, 12)).reshape(3, 4)
    np.testing.assert_allclose(Preview.of(image, image[None]).phase, np.angle(image), rtol=1e-6)


def test_a_report_without_preview_is_equal_to_one_with() -> None:
    assert Progress("ml", 1, 2) == Progress("ml", 1, 2, preview=lambda: Preview.of(np.ones((2, 2)), np.ones((1, 2, 2))))
