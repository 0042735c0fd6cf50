"""Results in the layouts of other programs: one object and one set of positions, however they were stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import diptych
from diptych.errors import InputError
from diptych.ptycho.io import load_result
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C

ENERGY_EV, DISTANCE_M, SIZE, PIXEL_M = 9000.0, 1.25, 16, np.array([20e-9, 25e-9])
WAVELENGTH_M = 1.239841984332003e-6 / ENERGY_EV

rng = np.random.default_rng(5)
OBJECT = (rng.normal(size=(44, 50)) + 1j * rng.normal(size=(44, 50))).astype(np.complex64)
PROBE = (rng.normal(size=(2, SIZE, SIZE)) + 1j * rng.normal(size=(2, SIZE, SIZE))).astype(np.complex64)
WINDOWS = rng.uniform(SIZE // 2, 30, (9, 2))
"""Where index [N // 2, N // 2] of each window lies, from the object's first pixel."""


def write_ptychodus(folder: Path) -> Path:
    height, width = OBJECT.shape
    metres = (WINDOWS - np.array([height, width]) / 2) * PIXEL_M
    with h5py.File(folder / "product.cxi", "w") as file:
        file["cxi_version"] = 160
        file["entry_1/image_1/data"], file["entry_1/image_2/data"] = PROBE[None], OBJECT[None]
        file["entry_1/sample_1/geometry_1/translation"] = np.stack([metres[:, 1], metres[:, 0], 0 * metres[:, 0]], 1)
        file["entry_1/instrument_1/source_1/energy"] = ENERGY_EV * ELEMENTARY_CHARGE_C
        file["entry_1/instrument_1/detector_1/distance"] = DISTANCE_M
        extras = file.create_group("entry_1/ptychodus")
        extras["object_pixel_height_m"], extras["object_pixel_width_m"] = PIXEL_M
        extras["object_center_y_m"] = extras["object_center_x_m"] = 0.0
        extras["loss_values"], extras["loss_epochs"] = np.ones(3), np.arange(3)
    return folder / "product.cxi"


def write_ptypy(folder: Path) -> Path:
    origin = np.array([3.3e-6, -2.1e-6])
    with h5py.File(folder / "result.ptyr", "w") as file:
        for key, values in (("obj", OBJECT[None]), ("probe", PROBE)):
            storage = file.create_group(f"content/{key}/SMFG00")
            storage["data"], storage["_psize"], storage["_energy"] = values, PIXEL_M, ENERGY_EV / 1e3
            storage["_origin"] = origin if key == "obj" else -PIXEL_M * SIZE / 2
        file["content/positions/SMFG00"] = WINDOWS * PIXEL_M + origin
        file["content/pars/scans/MF/data/distance"] = DISTANCE_M
    return folder / "result.ptyr"


def cdtools(least: np.ndarray | None) -> dict[str, Any]:
    basis = np.array([[0, -PIXEL_M[1]], [-PIXEL_M[0], 0], [0, 0]])
    corners = WINDOWS - SIZE // 2 + (0 if least is None else least)
    stored = {"obj": OBJECT, "probe": PROBE, "obj_basis": basis, "translation": corners @ basis.T}
    return {**stored, "wavelength": WAVELENGTH_M, "loss_history": np.array([3.0, 2.0])}


def write_cdtools(folder: Path) -> Path:
    least = np.array([-7.0, 4.0])
    with h5py.File(folder / "result.h5", "w") as file:
        for key, value in {**cdtools(least), "state_dict/min_translation": least}.items():
            file[key] = value
    return folder / "result.h5"


def write_cdtools_matlab(folder: Path) -> Path:
    least = np.array([2.0, 1.0])
    savemat(folder / "result.mat", {**cdtools(least), "min_translation": least})
    return folder / "result.mat"


def write_ptyrad(folder: Path) -> Path:
    corners = np.floor(WINDOWS) - SIZE // 2
    with h5py.File(folder / "model.hdf5", "w") as file:
        tensors, attributes = file.create_group("optimizable_tensors"), file.create_group("model_attributes")
        tensors["obja"], tensors["objp"] = np.abs(OBJECT)[None, None], np.angle(OBJECT)[None, None]
        tensors["probe"], tensors["probe_pos_shifts"] = PROBE, WINDOWS - np.floor(WINDOWS)
        attributes["crop_pos"], attributes["dx"], attributes["lambd"] = corners.astype(int), PIXEL_M[0] * 1e10, 0.02
    return folder / "model.hdf5"


def shelves() -> dict[str, Any]:
    parameters = {"dx_spec": PIXEL_M, "lambda": WAVELENGTH_M, "z": DISTANCE_M, "positions": WINDOWS - SIZE // 2}
    return {"object": OBJECT, "probe": np.moveaxis(PROBE, 0, -1), "p": parameters}


def write_shelves(folder: Path) -> Path:
    savemat(folder / "shelves.mat", shelves())
    return folder / "shelves.mat"


def write_shelves_refined(folder: Path) -> Path:
    stored = shelves()
    del stored["p"]["positions"]
    stored["outputs"] = {"probe_positions": (WINDOWS - np.array(OBJECT.shape) / 2)[:, ::-1]}
    savemat(folder / "refined.mat", stored)
    return folder / "refined.mat"


def write_shelves_new(folder: Path) -> Path:
    pair = np.dtype([("real", "f4"), ("imag", "f4")])
    stored = shelves()
    arrays = {"object": stored["object"], "probe": stored["probe"]}
    arrays |= {f"p/{key}": np.atleast_2d(value) for key, value in stored["p"].items()}
    with h5py.File(folder / "shelves73.mat", "w", userblock_size=512) as file:
        for key, value in arrays.items():
            value = np.ascontiguousarray(np.asarray(value).T)
            file[key] = value.view(np.float32).view(pair).reshape(value.shape) if np.iscomplexobj(value) else value
            file[key].attrs["MATLAB_class"] = np.bytes_("single")
    return folder / "shelves73.mat"


WRITERS = [write_ptychodus, write_ptypy, write_cdtools, write_cdtools_matlab, write_ptyrad]
WRITERS += [write_shelves, write_shelves_refined, write_shelves_new]


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_gives_the_same_result(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    result = diptych.load(write(tmp_path))
    assert isinstance(result, diptych.Reconstruction)
    assert result.object.values == pytest.approx(OBJECT, abs=1e-5)
    assert result.probe == pytest.approx(PROBE)
    assert result.positions - result.object.origin == pytest.approx(WINDOWS, abs=1e-6)
    pixel = (PIXEL_M[0], PIXEL_M[0]) if write is write_ptyrad else PIXEL_M
    assert result.object.pixel_m == pytest.approx(pixel)
    if write is write_ptyrad:
        assert result.geometry is None
    else:
        assert result.geometry is not None
        assert result.geometry.energy_eV == pytest.approx(ENERGY_EV)


def test_a_scan_whose_place_cdtools_does_not_state_lies_in_the_middle(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "result.h5", "w") as file:
        for key, value in cdtools(None).items():
            file[key] = value
    result = load_result(tmp_path / "result.h5")
    inside = result.positions - SIZE // 2
    assert (inside >= 0).all()
    assert (inside + SIZE <= OBJECT.shape).all()
    assert any("min_translation" in flag for flag in result.flags)


def test_a_result_without_positions_says_so(tmp_path: Path) -> None:
    path = write_ptypy(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["content/positions"]
    assert any("no positions" in flag for flag in load_result(path).flags)


@pytest.mark.parametrize(
    ("write", "path"),
    [
        (write_ptychodus, "entry_1/ptychodus/object_pixel_width_m"),
        (write_ptypy, "content/obj/SMFG00/_psize"),
        (write_ptyrad, "model_attributes/dx"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, write: Callable[[Path], Path], path: str) -> None:
    file_path = write(tmp_path)
    with h5py.File(file_path, "r+") as file:
        del file[path]
    with pytest.raises(InputError, match=path.rpartition("/")[2]):
        diptych.load(file_path)


def test_several_layers_are_refused(tmp_path: Path) -> None:
    path = write_ptyrad(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["optimizable_tensors/objp"]
        file["optimizable_tensors/objp"] = np.zeros((1, 3, *OBJECT.shape))
    with pytest.raises(InputError, match="multislice"):
        diptych.load(path)


def test_a_damaged_matlab_file_is_an_input_error(tmp_path: Path) -> None:
    path = write_shelves(tmp_path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"shelves\.mat"):
        diptych.load(path)


def test_both_products_of_ptychodus_hold_the_same(measured_data: Path) -> None:
    first, second = (load_result(measured_data / "formats" / f"ptychodus170_product.{end}") for end in ("h5", "cxi"))
    assert np.array_equal(first.object.values, second.object.values)
    assert np.array_equal(first.probe, second.probe)
    assert first.positions == pytest.approx(second.positions, abs=1e-9)
    assert first.history == second.history


def test_a_result_of_ptypy_is_read(measured_data: Path) -> None:
    result = load_result(measured_data / "formats" / "ptypy090_cnm.ptyr")
    assert result.probe.shape == (2, 128, 128)
    assert result.object.pixel_m == pytest.approx((1.43500223e-8,) * 2)
    assert len(result.history["loss"]) == 3
