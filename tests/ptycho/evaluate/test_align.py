"""Alignment recovers known scale, ramp and shift, and removes no more than the gauge allows."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.ptycho.evaluate.align import align, common_box
from diptych.ptycho.evaluate.metrics import complex_error
from diptych.ptycho.scan import Canvas


def error(alignment):
    return complex_error(alignment.result.values, alignment.truth.values)


@pytest.mark.parametrize(
    ("shift", "ramp", "scale"),
    [
        ((0.0, 0.0), (0.0, 0.0), 1.0),
        ((0.37, -0.81), (0.01, -0.03), 1.7j),
        ((-3.25, 5.6), (0.4, -1.3), 0.2 - 0.1j),
        ((9.5, -11.0), (-2.9, 3.0), -40.0),
    ],
)
def test_recovers_scale_ramp_and_shift(truth, box, displace, shift, ramp, scale):
    result = Canvas(displace(truth.values, shift, ramp, scale), origin=truth.origin)
    found = align(result, truth, box)
    assert found.shift == pytest.approx(shift, abs=1e-3)
    assert found.ramp == pytest.approx(ramp, abs=1e-5)
    assert error(found) < 2e-3
    # The ramp was counted from pixel [0, 0] of the canvas, the alignment counts it from the middle of the box.
    y0, y1, x0, x1 = found.truth.extent
    middle = np.array([(y0 + y1 - 1) / 2 - truth.origin[0], (x0 + x1 - 1) / 2 - truth.origin[1]])
    expected = scale * np.exp(1j * (middle @ np.array(ramp)))
    assert found.scale == pytest.approx(expected, abs=2e-3 * abs(scale))


def test_described_result_is_the_result(truth, box, displace):
    """``scale * exp(i ramp . (r - centre)) * truth(r - shift)`` gives the result back."""
    shift, ramp, scale = (2.3, -0.6), (0.05, 0.21), 0.8 + 0.3j
    values = displace(truth.values, shift, ramp, scale)
    found = align(Canvas(values, truth.origin), truth, box)
    y0, y1, x0, x1 = found.truth.extent
    moved = displace(truth.values, found.shift)
    y, x = (np.arange(n) + o for n, o in zip(truth.shape, truth.origin, strict=True))
    described = (
        found.scale
        * moved
        * np.exp(1j * (found.ramp[0] * (y - (y0 + y1 - 1) / 2)[:, None] + found.ramp[1] * (x - (x0 + x1 - 1) / 2)))
    )
    assert np.abs(described - values)[20:-20, 20:-20].max() < 1e-3


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    shift=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    ramp=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    modulus=st.floats(0.01, 100),
    phase=st.floats(-3.2, 3.2),
    seed=st.integers(0, 5),
)
def test_complex_error_does_not_depend_on_the_gauge(truth, box, displace, shift, ramp, modulus, phase, seed):
    """An imperfect reconstruction has the same error under any scale, ramp and shift."""
    rng = np.random.default_rng(seed)
    f = np.fft.fftfreq(truth.shape[0])
    noise = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) * (np.hypot(f[:, None], f) < 0.3)
    )
    flawed = truth.values + 0.1 * noise
    plain = error(align(Canvas(flawed, truth.origin), truth, box))
    moved = error(align(Canvas(displace(flawed, shift, ramp, cmath.rect(modulus, phase)), truth.origin), truth, box))
    assert plain > 0.02
    # Beyond 2 px the compared area may follow the shift: other pixels, 0.6 % here.
    assert moved == pytest.approx(plain, rel=1e-2)


def test_survives_noise_far_above_the_contrast(truth, box, displace):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
    found = align(Canvas(displace(truth.values, (0.4, -0.3), (0.2, 0.1)) + 0.5 * noise, truth.origin), truth, box)
    assert found.shift == pytest.approx((0.4, -0.3), abs=0.15)
    assert found.ramp == pytest.approx((0.2, 0.1), abs=2e-3)


def test_compares_by_coordinates(truth, box):
    """Another extent and origin change nothing."""
    y0, y1, x0, x1 = truth.extent
    part = truth.crop(y0 + 5, y1 - 2, x0 + 9, x1 - 12)
    found = align(part, truth, box, gauge="none")
    assert error(found) == 0
    assert found.truth.extent == box


def test_without_margin_the_edge_is_left_out(truth, displace):
    result = Canvas(displace(truth.values, (1.0, -2.0)), truth.origin)
    y0, y1, x0, x1 = truth.extent
    part = result.crop(y0 + 10, y1 - 10, x0 + 10, x1 - 10)
    found = align(part, truth)
    assert found.shift == pytest.approx((1.0, -2.0), abs=1e-3)
    # Pixels of the truth that the displaced result does not hold are not compared.
    ty0, ty1, tx0, tx1 = found.truth.extent
    assert ty0 >= y0 + 10 - 1
    assert ty1 <= y1 - 10 - 1
    assert tx0 >= x0 + 10 + 2
    assert tx1 <= x1 - 10 + 2
    assert error(found) < 1e-3


@pytest.mark.parametrize(("gauge", "seen"), [("full", False), ("scale", True), ("phase", True), ("none", True)])
def test_smaller_gauges_keep_the_ramp(truth, box, displace, gauge, seen):
    found = align(Canvas(displace(truth.values, (0, 0), (0.02, 0)), truth.origin), truth, box, gauge=gauge)
    assert (error(found) > 0.1) == seen


def test_gauges_nest(truth, box):
    turned = Canvas(truth.values * 2 * np.exp(0.7j), truth.origin)
    errors = {gauge: error(align(turned, truth, box, gauge=gauge)) for gauge in ("none", "phase", "scale")}
    assert errors["none"] == pytest.approx(abs(2 * np.exp(0.7j) - 1))
    assert errors["phase"] == pytest.approx(1.0)
    assert errors["scale"] < 1e-12
    assert align(turned, truth, box, gauge="phase").scale == pytest.approx(np.exp(0.7j))
    assert align(turned, truth, box, gauge="scale").scale == pytest.approx(2 * np.exp(0.7j))


def test_flat_truth_aligns(box):
    flat = Canvas(np.ones((128, 128), complex), origin=(-7, 11))
    found = align(Canvas(flat.values * 3j, flat.origin), flat, box)
    assert error(found) < 1e-9
    assert found.shift == pytest.approx((0, 0), abs=1e-6)


def test_no_overlap_is_an_input_error(truth):
    with pytest.raises(InputError, match=r"do not overlap.*origin"):
        common_box(truth, Canvas(truth.values, origin=(500, 500)))
    with pytest.raises(InputError, match="inside the box"):
        common_box(truth, truth, (900, 950, 900, 950))


def test_tiny_area_is_an_input_error(truth):
    y0, _, x0, x1 = truth.extent
    with pytest.raises(InputError, match=r"3 x 128 px.*--crop all"):
        align(truth, truth, (y0, y0 + 3, x0, x1))


def test_zero_images_are_an_input_error(truth):
    empty = Canvas(np.zeros(truth.shape, complex), truth.origin)
    with pytest.raises(InputError, match="result is zero"):
        align(empty, truth)
    with pytest.raises(InputError, match="truth is zero"):
        align(truth, empty)


def degradations():
    rng = np.random.default_rng(11)
    side = 128
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    noise = rng.normal(size=(side, side)) + 1j * rng.normal(size=(side, side))
    slow = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * np.exp(-((f / 0.02) ** 2))).real

    def blurred(field):
        return np.fft.ifft2(np.fft.fft2(field) * np.exp(-((f / 0.15) ** 2)))

    return {
        "noise": lambda field: field + 0.1 * noise,
        "blur": blurred,
        "blur and noise": lambda field: blurred(field) + 0.3 * noise,
        "slow phase error": lambda field: field * np.exp(0.3j * slow / slow.std()),
    }


@pytest.mark.parametrize("name", degradations())
def test_error_equals_that_with_the_known_gauge_removed(truth, box, displace, name):
    """Removing the known ramp and shift gives the same error within 2 %: alignment hides no actual error."""
    shift, ramp = (1.7, -0.4), (0.11, -0.07)
    worse = degradations()[name](truth.values)
    known = Canvas(worse, truth.origin).crop(*box).values
    reference = truth.crop(*box).values
    factor = np.vdot(known, reference) / np.vdot(known, known)
    expected = np.linalg.norm(factor * known - reference) / np.linalg.norm(reference)
    found = error(align(Canvas(displace(worse, shift, ramp, 3j), truth.origin), truth, box))
    assert expected > 0.02
    if name == "slow phase error":
        # A slow phase error contains a ramp, which the data cannot distinguish from the gauge.
        assert found <= expected * 1.001
        assert found > 0.5 * expected
    else:
        assert found == pytest.approx(expected, rel=0.02)
