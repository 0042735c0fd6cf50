"""Probe optics in one line of text: what is read, what is refused, and that the probe is that of the optics."""

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.geometry import Geometry
from diptych.ptycho.physics.optics.beams import convergent_beam, kb_beam, zone_plate_beam
from diptych.ptycho.physics.optics.spec import ConvergentBeam, parse_optics, probe_from_optics

ELECTRONS = Geometry(energy_eV=300e3, distance_m=0.6, detector_pixel_m=(1e-5, 1e-5), particle="electron")
XRAYS = Geometry(energy_eV=8800, distance_m=2.0, detector_pixel_m=(75e-6, 75e-6))


def test_units_and_the_sign_of_the_defocus() -> None:
    wave, pixel = ELECTRONS.wavelength_m, ELECTRONS.object_pixel_m(128)
    assert wave is not None
    assert pixel is not None
    text = "optics:semi_angle_mrad=1.03,defocus_nm=9000,Cs_mm=1.2,C12_nm=50,phi12_deg=90"
    probe, warnings = probe_from_optics(text, 128, ELECTRONS, "scan")
    terms = {"C30": 1.2e-3, "C12": 50e-9, "phi12": np.pi / 2}
    np.testing.assert_allclose(probe, convergent_beam(128, pixel, wave, 1.03e-3, -9e-6, terms), atol=1e-6)
    assert not warnings


def test_a_zone_plate_and_kb_mirrors() -> None:
    wave, pixel = XRAYS.wavelength_m, XRAYS.object_pixel_m(128)
    assert wave is not None
    assert pixel is not None
    plate, _ = probe_from_optics(
        "optics:diameter_um=180, outer_zone_nm=100, stop_um=60, focus_to_sample_um=300", 128, XRAYS, "scan"
    )
    np.testing.assert_allclose(plate, zone_plate_beam(128, pixel, wave, 180e-6, 1e-7, 6e-5, 3e-4), atol=1e-6)
    text = "optics:aperture_y_um=100,aperture_x_um=200,focal_y_mm=300,focal_x_mm=200,focus_to_sample_x_um=500"
    mirrors, _ = probe_from_optics(text, 128, XRAYS, "scan")
    np.testing.assert_allclose(mirrors, kb_beam(128, pixel, wave, (1 / 6000, 5e-4), (0.0, 5e-4)), atol=1e-6)


def test_a_beam_that_nearly_fills_the_window_is_said() -> None:
    probe, warnings = probe_from_optics("optics:semi_angle_mrad=1.03,defocus_nm=50000", 128, ELECTRONS, "scan")
    assert probe.shape == (1, 128, 128)
    assert "near the edge of its window" in warnings[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("optics:", "'' *; expected KEY=NUMBER"),
        ("optics:semi_angle_mrad", "KEY=NUMBER"),
        ("optics:semi_angle_mrad=big", "KEY=NUMBER"),
        ("optics:semi_angle_mrad=nan", "KEY=NUMBER"),
        ("optics:defocus_nm=10", "does not tell which optics"),
        ("optics:semi_angle_mrad=1,semi_angle_mrad=2", "given twice"),
        ("optics:semi_angle_mrad=1,defocus_um=3", "convergent beam has no defocus_um"),
        ("optics:semi_angle_mrad=1,C10_nm=3", "defocus_nm=-C10"),
        ("optics:semi_angle_mrad=-1", "semi_angle_mrad"),
        ("optics:diameter_um=100", "outer_zone_nm"),
        ("optics:diameter_um=100,outer_zone_nm=50,stop_um=100", "covers the zone plate"),
    ],
)
def test_what_is_malformed_or_missing_is_named(text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        parse_optics(text)


@pytest.mark.parametrize(
    ("geometry", "found"), [(None, "energy_eV, distance_m, detector_pixel_m"), (Geometry(8800), "--distance-m")]
)
def test_an_unknown_geometry_names_what_is_missing(geometry: Geometry | None, found: str) -> None:
    with pytest.raises(InputError, match=found):
        probe_from_optics("optics:semi_angle_mrad=1", 64, geometry, "scan.npz")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("optics:semi_angle_mrad=1.03,defocus_nm=900000", "beam .* um wide"),
        ("optics:semi_angle_mrad=1.03,Cs_mm=200000", "beam .* um wide"),
        ("optics:semi_angle_mrad=30", "what the detector covers"),
        ("optics:semi_angle_mrad=0.01", "what the detector covers"),
    ],
)
def test_what_would_alias_is_refused_and_the_scan_named(text: str, found: str) -> None:
    with pytest.raises(InputError, match=f"scan.npz: .*{found}"):
        probe_from_optics(text, 128, ELECTRONS, "scan.npz")


def test_aberrations_of_one_kind_add_up() -> None:
    optics = parse_optics("optics:semi_angle_mrad=1,Cs_mm=1,C30_nm=1e6")
    assert isinstance(optics, ConvergentBeam)
    both = optics.probe(64, (5e-10, 5e-10), 2e-12)
    np.testing.assert_allclose(both, convergent_beam(64, (5e-10, 5e-10), 2e-12, 1e-3, 0, {"C30": 2e-3}), atol=1e-6)
