"""Fourier ring correlation: known cut-offs, flat images, units."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.evaluate.resolution import ONE_SEVENTH, RingCorrelation, fourier_ring_correlation


def noise(seed, shape=(160, 160)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def low_pass(image, fraction):
    """The image low-pass filtered at a fraction of Nyquist."""
    f = [np.fft.fftfreq(n) for n in image.shape]
    return np.fft.ifft2(np.fft.fft2(image) * (np.hypot(f[0][:, None], f[1]) < fraction / 2))


def test_identical_images_correlate_fully():
    curve = fourier_ring_correlation(noise(0), 2 * noise(0) + 5)
    assert curve.correlation == pytest.approx(1.0)
    assert curve.crossing(0.5) == 1.0
    assert curve.half_period_px(0.5) == 1.0


def test_independent_noise_does_not_correlate():
    curve = fourier_ring_correlation(noise(0), noise(1))
    expected = 1 / np.sqrt(2 * curve.samples)
    assert np.sqrt(np.mean((curve.correlation / expected)[5:] ** 2)) == pytest.approx(1.0, abs=0.25)
    assert abs(curve.correlation[20:].mean()) < 0.03


@pytest.mark.parametrize("cut", [0.25, 0.5, 0.8])
def test_known_cut_off_is_recovered(cut):
    """Two images that share everything below the cut and nothing above."""
    shared = low_pass(noise(0), cut)
    a, b = (shared + noise(seed) - low_pass(noise(seed), cut) for seed in (1, 2))
    curve = fourier_ring_correlation(a, b)
    assert curve.crossing(0.5) == pytest.approx(cut, abs=0.02)
    assert curve.crossing(ONE_SEVENTH) == pytest.approx(cut, abs=0.03)


@pytest.mark.parametrize("shape", [(160, 97), (64, 200), (33, 33)])
def test_any_shape_reaches_nyquist(shape):
    shared = low_pass(noise(0, shape), 0.5)
    a, b = (shared + noise(seed, shape) - low_pass(noise(seed, shape), 0.5) for seed in (1, 2))
    curve = fourier_ring_correlation(a, b)
    assert curve.frequency[-1] == pytest.approx(1.0, abs=0.04)
    assert curve.frequency[-1] <= 1.0
    assert curve.crossing(0.5) == pytest.approx(0.5, abs=0.08)


def test_window_suppresses_shared_edges():
    """Two independent images with the same jump at their borders correlate without a window."""
    slope = 30 * np.linspace(-1, 1, 160)[:, None] * np.ones(160)
    bare, windowed = (fourier_ring_correlation(noise(0) + slope, noise(1) + slope, window=w) for w in (False, True))
    assert bare.correlation[30:].mean() > 0.05
    assert abs(windowed.correlation[30:].mean()) < 0.03


def test_signal_to_noise_sets_the_level():
    """FRC of two noisy copies is S / (S + N)."""
    common = noise(0)
    curve = fourier_ring_correlation(common + noise(1), common + noise(2))
    assert np.average(curve.correlation, weights=curve.samples) == pytest.approx(0.5, abs=0.02)
    one_sided = fourier_ring_correlation(common, common + noise(2))
    assert np.average(one_sided.correlation, weights=one_sided.samples) == pytest.approx(np.sqrt(0.5), abs=0.02)


def curve_of(*values, samples=100.0):
    count = len(values)
    return RingCorrelation(np.arange(1, count + 1) / count, np.array(values), np.full(count, samples), pixel_m=2e-8)


def test_crossing_interpolates():
    assert curve_of(1.0, 0.8, 0.2, 0.9).crossing(0.5) == pytest.approx(2.5 / 4)


def test_units():
    curve = curve_of(1.0, 0.8, 0.2, 0.9)
    assert curve.half_period_px(0.5) == pytest.approx(4 / 2.5)
    assert curve.half_period_m(0.5) == pytest.approx(2e-8 * 4 / 2.5)
    with pytest.raises(UndefinedMetricError, match="pixel size is not known"):
        fourier_ring_correlation(noise(0), noise(0)).half_period_m()
    assert fourier_ring_correlation(noise(0), noise(0), pixel_m=(1e-8, 3e-8)).pixel_m == 3e-8


def test_nothing_resolved_is_undefined():
    with pytest.raises(UndefinedMetricError, match="nothing is resolved"):
        curve_of(0.1, 0.9, 0.9).crossing(0.5)


def test_rings_of_few_samples_are_skipped():
    curve = RingCorrelation(
        np.array([0.25, 0.5, 0.75, 1.0]), np.array([0.4, 0.9, 0.6, 0.4]), np.array([2.0, 9.0, 20.0, 30.0])
    )
    assert curve.crossing(0.5) == pytest.approx(0.875)


def test_half_bit_threshold():
    """van Heel and Schatz: 0.1716 with many samples, above 1 with one."""
    curve = curve_of(0.5, samples=1e12)
    assert curve.threshold("half-bit")[0] == pytest.approx(0.2071 / 1.2071, abs=1e-5)
    assert curve_of(0.5, samples=1.0).threshold("half-bit")[0] == pytest.approx(1.0, abs=1e-3)


def test_flat_images_are_refused():
    flat = np.full((64, 64), 3.0, np.complex64)
    rounded = flat + 1e-7 * noise(0, (64, 64))
    for pair in ((flat, noise(0, (64, 64))), (noise(0, (64, 64)), rounded), (np.zeros((64, 64)), flat)):
        with pytest.raises(UndefinedMetricError, match="flat"):
            fourier_ring_correlation(*pair)


def test_small_images_are_refused():
    with pytest.raises(UndefinedMetricError, match="under 16 px"):
        fourier_ring_correlation(noise(0, (15, 40)), noise(1, (15, 40)))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1, "two-bit"])
def test_bad_thresholds(threshold):
    with pytest.raises(InputError, match="threshold"):
        curve_of(1.0).threshold(threshold)


def test_shapes_must_agree():
    with pytest.raises(InputError, match=r"\(20, 20\) and \(20, 21\)"):
        fourier_ring_correlation(np.ones((20, 20)), np.ones((20, 21)))
