"""Scans written as CXI are read back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych

SIZE, PATTERNS = 16, 7
rng = np.random.default_rng(11)
GEOMETRY = diptych.Geometry(12345.6, 2.75, (55e-6, 75e-6))


def scan(geometry: diptych.Geometry | None, mask_shape: tuple[int, ...] = (SIZE, SIZE)) -> diptych.Scan:
    return diptych.Scan(
        rng.poisson(50.0, (PATTERNS, SIZE, SIZE)).astype(np.uint16),
        rng.uniform(-30, 500, (PATTERNS, 2)),
        (rng.normal(size=(2, SIZE, SIZE)) + 1j * rng.normal(size=(2, SIZE, SIZE))).astype(np.complex64),
        mask=rng.uniform(size=mask_shape) > 0.1,
        geometry=geometry,
        background=rng.uniform(size=(SIZE, SIZE)).astype(np.float32),
        name="a scan",
    )


@pytest.mark.parametrize("geometry", [None, GEOMETRY, diptych.Geometry(energy_eV=9000.0)])
@pytest.mark.parametrize("mask_shape", [(SIZE, SIZE), (PATTERNS, SIZE, SIZE)])
def test_a_scan_comes_back(tmp_path: Path, geometry: diptych.Geometry | None, mask_shape: tuple[int, ...]) -> None:
    before = scan(geometry, mask_shape)
    after = diptych.load(diptych.save(before, tmp_path / "scan.cxi"))
    for name in ("counts", "probe", "mask", "background"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert after.positions == pytest.approx(before.positions, abs=1e-9)
    assert after.name == before.name
    if geometry is not None:
        assert after.geometry.energy_eV == pytest.approx(geometry.energy_eV, rel=1e-12)
        assert after.geometry.detector_pixel_m == geometry.detector_pixel_m


def test_the_layout_is_that_of_cdtools(tmp_path: Path) -> None:
    before = scan(GEOMETRY)
    with h5py.File(diptych.save(before, tmp_path / "scan.cxi")) as file:
        assert file["cxi_version"][()] == 160
        vectors = file["entry_1/instrument_1/detector_1/basis_vectors"][()]
        translation = file["entry_1/sample_1/geometry_1/translation"][()]
        assert np.array_equal(file["entry_1/data_1/data"][()], before.counts)
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(12345.6 * 1.602176634e-19)
    # cdtools negates the translation, and counts pixels in terms of the steps of the object: both are negative.
    steps = np.array([[0, -before.pixel_m[1]], [-before.pixel_m[0], 0], [0, 0]])
    assert np.array_equal(np.sign(vectors), np.sign(steps))
    assert -translation @ np.linalg.pinv(steps).T == pytest.approx(before.positions)
