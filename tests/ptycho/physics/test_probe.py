"""Gauge, size and defocus of probes, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.ptycho.physics.probe import defocused, from_pupil, gauge_power, power, probe_diameter, to_pupil


def test_the_gauge_is_the_99th_percentile_of_the_totals_and_positive() -> None:
    assert gauge_power(np.arange(101.0)) == pytest.approx(99.0)
    assert gauge_power(np.zeros(5)) > 0


@pytest.mark.parametrize("size", [16, 17])
def test_the_pupil_holds_the_power_and_gives_the_probe_back(size: int) -> None:
    rng = np.random.default_rng(0)
    probe = rng.normal(size=(2, size, size)) + 1j * rng.normal(size=(2, size, size))
    pupil = to_pupil(probe)
    assert power(pupil) == pytest.approx(power(probe), rel=1e-12)
    np.testing.assert_allclose(from_pupil(pupil), probe, atol=1e-12)
    np.testing.assert_allclose(to_pupil(np.ones((1, size, size)))[0, size // 2, size // 2], size)


def test_defocus_keeps_the_power_and_widens_a_focused_beam() -> None:
    y, x = np.mgrid[:64, :64] - 32
    pupil = (np.hypot(y, x) < 10).astype(complex)[None]
    focused, blurred = defocused(pupil, 10.0, 0.0), defocused(pupil, 10.0, 12.0)
    assert power(blurred) == pytest.approx(power(focused), rel=1e-6)
    np.testing.assert_allclose(focused, from_pupil(pupil), atol=1e-6)
    # Geometrical optics: the ray at the edge lies N phase / (pi edge) pixels off axis.
    assert probe_diameter(blurred, 0.9) == pytest.approx(2 * np.sqrt(0.9) * 64 * 12 / (np.pi * 10), rel=0.15)


def test_probe_diameter_follows_the_probe_and_matches_the_closed_form() -> None:
    y, x = np.indices((64, 64))
    gaussian = np.exp(-((y - 30) ** 2 + (x - 35) ** 2) / (2 * 5.0**2))
    # |P|^2 has variance sigma^2 / 2 along each axis: a circle of radius r holds 1 - exp(-r^2 / sigma^2).
    assert probe_diameter(gaussian[None]) == pytest.approx(2 * 5 * np.sqrt(np.log(10)), abs=0.7)
    assert probe_diameter(np.stack([gaussian, np.roll(gaussian, 20, axis=0)])) > 30
