"""Scans of NeXus files with separate x and y and with units, of NSLS-II HXN, and rasters without positions."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError

ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M, SIZE, ROWS, COLUMNS = 9000.0, 1.25, 75e-6, 16, 3, 4
PIXEL_M = np.asarray(diptych.Geometry(ENERGY_EV, DISTANCE_M, (DETECTOR_PIXEL_M,) * 2).object_pixel_m(SIZE))
rng = np.random.default_rng(3)
COUNTS = rng.poisson(20.0, (ROWS * COLUMNS, SIZE, SIZE)).astype(np.uint16)
Y, X = np.arange(ROWS) * 4.5, np.arange(COLUMNS) * 3.25
POSITIONS = np.stack(np.meshgrid(Y, X, indexing="ij"), -1).reshape(-1, 2)
UNITS = {"m": 1.0, "mm": 1e3, "um": 1e6, "micron": 1e6, "nm": 1e9}


def write(folder: Path, unit: str = "um", *, axes: bool = False, group: str = "data", energy: str = "keV") -> Path:
    scale = UNITS[unit]
    y, x = (Y, X) if axes else POSITIONS.T
    with h5py.File(folder / "scan.nxs", "w") as file:
        data = file.create_group(f"entry_1/{group}")
        data["data"] = COUNTS.reshape(ROWS, COLUMNS, SIZE, SIZE) if axes else COUNTS
        data["y"], data["x"] = y * PIXEL_M[0] * scale, x * PIXEL_M[1] * scale
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["distance"] = DISTANCE_M * 1e3
        detector["x_pixel_size"] = detector["y_pixel_size"] = DETECTOR_PIXEL_M * 1e6
        detector["distance"].attrs["units"] = "mm"
        for key in ("x_pixel_size", "y_pixel_size"):
            detector[key].attrs["units"] = "um"
        for key in ("x", "y"):
            data[key].attrs["units"] = unit
        stated = {"eV": ENERGY_EV, "keV": ENERGY_EV / 1e3, "J": ENERGY_EV * 1.602176634e-19}[energy]
        file["entry_1/instrument_1/beam_1/energy"] = stated
        file["entry_1/instrument_1/beam_1/energy"].attrs["units"] = energy
    return folder / "scan.nxs"


@pytest.mark.parametrize("unit", UNITS)
def test_positions_as_x_and_y_in_their_unit(tmp_path: Path, unit: str) -> None:
    scan = diptych.load(write(tmp_path, unit))
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)
    assert scan.pixel_m == pytest.approx(PIXEL_M)


@pytest.mark.parametrize("energy", ["eV", "keV", "J"])
def test_a_raster_with_its_axes(tmp_path: Path, energy: str) -> None:
    scan = diptych.load(write(tmp_path, axes=True, group="data_1", energy=energy))
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)
    assert any("x fastest" in line for line in scan.metadata["conversions"])


def test_a_unit_that_is_no_length_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["entry_1/data/x"].attrs["units"] = "deg"
    with pytest.raises(InputError, match="has the unit 'deg'"):
        diptych.load(path)


def test_axes_of_another_length_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/data/x"]
        file["entry_1/data/x"] = np.arange(5.0)
    with pytest.raises(InputError, match="the axes of the raster"):
        diptych.load(path)


@pytest.mark.parametrize("shape", [(), (16,), (16, 16)])
def test_patterns_that_are_none_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/data/data"]
        file["entry_1/data/data"] = np.zeros(shape)
    with pytest.raises(InputError, match="has shape"):
        diptych.load(path)


def test_a_scan_of_hxn(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "hxn.h5", "w") as file:
        file["diffamp"] = np.sqrt(COUNTS.astype(np.float32))
        file["points"] = (POSITIONS * PIXEL_M * 1e6).T[::-1]
        file["ccd_pixel_um"], file["z_m"] = DETECTOR_PIXEL_M * 1e6, DISTANCE_M
        file["lambda_nm"] = 1.239841984332003e3 / ENERGY_EV
    scan = diptych.load(tmp_path / "hxn.h5")
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_a_raster_without_positions_needs_its_step(tmp_path: Path, suffix: str) -> None:
    path, values = tmp_path / f"raster{suffix}", COUNTS.reshape(ROWS, COLUMNS, SIZE, SIZE)
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["data"] = values
    else:
        np.save(path, values) if suffix == ".npy" else np.savez(path, data=values)
    with pytest.raises(InputError, match=r"raster of 3 x 4 patterns.*--scan-step"):
        diptych.load(path)
    rows, columns = np.indices((ROWS, COLUMNS)).reshape(2, -1)
    scan = diptych.load(path, scan_step=2.5)
    assert np.array_equal(scan.counts, COUNTS)
    assert np.array_equal(scan.positions, np.stack([rows, columns], 1) * 2.5)
    known = {"energy_eV": ENERGY_EV, "distance_m": DISTANCE_M, "detector_pixel_m": DETECTOR_PIXEL_M}
    metres = diptych.load(path, scan_step=float(PIXEL_M[0]) * 2.5, position_unit="m", **known)
    assert metres.positions == pytest.approx(scan.positions)


def test_the_wrong_energy_of_a_spiral_is_noticed(measured_data: Path) -> None:
    path = measured_data / "formats" / "diamond_nxptycho_spiral.nxs"
    with pytest.raises(InputError, match="--energy-eV"):
        diptych.load(path)


def test_a_measured_raster_of_electrons(measured_data: Path) -> None:
    scan = diptych.load(measured_data / "formats" / "ptychojl_cryo4dstem_20x20.h5", scan_step=31.25 / 4.65)
    assert scan.counts.shape == (400, 256, 256)
    assert np.ptp(scan.positions, axis=0) == pytest.approx([19 * 31.25 / 4.65] * 2)
