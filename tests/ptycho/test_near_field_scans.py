"""Near-field scans from file to object: what states the geometry, what is written, and what is reconstructed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.starts.estimate import estimate_probe
from diptych.ptycho.engines.starts.trial import central_part, try_out
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.scan import Scan

GEOMETRY = {"energy_eV": 12e3, "distance_m": 1.0, "detector_pixel_m": 50e-6}
DATA = os.environ.get("DIPTYCH_MEASURED", Path(__file__).resolve().parents[3] / "shared/data")
MEASURED = Path(DATA) / "petra3_p25_near_field.cxi"


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(
        object="blocks",
        probe="disk",
        size=24,
        patterns=30,
        step=4.0,
        dose=1e6,
        seed=1,
        propagation="near",
        focus_distance_m=4e-3,
        **GEOMETRY,
    )


def test_a_simulated_near_field_scan_shows_the_propagated_object(scan: Scan) -> None:
    assert scan.geometry is not None
    assert scan.pixel_m == pytest.approx((50e-6 / 251,) * 2)
    assert scan.truth is not None
    assert scan.truth.pixel_m == pytest.approx(scan.pixel_m)
    # The beam's disc is seen where it is, not its far field.
    light, beam = scan.counts.mean(0), np.abs(scan.true_probe[0]) ** 2
    assert np.corrcoef(light.ravel(), beam.ravel())[0, 1] > 0.7


def test_the_estimated_probe_is_the_light_propagated_back(scan: Scan) -> None:
    probe = estimate_probe(replace(scan, probe=None))[0]
    overlap = abs(np.vdot(probe, scan.true_probe[0])) / (np.linalg.norm(probe) * np.linalg.norm(scan.true_probe[0]))
    assert overlap > 0.9


def test_it_is_reconstructed_without_a_probe(scan: Scan) -> None:
    result = diptych.reconstruct(replace(scan, probe=None), engine="rpie", epochs=25)
    assert "propagated back" in result.provenance["probe_start"]
    assert diptych.evaluate(result, truth=scan.truth)["complex_error"] < 0.15
    assert result.geometry == scan.geometry


@pytest.mark.slow
def test_the_automatic_engine_reaches_the_noise_without_a_probe(scan: Scan) -> None:
    result = diptych.reconstruct(replace(scan, probe=None))
    assert diptych.evaluate(result, truth=scan.truth)["complex_error"] < 0.02
    assert result.provenance["held_out_fit"] < 2


@pytest.mark.parametrize("suffix", [".npz", ".cxi"])
def test_the_geometry_of_a_scan_comes_back_from_its_file(scan: Scan, suffix: str, tmp_path: Path) -> None:
    path = diptych.save(scan, tmp_path / f"scan{suffix}")
    found = diptych.load(path)
    assert found.geometry.propagation == "near"
    assert found.geometry.focus_distance_m == pytest.approx(4e-3)
    np.testing.assert_allclose(found.positions, scan.positions, atol=1e-9)
    far = diptych.load(path, propagation="far")
    assert far.geometry.focus_distance_m is None
    assert far.geometry.magnification is None
    other = diptych.load(path, focus_distance_m=8e-3)
    assert other.geometry.magnification == pytest.approx(126)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_the_geometry_of_a_result_comes_back_from_its_file(scan: Scan, suffix: str, tmp_path: Path) -> None:
    result = diptych.Reconstruction(scan.truth, scan.true_probe, scan.positions, geometry=scan.geometry)
    found = diptych.load(diptych.save(result, tmp_path / f"result{suffix}"))
    assert found.geometry == scan.geometry
    assert diptych.describe(found)["geometry"]["magnification"] == pytest.approx(251)


def test_a_focus_distance_implies_the_near_field_of_a_file_that_states_neither(tmp_path: Path) -> None:
    far = diptych.simulate(size=16, patterns=9, step=4.0, seed=0, **GEOMETRY)
    path = diptych.save(far, tmp_path / "scan.npz")
    assert diptych.load(path).geometry.propagation == "far"
    assert diptych.load(path, focus_distance_m=4e-3).geometry.propagation == "near"
    assert diptych.load(path, propagation="near").geometry.magnification == 1


def test_networks_refuse_near_fields(scan: Scan) -> None:
    with pytest.raises(InputError, match=r"near-field scan.*far-field patterns.*an engine"):
        ProbeModel.of(ScanPatterns(scan))


def test_simulation_of_a_near_field_needs_its_geometry() -> None:
    with pytest.raises(InputError, match="near field without energy_eV, distance_m, detector_pixel_m"):
        diptych.simulate(size=16, patterns=4, propagation="near")


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.exists(), reason=f"the measured scan {MEASURED.name} is not here")
def test_the_measured_scan_fits_best_at_its_stated_distance_and_signs() -> None:
    def fit(**how: object) -> float:
        part = central_part(diptych.load(MEASURED, **how), 100)
        return try_out(part, estimate_probe(part), 10).fit

    right = fit(focus_distance_m=3.65e-3)
    assert right < 0.95 * min(fit(focus_distance_m=distance) for distance in (3.3e-3, 4e-3))
    assert right < 0.7 * fit(focus_distance_m=3.65e-3, flip_x=True)
    assert right < 0.7 * fit(focus_distance_m=3.65e-3, swap_xy=True)
