"""The detector's distance, found by the sharpness of the likelihood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.distance.scaled import at_factor, change_in_words

FAR = diptych.Geometry(energy_eV=8800, distance_m=1.97, detector_pixel_m=75e-6)


def scan_of(geometry: diptych.Geometry | None, **fields: object) -> diptych.Scan:
    counts = np.full((3, 16, 16), 5, dtype=np.uint16)
    return diptych.Scan(counts, [[0, 0], [0, 40], [40, 20]], geometry=geometry, **fields)


def test_a_factor_of_the_far_distance_keeps_positions_in_metres_and_patterns() -> None:
    scan = scan_of(FAR)
    other = at_factor(scan, 1.03)
    assert other.geometry is not None
    assert other.geometry.distance_m == pytest.approx(1.03 * 1.97)
    np.testing.assert_allclose(other.positions * other.pixel_m, scan.positions * scan.pixel_m)
    assert other.counts is scan.counts
    assert at_factor(other, 1 / 1.03).geometry.distance_m == pytest.approx(1.97)


def test_a_factor_without_geometry_scales_the_positions_alone() -> None:
    np.testing.assert_allclose(at_factor(scan_of(None), 0.9).positions, scan_of(None).positions / 0.9)


def test_a_factor_in_the_near_field_changes_the_propagation_and_in_a_cone_the_pixel_too() -> None:
    parallel = scan_of(diptych.Geometry(12e3, 0.1, 1e-6, propagation="near"))
    other = at_factor(parallel, 1.1)
    assert other.geometry.effective_distance_m == pytest.approx(0.11)
    np.testing.assert_array_equal(other.positions, parallel.positions)
    cone = scan_of(diptych.Geometry(12e3, 1.0, 50e-6, propagation="near", focus_distance_m=4e-3))
    other = at_factor(cone, 1.1)
    assert other.geometry.focus_distance_m == pytest.approx(4.4e-3)
    assert other.geometry.distance_m == 1.0
    np.testing.assert_allclose(other.positions * other.pixel_m, cone.positions * cone.pixel_m)


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (replace(FAR, distance_m=1.92), "detector distance 1.92 -> 1.97 m (+2.6 %)"),
        (None, "object pixel x 1.026 (+2.6 %; the geometry states no distance)"),
        (
            diptych.Geometry(12e3, 1.0, 50e-6, propagation="near", focus_distance_m=4e-3),
            "distance from focus to sample 4 -> 4.104 mm (+2.6 %)",
        ),
    ],
)
def test_the_change_is_said_in_the_unit_that_is_read(geometry: diptych.Geometry | None, words: str) -> None:
    assert change_in_words(geometry, 1.026) == words


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.93, 1.06])
def test_a_wrong_distance_is_found_and_corrected(wrong: float) -> None:
    true = diptych.simulate(
        size=32, patterns=100, dose=1e6, seed=1, probe_error=1, energy_eV=8800, distance_m=1.97, detector_pixel_m=75e-6
    )
    result = diptych.reconstruct(at_factor(true, wrong), refine_distance="on")
    assert result.geometry.distance_m == pytest.approx(1.97, rel=5e-3)
    assert result.object.pixel_m == pytest.approx(true.pixel_m, rel=5e-3)
    found = result.provenance["distance"]
    assert found["factor"] == pytest.approx(1 / wrong, rel=5e-3)
    assert found["held_out_after"] < found["held_out_before"]
    assert any(flag.startswith("distance: detector distance") for flag in result.flags)
    assert result.provenance["held_out_fit"] < 1.5


@pytest.mark.slow
def test_a_right_distance_is_kept() -> None:
    scan = diptych.simulate(
        size=32, patterns=100, dose=1e5, seed=2, energy_eV=8800, distance_m=1.97, detector_pixel_m=75e-6
    )
    result = diptych.reconstruct(scan, refine_distance="on", epochs=20)
    assert result.geometry.distance_m == pytest.approx(1.97, rel=5e-3)


def test_off_changes_nothing() -> None:
    scan = diptych.simulate(size=16, patterns=16, step=2.0, dose=1e4, seed=0)
    result = diptych.reconstruct(scan, engine="rpie", epochs=2)
    assert "distance" not in result.provenance
