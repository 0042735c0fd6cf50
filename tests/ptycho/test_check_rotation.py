"""`check` finds the rotation of an electron scan against the detector."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.ptycho.check import check
from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.flags.rotation import Rotation, reading
from diptych.ptycho.io.convert import rotated
from diptych.ptycho.physics.scan_rotation import Direction
from diptych.ptycho.scan import Scan


@functools.cache
def right() -> Scan:
    return diptych.simulate(
        object="natural",
        amplitude=(0.95, 1.0),
        phase=(0.0, 0.6),
        size=64,
        patterns=100,
        step=3.0,
        dose=1e6,
        probe="optics:semi_angle_mrad=1.0,defocus_nm=6000",
        particle="electron",
        energy_eV=300e3,
        distance_m=0.5,
        detector_pixel_m=3e-5,
        seed=0,
    )


def misread(degrees: float) -> Scan:
    return replace(right(), positions=rotated(right().positions, -degrees), truth=None, true_probe=None, probe=None)


@pytest.mark.slow
def test_a_rotated_scan_is_advised_its_rotation_and_told_the_defocus() -> None:
    found = check(misread(121.0))
    first = found.rows[0]
    assert first["change"].startswith("--rotation")
    assert abs(float(first["change"].split()[1]) - 121.0) < 3
    assert first["relative"] < 0.9
    assert "positive defocus_nm" in found.advice
    assert "--rotation 301" in found.advice or "--rotation 30" in found.advice


@pytest.mark.slow
def test_a_scan_that_is_not_rotated_is_said_to_fit_as_given() -> None:
    found = check(misread(0.0))
    assert found.rows[0]["reading"] == "as given"
    assert "as it is given" in found.advice


@pytest.mark.slow
def test_a_given_probe_decides_between_the_rotation_and_its_conjugate() -> None:
    found = check(replace(misread(121.0), probe=right().probe))
    assert abs(float(found.rows[0]["change"].split()[1]) - 121.0) < 3


@pytest.mark.slow
def test_the_measured_scan_is_rotated_by_119_to_126_degrees(measured_data: Path) -> None:
    pixel, wave = 4.65e-10, diptych.Geometry(energy_eV=300e3, particle="electron").wavelength_m
    assert wave is not None
    geometry = {"energy_eV": 300e3, "distance_m": 1.0, "detector_pixel_m": wave / (256 * pixel)}
    scan = diptych.load(
        measured_data / "formats" / "ptychojl_cryo4dstem_20x20.h5",
        scan_step=31.25e-10,
        position_unit="m",
        particle="electron",
        **geometry,
    )
    assert isinstance(scan, Scan)
    found = check(scan)
    assert 118 < float(found.rows[0]["change"].removeprefix("--rotation ")) < 127


def evidence(level: float, error: float = 0.002) -> Evidence:
    return Evidence(100, 1e6, 10000, 100, 0.0, level, level, error, 1e5, 0.0, 0.0)


def rotation(levels: list[float], certainty: float) -> Rotation:
    shadow = Direction(120.0, False, certainty, "shadow", 1.0)
    readings = [AS_GIVEN, *(reading(120.0 + i, False) for i in range(len(levels) - 1))]
    return Rotation(readings, [evidence(level) for level in levels], np.ones((1, 4, 4), np.complex64), [shadow])


@pytest.mark.parametrize(
    ("levels", "certainty", "best"),
    [
        ([1.2, 1.18], 10.0, 1),
        ([1.2, 1.199], 10.0, 0),
        ([1.2, 1.18], 2.0, 0),
        ([1.7, 1.05], 2.0, 1),
        ([1.2, float("nan")], 10.0, 0),
        ([float("nan"), 1.3], 2.0, 1),
    ],
)
def test_a_certain_shadow_needs_a_significantly_better_fit_and_any_other_a_clearly_better_one(
    levels: list[float], certainty: float, best: int
) -> None:
    assert rotation(levels, certainty).best == best
