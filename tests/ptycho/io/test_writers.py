"""Every format that is written: what comes back is what was stored, for photons, electrons and the near field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.io.formats import FORMATS

N, M = 16, 12
rng = np.random.default_rng(3)
GEOMETRIES = {
    "photons": diptych.Geometry(9e3, 1.3, (75e-6, 75e-6)),
    "electrons": diptych.Geometry(3e5, 1.0, (75e-6, 75e-6), particle="electron"),
    "near field": diptych.Geometry(9e3, 1.3, (75e-6, 75e-6), propagation="near", focus_distance_m=0.02),
}
POSITIONS = rng.uniform(20, 60, (M, 2)) - 37.3
PROBE = (rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))).astype(np.complex64)
IMAGE = (rng.normal(size=(80, 83)) + 1j * rng.normal(size=(80, 83))).astype(np.complex64)
COUNTS = rng.poisson(9, (M, N, N)).astype(np.uint16)

# File name, whether complex numbers are stored as such, whether positions have a place.
RESULTS = {
    "ptychodus": ("r.h5", True, True),
    "ptychodus-npz": ("r.npz", True, True),
    "ptychodus-cxi": ("r.cxi", True, True),
    "result-npz": ("r.npz", True, True),
    "ptypy-result": ("r.ptyr", True, True),
    "cdtools-result": ("r.h5", True, True),
    "ptychoshelves": ("r.mat", True, True),
    "ptyrad": ("r.h5", False, True),
    "nexus": ("r.nxs", True, True),
    "tiff": ("r.tif", False, False),
}
SCANS = {"cxi": "s.cxi", "nxptycho": "s.nxs", "ptypy": "s.ptyd", "fold-slice": "s_dp.hdf5", "scan-npz": "s.npz"}


def result(geometry: diptych.Geometry | None) -> diptych.Reconstruction:
    pixel = None if geometry is None else geometry.object_pixel_m(N)
    history = {"epoch": [1.0, 2.0], "loss": [3.0, 2.0]}
    return diptych.Reconstruction(
        diptych.Canvas(IMAGE, (-37, -36), pixel), PROBE, POSITIONS, history, geometry=geometry, name="r"
    )


def scan(geometry: diptych.Geometry | None) -> diptych.Scan:
    mask = np.ones((N, N), bool)
    mask[1, 2] = False
    return diptych.Scan(COUNTS, POSITIONS, PROBE, mask=mask, geometry=geometry, name="s")


def test_every_written_format_is_tested_here() -> None:
    assert {entry.name for entry in FORMATS.entries() if entry.write is not None} == {*RESULTS, *SCANS, "emd"}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", RESULTS)
def test_results_come_back(name: str, geometry: str, tmp_path: Path) -> None:
    file, exact, placed = RESULTS[name]
    stored = result(GEOMETRIES[geometry])
    again = diptych.load(diptych.save(stored, tmp_path / file, name))
    tolerance = 0.0 if exact else 1e-6 * float(np.abs(IMAGE).max())
    np.testing.assert_allclose(again.object.values, IMAGE, rtol=0, atol=tolerance)
    np.testing.assert_allclose(again.probe, PROBE, rtol=0, atol=tolerance)
    assert again.object.origin == stored.object.origin
    np.testing.assert_allclose(again.object.pixel_m, stored.object.pixel_m, rtol=1e-9)
    if placed:
        np.testing.assert_allclose(again.positions, POSITIONS, rtol=0, atol=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", SCANS)
def test_scans_come_back(name: str, geometry: str, tmp_path: Path) -> None:
    again = diptych.load(diptych.save(scan(GEOMETRIES[geometry]), tmp_path / SCANS[name], name))
    np.testing.assert_array_equal(again.counts, COUNTS)
    np.testing.assert_allclose(again.positions, POSITIONS, rtol=0, atol=1e-9)
    if name != "fold-slice":
        np.testing.assert_array_equal(again.mask, scan(None).mask)
        assert again.geometry.particle == GEOMETRIES[geometry].particle
        np.testing.assert_allclose(again.pixel_m, GEOMETRIES[geometry].object_pixel_m(N), rtol=1e-9)


@pytest.mark.parametrize(("key", "attribute"), [("2024", "probe_energy_eV"), ("1.7", "photon_energy_eV")])
def test_products_carry_the_energy_of_either_version(key: str, attribute: str, tmp_path: Path) -> None:
    stored = result(GEOMETRIES["photons"])
    with h5py.File(diptych.save(stored, tmp_path / "r.h5")) as file:
        assert file.attrs[attribute] == 9e3
    with np.load(diptych.save(stored, tmp_path / "r.npz", "ptychodus-npz")) as arrays:
        assert arrays[attribute] == 9e3


@pytest.mark.parametrize("name", ["ptychodus-npz", "ptychodus-cxi", "ptypy-result", "cdtools-result", "ptyrad"])
def test_lengths_in_metres_need_a_pixel(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the object pixel of r is not known"):
        diptych.save(result(None), tmp_path / RESULTS[name][0], name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nxptycho", "ptypy", "fold-slice"])
def test_scans_in_metres_need_a_pixel(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the object pixel of s is not known"):
        diptych.save(scan(None), tmp_path / SCANS[name], name)
    assert not list(tmp_path.iterdir())


def test_the_second_file_of_fold_slice_is_not_replaced_unasked(tmp_path: Path) -> None:
    source = diptych.save(scan(GEOMETRIES["photons"]), tmp_path / "s.npz")
    (tmp_path / "s_para.hdf5").write_text("mine")
    with pytest.raises(InputError, match=r"s_para.hdf5.*exists already"):
        diptych.convert(source, tmp_path / "s_dp.hdf5", format="fold-slice")
    assert (tmp_path / "s_para.hdf5").read_text() == "mine"
    with pytest.raises(InputError, match=r"a name such as scan_dp.hdf5"):
        diptych.convert(source, tmp_path / "s.hdf5", format="fold-slice")


def test_a_pixel_that_is_not_square_is_refused_where_there_is_one_length(tmp_path: Path) -> None:
    oblong = replace(GEOMETRIES["photons"], detector_pixel_m=(75e-6, 50e-6))
    with pytest.raises(InputError, match="holds one length"):
        diptych.save(scan(oblong), tmp_path / "s_dp.hdf5", "fold-slice")


def test_nxptycho_conforms(tmp_path: Path) -> None:
    found = diptych.validate(diptych.save(scan(GEOMETRIES["photons"]), tmp_path / "s.nxs"), "nxptycho")
    assert found.conforms, found.deviations


def test_a_raster_comes_back_from_emd(tmp_path: Path) -> None:
    y, x = np.mgrid[:3, :4].reshape(2, -1) * np.array([[4.5], [3.25]]) - np.array([[20.0], [7.5]])
    stored = replace(scan(GEOMETRIES["electrons"]), positions=np.stack([y, x], axis=1), mask=None)
    path = diptych.save(stored, tmp_path / "s.emd")
    again = diptych.load(path, energy_eV=3e5)
    np.testing.assert_array_equal(again.counts, COUNTS)
    np.testing.assert_allclose(again.positions, stored.positions, rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.pixel_m, stored.pixel_m, rtol=1e-9)
    with pytest.raises(InputError, match="are on no raster"):
        diptych.save(scan(GEOMETRIES["electrons"]), tmp_path / "t.emd")
