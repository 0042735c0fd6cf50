"""The conventions of the published PtychoPINN tables, each against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diptych.errors import InputError
from diptych.ptycho.evaluate import metrics, ptychopinn
from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.scan import Canvas


def test_plane_is_removed_and_structure_kept():
    y, x = np.mgrid[:40, :30]
    bump = np.exp(-((y - 20) ** 2 + (x - 15) ** 2) / 20)
    left = ptychopinn.remove_plane(bump + 0.02 * x - 0.03 * y + 1)
    assert left == pytest.approx(ptychopinn.remove_plane(bump), abs=1e-12)
    assert left.mean() == pytest.approx(0, abs=1e-12)
    assert np.ptp(left) > 0.9


def test_magnitudes_register(truth, displace):
    """The published test demands half a pixel; the upsampling gives 1/50 px."""
    result = Canvas(displace(truth.values, (1.3, -2.14)), truth.origin)
    image, reference, inner = ptychopinn.register_magnitudes(result, truth, truth.extent)
    assert metrics.complex_error(image[8:-8, 8:-8], reference[8:-8, 8:-8]) < 0.02
    y0, y1, x0, x1 = truth.extent
    assert inner == (y0 + 4, y1 - 4, x0 + 4, x1 - 4)


def test_psnr_has_peak_255():
    assert ptychopinn.psnr(np.full((4, 4), 1.1), np.ones((4, 4))) == pytest.approx(20 + 20 * math.log10(255))


def test_ms_ssim_multiplies_decimated_ssim():
    rng = np.random.default_rng(0)
    a = gaussian_filter(rng.normal(size=(40, 40)), 1)
    b = a + 0.05 * rng.normal(size=a.shape)
    # 40 -> 20 -> 10, and 5 is under the window: three scales, exponents as they are.
    expected = math.prod(
        metrics.ssim(a[::k, ::k], b[::k, ::k], 1.0) ** w
        for k, w in zip((1, 2, 4), metrics.MS_SSIM_WEIGHTS, strict=False)
    )
    assert ptychopinn.ms_ssim(a, b, 1.0) == pytest.approx(expected)


def test_ms_ssim_floors_negative_ssim():
    pattern = np.random.default_rng(0).normal(size=(12, 12))
    assert metrics.ssim(10 + pattern, 10 - pattern, 1.0) < 0
    assert ptychopinn.ms_ssim(10 + pattern, 10 - pattern, 1.0) == pytest.approx((1e-4) ** metrics.MS_SSIM_WEIGHTS[0])


def test_ring_curve_goes_to_the_corners_without_a_window():
    image = np.random.default_rng(0).normal(size=(20, 26))
    curve = ptychopinn.ring_curve(image, image)
    assert len(curve) == round(math.hypot(10, 10)) + 1
    assert curve == pytest.approx(1.0)
    # The centre square: columns 3 to 22 of 26.
    assert ptychopinn.ring_curve(image, np.pad(image[:, 3:23], ((0, 0), (3, 3)))) == pytest.approx(1.0)


def test_ring_curve_takes_the_modulus():
    image = np.random.default_rng(0).normal(size=(20, 20))
    assert ptychopinn.ring_curve(image, -image) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [((1.0, 0.9, 0.4, 0.8), 1 + 0.4 / 0.5), ((0.3, 0.9), 0.0), ((0.9, 0.8, 0.7), 3.0)],
)
def test_ring_crossing_counts_rings(curve, expected):
    assert ptychopinn.ring_crossing(np.array(curve), 0.5) == pytest.approx(expected)


def test_flat_phase_has_no_ring_correlation():
    rounding = 1e-8 * np.random.default_rng(0).normal(size=(32, 32))
    with pytest.raises(UndefinedMetricError, match="flat"):
        ptychopinn.ring_curve(rounding, rounding)


def test_amplitude_is_scaled_by_its_mean_and_ssim_uses_the_range_of_the_truth(truth, box):
    """Scale and phase offset drop out; the values are those of the definitions."""
    rng = np.random.default_rng(0)
    flawed = truth.values * (1 + 0.05 * rng.normal(size=truth.shape))
    found = ptychopinn.ptychopinn_metrics(Canvas(3 * flawed, truth.origin), truth, box).values
    inner = (box[0] - 10 + 4, box[1] + 10 - 4, box[2] - 10 + 4, box[3] + 10 - 4)
    a, b = (np.abs(Canvas(values, truth.origin).crop(*inner).values) for values in (flawed, truth.values))
    a = a * b.mean() / a.mean()
    assert found["amplitude_mae_ptychopinn"] == pytest.approx(np.abs(a - b).mean(), rel=1e-3)
    assert found["amplitude_ssim_ptychopinn"] == pytest.approx(metrics.ssim(a, b, np.ptp(b)), abs=1e-3)
    assert found["amplitude_psnr_ptychopinn"] == pytest.approx(metrics.psnr(a, b) + 48.1308, abs=0.02)
    assert found["phase_mae_ptychopinn"] < 1e-6
    assert found["phase_ssim_ptychopinn"] == pytest.approx(1.0)


def test_wrapped_phase_is_noted(truth, box):
    turned = Canvas(truth.values * np.exp(3j), truth.origin)
    details = ptychopinn.ptychopinn_metrics(turned, truth, box).details
    assert "wraps" in (details["phase_mae_ptychopinn"].note or "")
    assert details["amplitude_mae_ptychopinn"].note is None


def test_small_overlap_is_an_input_error(truth):
    y0, _, x0, _ = truth.extent
    with pytest.raises(InputError, match="at least 16"):
        ptychopinn.register_magnitudes(truth, truth, (y0, y0 + 12, x0, x0 + 50))
