"""``diptych.validate``: our own files conform, and each kind of deviation is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import diptych
from diptych.ptycho.io.exchange.conformance import STANDARDS


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
        entry["data_1/data"], entry["data_1/translation"] = np.zeros((4, 8, 8)), np.zeros((4, 3))
        for name in ("name", "type", "probe"):
            entry[f"instrument_1/source_1/{name}"] = "x-ray"
        for name, units in (("beam_1/energy", "J"), ("beam_1/extent", "m")):
            entry[f"instrument_1/{name}"] = 1e-15
            entry[f"instrument_1/{name}"].attrs["units"] = units
        for name in ("distance", "x_pixel_size", "y_pixel_size", "beam_center_x", "beam_center_y"):
            entry[f"instrument_1/detector_1/{name}"] = 1.0
            entry[f"instrument_1/detector_1/{name}"].attrs["units"] = "m"
    return path


@pytest.mark.parametrize("standard", STANDARDS)
def test_files_by_the_standard_conform(standard: str, files: dict[str, Path]) -> None:
    found = diptych.validate(files[standard], standard)
    assert found.deviations == ()
    assert found.conforms
    assert found.checked >= len(STANDARDS[standard])


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
    assert len(said) == 1
    assert "beam_1/energy: is 1.5" in said[0]


def test_what_is_no_hdf5_file_and_unknown_standards_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(diptych.InputError, match="an HDF5 file"):
        diptych.validate(tmp_path / "a.npy", "cxi")
    with pytest.raises(diptych.InputError, match="one of product, cxi, nxptycho"):
        diptych.validate(tmp_path / "a.npy", "tiff")
