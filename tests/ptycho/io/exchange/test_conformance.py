"""``diptych.validate``: our own files conform, and each kind of deviation is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest

import diptych
from diptych.ptycho.io.exchange.standards import STANDARDS, StandardName


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    scan = diptych.simulate(
        size=16, patterns=25, step=2.0, energy_eV=8e3, distance_m=1.0, detector_pixel_m=1e-4, dead=0.05, seed=0
    )
    result = diptych.reconstruct(scan, engine="rpie", epochs=2)
    return {
        "cxi": diptych.save(scan, folder / "scan.cxi"),
        "product": diptych.save(result, folder / "result.h5"),
        "nxptycho": nexus(folder / "scan.nxs"),
    }


def nexus(path: Path) -> Path:
    """A small file by NXcxi_ptycho."""
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry_1")
        entry["definition"], entry["title"] = "NXcxi_ptycho", "a scan"
        entry["data_1/data"] = np.ones((4, 8, 8))
        entry["data_1/translation"] = np.arange(12.0).reshape(4, 3) * 1e-8
        entry["data_1/translation"].attrs["units"] = "m"
        for name in ("name", "type", "probe"):
            entry[f"instrument_1/source_1/{name}"] = "x-ray"
        for name, units in (("beam_1/energy", "J"), ("beam_1/extent", "m")):
            entry[f"instrument_1/{name}"] = 1e-15
            entry[f"instrument_1/{name}"].attrs["units"] = units
        for name in ("distance", "x_pixel_size", "y_pixel_size", "beam_center_x", "beam_center_y"):
            entry[f"instrument_1/detector_1/{name}"] = 1.0 if name == "distance" else 1e-3
            entry[f"instrument_1/detector_1/{name}"].attrs["units"] = "m"
    return path


@pytest.mark.parametrize("standard", STANDARDS)
def test_files_by_the_standard_conform(standard: str, files: dict[str, Path]) -> None:
    found = diptych.validate(files[standard], standard)
    assert found.deviations == ()
    assert found.conforms
    assert found.checked > len(STANDARDS[standard].rules)


def replaced(path: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[path]
        if value is not None:
            file[path] = value

    return change


def unit(path: str, text: str) -> Callable[[h5py.File], None]:
    return lambda file: file[path].attrs.__setitem__("units", text)


@pytest.mark.parametrize(
    ("standard", "change", "said"),
    [
        ("product", replaced("probe", None), "probe: is absent"),
        ("product", replaced("object", np.ones((2, 3, 3))), "object: has type float64; expected complex"),
        ("product", replaced("probe", np.ones((16, 16), complex)), "probe: has shape (16, 16)"),
        ("product", replaced("probe_position_x_m", np.ones(24)), "25 in place of 24, as probe_position_indexes"),
        ("product", lambda file: file["object"].attrs.pop("center_x_m"), "object/@center_x_m: is absent"),
        (
            "product",
            lambda file: [file.attrs.pop(f"{name}_energy_eV") for name in ("photon", "probe")],
            "/@photon_energy_eV or @probe_energy_eV: is absent",
        ),
        ("cxi", replaced("entry_1/instrument_1/source_1/energy", 8e3), "is 8000; expected 1e-20 to 1e-12 J"),
        ("cxi", unit("entry_1/sample_1/geometry_1/translation", "um"), "units are 'um'; expected m"),
        ("cxi", replaced("entry_1/instrument_1/detector_1/distance", -1.0), "is -1; expected a finite positive"),
        ("cxi", replaced("cxi_version", np.ones(3)), "cxi_version: has shape (3,)"),
        ("nxptycho", replaced("entry_1/definition", "NXtomo"), "is 'NXtomo'; expected NXcxi_ptycho or NXptycho"),
        ("nxptycho", replaced("entry_1/instrument_1/beam_1/energy", 1.0), "beam_1/energy/@units: is absent"),
    ],
)
def test_each_deviation_is_named(
    standard: str, change: Callable[[h5py.File], Any], said: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / files[standard].name
    shutil.copy(files[standard], path)
    with h5py.File(path, "a") as file:
        change(file)
    found = diptych.validate(path, standard)
    assert not found.conforms
    assert any(said in str(each) for each in found.deviations), list(map(str, found.deviations))
    assert all(each.remedy for each in found.deviations)


@pytest.mark.parametrize("absent", ["photon", "probe"])
def test_products_of_either_name_of_the_energy_conform(absent: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copy(files["product"], tmp_path / "result.h5")
    with h5py.File(path, "a") as file:
        del file.attrs[f"{absent}_energy_eV"]
    assert diptych.validate(path, "product").deviations == ()


def test_a_product_of_ptychodus_1_7_conforms(measured_data: Path) -> None:
    path = measured_data / "formats" / "ptychodus170_product.h5"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    assert diptych.validate(path, "product").deviations == ()


def test_a_file_of_another_program_is_judged_without_reading_it(measured_data: Path) -> None:
    path = measured_data / "formats" / "diamond_nxptycho_spiral.nxs"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    said = list(map(str, diptych.validate(path, "nxptycho").deviations))
    assert len(said) == 2
    assert "translation/@units: is absent" in said[0]
    assert "beam_1/energy: is 1.5" in said[1]


def test_what_is_no_hdf5_file_and_unknown_standards_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(diptych.InputError, match="an HDF5 file"):
        diptych.validate(tmp_path / "a.npy", "cxi")
    with pytest.raises(diptych.InputError, match="one of product, cxi, nxptycho"):
        diptych.validate(tmp_path / "a.npy", "tiff")


def changed(path: str, change: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    """Replace an array by a function of it, keeping its attributes."""

    def apply(file: h5py.File) -> None:
        values, about = file[path][()], dict(file[path].attrs)
        values = np.array(values) if np.ndim(values) else values
        del file[path]
        file[path] = change(values)
        file[path].attrs.update(about)

    return apply


def put(index: Any, value: Any) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values = values.astype(np.float64) if values.dtype.kind in "iu" else values
        values[index] = value
        return values

    return change


PLACES, DATA = "entry_1/sample_1/geometry_1/translation", "entry_1/instrument_1/detector_1/data"
MASK, ENERGY = "entry_1/instrument_1/detector_1/mask", "entry_1/instrument_1/source_1/energy"


@pytest.mark.parametrize(
    ("standard", "change", "said"),
    [
        ("cxi", changed(PLACES, put((3, 0), np.nan)), "1 of 25 positions are not finite, the first of pattern 3"),
        ("cxi", changed(PLACES, lambda v: v[np.r_[0, 0, 2 : len(v)]]), "1 positions repeat another one"),
        ("cxi", changed(PLACES, lambda v: v * 1e6), "no two windows of 16 px overlap"),
        ("cxi", changed(PLACES, lambda v: v * 1e-6), "all positions lie within"),
        ("cxi", changed(PLACES, put((3, 0), 1e-3)), "1 of 25 windows of 16 px overlap with no other"),
        (
            "cxi",
            changed(DATA, put((4, 8, 8), np.nan)),
            "1 values outside the mask are not finite, the first in",
        ),
        ("cxi", changed(DATA, put((5, 8, 8), -2)), "1 values outside the mask are negative, the first in pattern 5"),
        ("cxi", changed(DATA, put(6, 0)), "1 of 25 patterns hold no count"),
        ("cxi", changed(MASK, lambda v: v[:8, :8]), "mask: has shape (8, 8); expected (16, 16)"),
        ("cxi", changed(MASK, lambda v: v * 0 + 1), "marks every pixel as bad"),
        ("cxi", changed(MASK, lambda v: v.astype(np.float32)), "mask: has type float32; expected integers"),
        ("cxi", replaced("cxi_version", 1.6), "cxi_version: is 1.6; expected 100 to 999"),
        ("cxi", replaced("entry_1/instrument_1/detector_1/distance", 1e6), "is 1e+06; expected 0.0001 to 1000 m"),
        ("cxi", replaced("entry_1/instrument_1/detector_1/x_pixel_size", 75.0), "is 75; expected 1e-08 to 0.01 m"),
        (
            "cxi",
            changed("entry_1/instrument_1/source_1/illumination", lambda v: v[..., :8, :8]),
            "16 x 16 px, as",
        ),
        ("product", changed("probe_position_y_m", put(2, np.inf)), "1 of 25 positions are not finite"),
        ("product", changed("probe_position_y_m", lambda v: v + 1e-3), "25 of 25 windows leave the object"),
        ("product", lambda file: file.attrs.__setitem__("photon_energy_eV", 1.28e-15), "photon_energy_eV: is 1.28e-15"),
        ("product", lambda file: file.attrs.__setitem__("detector_object_distance_m", 5e4), "distance_m: is 50000"),
        ("product", lambda file: file.attrs.__setitem__("photon_energy_eV", "much"), "is 'much'; expected one number"),
    ],
)
def test_contents_are_judged(
    standard: StandardName, change: Callable[[h5py.File], None], said: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "changed.h5"
    shutil.copy(files[standard], path)
    with h5py.File(path, "a") as file:
        change(file)
    found = diptych.validate(path, standard)
    assert any(said in str(each) for each in found.deviations), list(map(str, found.deviations))
    assert all(each.remedy for each in found.deviations)


def test_a_number_in_another_unit_is_told_in_the_right_one(files: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copy(files["cxi"], tmp_path / "a.cxi")
    with h5py.File(path, "a") as file:
        replaced(ENERGY, 8e3)(file)
    (found,) = (each for each in diptych.validate(path, "cxi").deviations if each.path == ENERGY)
    assert "if it is in eV, store 1.28174e-15" in found.remedy


def test_results_in_cxi_are_judged_as_results(files: dict[str, Path], tmp_path: Path) -> None:
    path = diptych.save(diptych.load(files["product"]), tmp_path / "result.cxi")
    assert diptych.validate(path, "cxi").deviations == ()
    with h5py.File(path, "a") as file:
        changed("entry_1/image_2/data", lambda v: v[:, :20])(file)
        replaced("entry_1/ptychodus/object_pixel_height_m", -1.0)(file)
    said = [str(each) for each in diptych.validate(path, "cxi").deviations]
    assert any("object_pixel_height_m: is -1; expected a finite positive number" in each for each in said), said


def test_standards_are_named_once() -> None:
    assert get_args(StandardName) == tuple(STANDARDS)
