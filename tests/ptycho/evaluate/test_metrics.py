"""Textbook metrics against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from diptych.ptycho.evaluate import metrics
from diptych.ptycho.evaluate.report import UndefinedMetricError


@pytest.fixture(scope="module")
def image():
    return gaussian_filter(np.random.default_rng(1).normal(size=(200, 190)), 2.0) * 5 + 1


def noisy(image, sigma, seed=0):
    return image + sigma * np.random.default_rng(seed).normal(size=image.shape)


def test_complex_error_is_the_relative_distance():
    truth = np.array([[3.0, 4.0j]])
    assert metrics.complex_error(truth + np.array([[0.3, 0.4]]), truth) == pytest.approx(0.1)


def test_phase_difference_wraps():
    a, b = np.exp(1j * np.array([[3.1]])), np.exp(-1j * np.array([[3.1]]))
    assert metrics.phase_difference(a, b)[0, 0] == pytest.approx(6.2 - 2 * np.pi)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(offset=st.floats(-3, 3), strength=st.floats(0.1, 2.0))
def test_phases_have_no_false_jumps(offset, strength):
    """For any offset of the truth's phase, result and truth differ by the true difference."""
    x = np.linspace(0, 1, 40)
    smooth = offset + strength * 6 * x[:, None] * x
    ours, theirs = metrics.phases(np.exp(1j * (smooth + 0.3)), np.exp(1j * smooth))
    assert np.ptp(theirs) == pytest.approx(np.ptp(smooth), abs=1e-9)
    assert ours - theirs == pytest.approx(0.3)


def test_psnr_conventions_differ_by_48_13_db(image):
    other = noisy(image, 0.1)
    difference = metrics.psnr(other, image, peak=255.0) - metrics.psnr(other, image, peak=1.0)
    assert difference == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert round(difference, 2) == 48.13


def test_psnr_of_known_noise(image):
    assert metrics.psnr(image + 0.01, image) == pytest.approx(40.0)
    assert metrics.psnr(image, image) == math.inf


def test_ssim_equals_scikit_image(image):
    other = noisy(image, 0.3)
    assert metrics.ssim(other, image, 2.5) == pytest.approx(
        structural_similarity(image, other, data_range=2.5), abs=1e-12
    )


def test_ssim_parts_multiply_to_the_gaussian_ssim(image):
    other = noisy(image, 0.3)
    luminance, structure = metrics.ssim_parts(other, image, 2.5)
    expected = structural_similarity(
        image, other, data_range=2.5, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert (luminance * structure).mean() == pytest.approx(expected, abs=1e-12)


def test_ms_ssim_of_identical_images_is_1(image):
    assert metrics.ms_ssim(image, image, 1.0) == pytest.approx(1.0)


def test_ms_ssim_falls_with_noise(image):
    values = [metrics.ms_ssim(noisy(image, sigma), image, np.ptp(image)) for sigma in (0.05, 0.2, 0.8)]
    assert 1 > values[0] > values[1] > values[2] > 0


def test_ms_ssim_is_less_sensitive_to_fine_noise_than_ssim(image):
    """The coarse scales, where white noise averages out, carry most of the weight."""
    other, extent = noisy(image, 0.5), np.ptp(image)
    assert metrics.ms_ssim(other, image, extent) > metrics.ssim(other, image, extent) + 0.1


def test_ms_ssim_weighs_scales(image):
    """A change of the mean alone changes only the coarsest luminance: l ** 0.1333."""
    flat = np.full((176, 176), 2.0)
    shifted = metrics.ms_ssim(flat + 1, flat, 1.0)
    c1 = 0.01**2
    assert shifted == pytest.approx(((2 * 3 * 2 + c1) / (9 + 4 + c1)) ** 0.1333, rel=1e-9)


def test_ms_ssim_needs_176_pixels(image):
    with pytest.raises(UndefinedMetricError, match="smaller than 176 px"):
        metrics.ms_ssim(image[:175], image[:175], 1.0)
    assert metrics.ms_ssim(image[:176, :176], image[:176, :176], 1.0) == pytest.approx(1.0)


def test_ms_ssim_of_anticorrelated_images_is_undefined(image):
    with pytest.raises(UndefinedMetricError, match="anticorrelated"):
        metrics.ms_ssim(2 * image.mean() - image, image, np.ptp(image))


def test_flat_truth_has_no_ssim():
    flat = np.ones((200, 200))
    for metric in (metrics.ssim, metrics.ms_ssim):
        with pytest.raises(UndefinedMetricError, match="flat"):
            metric(flat, flat, metrics.data_range(flat))


def test_ssim_needs_its_window():
    with pytest.raises(UndefinedMetricError, match="window of 7 px"):
        metrics.ssim(np.eye(6), np.eye(6), 1.0)


def test_half_size_averages_blocks():
    assert metrics.half_size(np.arange(15.0).reshape(3, 5)).tolist() == [[3.0, 5.0]]
