"""Scans in the layouts of other programs: CXI, PtyPy, fold_slice, PtyLab; all forms of one scan give the same Scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C, photon_energy_eV

ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M, SIZE, PATTERNS = 9000.0, 1.25, 75e-6, 16, 7
PIXEL_M = diptych.Geometry(ENERGY_EV, DISTANCE_M, (DETECTOR_PIXEL_M,) * 2).object_pixel_m(SIZE)

rng = np.random.default_rng(3)
COUNTS = rng.poisson(20.0, (PATTERNS, SIZE, SIZE)).astype(np.uint16)
POSITIONS = rng.uniform(0, 40, (PATTERNS, 2))
GOOD = np.ones((SIZE, SIZE), bool)
GOOD[2, 3] = False


def write_cxi(folder: Path, *, vectors: bool = False, energy: float = ENERGY_EV * ELEMENTARY_CHARGE_C) -> Path:
    with h5py.File(folder / "scan.cxi", "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"], detector["distance"] = COUNTS, DISTANCE_M
        detector["x_pixel_size"] = detector["y_pixel_size"] = DETECTOR_PIXEL_M
        detector["mask"] = np.where(GOOD, 0, 0x200).astype(np.uint32)
        if vectors:
            pixel = DETECTOR_PIXEL_M
            detector["basis_vectors"] = np.array([[0, -pixel], [-pixel, 0], [0, 0]])
        file["entry_1/instrument_1/source_1/energy"] = energy
        metres = POSITIONS * PIXEL_M
        file["entry_1/sample_1/geometry_1/translation"] = np.stack([metres[:, 1], metres[:, 0], 0 * metres[:, 0]], 1)
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return folder / "scan.cxi"


def write_cdtools(folder: Path) -> Path:
    return write_cxi(folder, vectors=True)


def write_ptyd(folder: Path) -> Path:
    with h5py.File(folder / "scan.ptyd", "w") as file:
        for number, part in enumerate((slice(0, 4), slice(4, None))):
            chunk = file.create_group(f"chunks/{number}")
            chunk["data"] = COUNTS[part].astype(np.int32)
            chunk["positions"] = POSITIONS[part] * PIXEL_M
            chunk["weights"] = np.broadcast_to(GOOD, COUNTS[part].shape)
        file["meta/energy"], file["meta/distance"] = ENERGY_EV / 1e3, DISTANCE_M
        file["meta/psize"] = np.full(2, DETECTOR_PIXEL_M)
        file["info/energy"] = np.zeros(1)
        file["info/energy"].attrs["type"] = "None"
    return folder / "scan.ptyd"


def write_fold_slice(folder: Path) -> Path:
    with h5py.File(folder / "data_roi0_Ndp16_dp.hdf5", "w") as file:
        file["dp"] = COUNTS
    with h5py.File(folder / "data_roi0_Ndp16_para.hdf5", "w") as file:
        file["ppY"], file["ppX"] = (POSITIONS * PIXEL_M).T
        file["dx"], file["lambda"] = PIXEL_M[0], 1.23984198e-6 / ENERGY_EV
    return folder / "data_roi0_Ndp16_dp.hdf5"


def write_ptylab(folder: Path) -> Path:
    with h5py.File(folder / "scan.hdf5", "w") as file:
        file["ptychogram"], file["encoder"] = COUNTS.astype(np.float32), POSITIONS * PIXEL_M
        file["dxd"], file["zo"], file["wavelength"] = DETECTOR_PIXEL_M, DISTANCE_M, 1.239841984332003e-6 / ENERGY_EV
    return folder / "scan.hdf5"


WRITERS = [write_cxi, write_cdtools, write_ptyd, write_fold_slice, write_ptylab]


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_gives_the_same_scan(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    scan = diptych.load(write(tmp_path))
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)
    if write is not write_fold_slice:
        assert scan.pixel_m == pytest.approx(PIXEL_M)
    assert scan.geometry.energy_eV == pytest.approx(ENERGY_EV, rel=1e-6)
    if write in (write_cxi, write_cdtools, write_ptyd):
        assert np.array_equal(scan.mask, GOOD)
    assert scan.metadata["conversions"]


@pytest.mark.parametrize("write", WRITERS)
def test_what_was_read_is_stated(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    said = " ".join(diptych.load(write(tmp_path)).metadata["conversions"])
    assert "positions" in said
    assert "object pixel" in said


@pytest.mark.parametrize("energy", [ENERGY_EV, ENERGY_EV * ELEMENTARY_CHARGE_C])
def test_an_energy_in_joule_or_electronvolt_is_recognised(tmp_path: Path, energy: float) -> None:
    assert diptych.load(write_cxi(tmp_path, energy=energy)).geometry.energy_eV == pytest.approx(ENERGY_EV)


def test_an_implausible_energy_is_refused_and_can_be_given(tmp_path: Path) -> None:
    path = write_cxi(tmp_path, energy=1.5e-21)
    with pytest.raises(InputError, match=r"scan\.cxi.*photon energy is 1\.5e-21.*--energy-eV"):
        diptych.load(path)
    assert diptych.load(path, energy_eV=ENERGY_EV).positions == pytest.approx(POSITIONS, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(9.0, "keV", 9000.0), (710.0, "eV", 710.0), (9000.0, None, 9000.0), (1.44e-15, None, 1.44e-15 / 1.602176634e-19)],
)
def test_energies_by_unit(value: float, unit: str | None, expected: float) -> None:
    assert photon_energy_eV(value, unit, "f")[0] == pytest.approx(expected)


@pytest.mark.parametrize(("value", "unit"), [(0.0, None), (-9e3, "eV"), (300.0, None), (3e5, "keV"), (np.nan, None)])
def test_energies_that_cannot_be_told_are_refused(value: float, unit: str | None) -> None:
    with pytest.raises(InputError, match="--energy-eV"):
        photon_energy_eV(value, unit, "f")


def test_patterns_of_fold_slice_alone_name_the_missing_file(tmp_path: Path) -> None:
    path = write_fold_slice(tmp_path)
    (tmp_path / "data_roi0_Ndp16_para.hdf5").unlink()
    with pytest.raises(InputError, match=r"data_roi0_Ndp16_para\.hdf5"):
        diptych.load(path)


def test_positions_and_patterns_that_disagree_are_refused(tmp_path: Path) -> None:
    path = write_cxi(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/sample_1/geometry_1/translation"]
        file["entry_1/sample_1/geometry_1/translation"] = np.zeros((PATTERNS - 1, 3))
    with pytest.raises(InputError, match=r"translation.*expected \(patterns, N, N\)"):
        diptych.load(path)


def test_a_cxi_file_without_positions_says_where_they_are_expected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "image.cxi", "w") as file:
        file["entry_1/data_1/data"] = COUNTS
    with pytest.raises(InputError, match=r"without positions.*entry_1/data_1/translation"):
        diptych.load(tmp_path / "image.cxi")


def test_files_written_by_other_programs_agree(measured_data: Path) -> None:
    names = ("ptypy090_cnm.ptyd", "cdtools032_cnm.cxi", "ours_foldslice_data_roi0_Ndp128_dp.hdf5")
    first, *others = (diptych.load(measured_data / "formats" / name) for name in names)
    centred = first.positions - first.positions.mean(0)
    for other in others:
        assert np.array_equal(other.counts, first.counts)
        assert other.positions - other.positions.mean(0) == pytest.approx(centred, abs=5e-3)


@pytest.mark.integration
def test_a_simulated_scan_of_ptylab_reconstructs_without_options(measured_data: Path) -> None:
    scan = diptych.load(measured_data / "formats" / "ptylab_SimuData_New.mat")
    assert scan.counts.shape == (22, 64, 64)
    result = diptych.reconstruct(scan, epochs=60)
    assert result.provenance["held_out_fit"] < 1.6
