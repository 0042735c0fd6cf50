"""The rotation of a scan against the detector, told by shadows and by centres of mass of simulated patterns."""

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.ptycho.io.convert import rotated
from diptych.ptycho.physics.scan_rotation import Direction, scan_directions
from diptych.ptycho.scan import Scan


@functools.cache
def scan(optics: str, dose: float, patterns: int = 100, step: float = 3.0) -> Scan:
    return diptych.simulate(
        object="natural",
        amplitude=(0.95, 1.0),
        phase=(0.0, 0.5),
        size=64,
        patterns=patterns,
        step=step,
        dose=dose,
        probe=f"optics:{optics}",
        particle="electron",
        energy_eV=300e3,
        distance_m=0.5,
        detector_pixel_m=3e-5,
        seed=0,
    )


def best(given: Scan, positions: NDArray[np.float64], method: str) -> Direction:
    found = [each for each in scan_directions(given.counts, positions, given.mask) if each.method == method]
    return max(found, key=lambda each: each.certainty)


def misread(given: Scan, degrees: float, swap: bool) -> NDArray[np.float64]:
    """Positions that the rotation and exchange turn into the right ones."""
    positions = rotated(given.positions, -degrees)
    return positions[:, ::-1] if swap else positions


DEFOCUSED = "semi_angle_mrad=1.0,defocus_nm=6000"


@pytest.mark.parametrize(("degrees", "swap"), [(121.0, False), (250.0, True)])
def test_shadows_of_a_defocused_beam_tell_rotation_exchange_and_defocus(degrees: float, swap: bool) -> None:
    given = scan(DEFOCUSED, 1e5)
    found = best(given, misread(given, degrees, swap), "shadow")
    assert found.certain
    assert found.swap == swap
    assert abs((found.degrees - degrees + 180) % 360 - 180) < 3
    geometry, pixel = given.geometry, given.pixel_m
    assert geometry is not None
    assert geometry.wavelength_m is not None
    assert pixel is not None
    assert found.scale is not None
    assert 64 * pixel[0] ** 2 / (geometry.wavelength_m * found.scale) == pytest.approx(6e-6, rel=0.15)


def test_a_sample_behind_the_focus_is_rotated_by_180_degrees_more() -> None:
    given = scan(DEFOCUSED.replace("=6000", "=-6000"), 1e5)
    assert abs(best(given, given.positions, "shadow").degrees - 180) < 3


@pytest.mark.parametrize(("degrees", "swap"), [(30.0, False), (100.0, True)])
def test_centres_of_mass_tell_rotation_and_exchange_near_focus(degrees: float, swap: bool) -> None:
    given = scan("semi_angle_mrad=1.0,defocus_nm=200", 1e6, patterns=144, step=2.0)
    found = best(given, misread(given, degrees, swap), "centre of mass")
    assert found.certain
    assert found.swap == swap
    assert abs((found.degrees - degrees + 90) % 180 - 90) < 5


def test_patterns_in_random_order_tell_nothing() -> None:
    given = scan(DEFOCUSED, 1e5)
    order = np.random.default_rng(0).permutation(len(given))
    assert not any(each.certain for each in scan_directions(given.counts[order], given.positions))


def test_few_patterns_tell_nothing_and_positions_on_a_line_no_error() -> None:
    given = scan(DEFOCUSED, 1e5)
    assert scan_directions(given.counts[:5], given.positions[:5]) == []
    line = np.stack([np.zeros(40), np.arange(40.0)], axis=1)
    for each in scan_directions(given.counts[:40], line):
        assert np.isfinite(each.certainty)
