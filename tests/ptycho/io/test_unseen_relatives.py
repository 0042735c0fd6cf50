"""Files with habits of their own: other entries, shapes, types, masks and units; tables and frames beside the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import IncompleteError, InputError
from diptych.ptycho.describe import describe_file
from related_files import (
    AXES,
    BAD,
    BEAM,
    COUNTS,
    CUBE,
    DETECTOR,
    EIGER,
    EMD,
    EMD_PLACES,
    FOLD,
    GIVEN,
    HXN,
    LINKS,
    MASTER,
    METRES,
    NANOMAX,
    PARTS,
    PIXEL,
    PLACES,
    PTYLAB,
    STEP,
    STEPS,
    WAVELENGTH,
    XYZ,
    Case,
    M,
    N,
    Write,
    cxi,
    hdf5,
    matlab5,
    npy,
    ptyd,
)

GOOD = BAD == 0
WIDE = np.pad(COUNTS, ((0, 0), (0, 2), (3, 5)))
"""Frames of 12 x 18 with zero frequency at row 5, column 8."""
ON_RASTER = {**STEP, "scan_columns": 4}
PLAIN = {"energy_eV": 9e3, "distance_m": 1.2, "detector_pixel_m": 75e-6}


def edited(write: Write, edit: Callable[[h5py.File], None], name: str = "") -> Write:
    """The file of ``write`` after ``edit``; returned as ``name`` where that is another one of its folder."""

    def changed(folder: Path) -> Path:
        path = write(folder)
        with h5py.File(path, "a") as file:
            edit(file)
        return folder / name if name else path

    return changed


def renamed(old: str, new: str) -> Callable[[h5py.File], None]:
    return lambda file: file.move(old, new)


def image_before(file: h5py.File) -> None:
    file.move("entry_1", "entry_2")
    file["entry_1/image_1/data"] = np.ones((20, 20), complex)


def two_scans(file: h5py.File) -> None:
    file.copy("entry_1", "entry_2")
    file["entry_2/data_1/data"][...] = 1


def compressed(file: h5py.File) -> None:
    options = {"chunks": (1, N, N), "compression": "gzip", "shuffle": True, "fletcher32": True}
    file.create_dataset("entry_1/data_1/data", data=COUNTS, **options)


def linked(folder: Path) -> Path:
    hdf5("raw.h5", {"frames": COUNTS.astype(">u4")})(folder)
    path = cxi(data=None)(folder)
    with h5py.File(path, "a") as file:
        file["entry_1/data_1/data"] = h5py.ExternalLink("raw.h5", "/frames")
    return path


def npz(**arrays: Any) -> Write:
    def write(folder: Path) -> Path:
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return write


def tiff(frames: Any, folder_of: bool = False) -> Write:
    def write(folder: Path) -> Path:
        import tifffile

        if not folder_of:
            tifffile.imwrite(folder / "frames.tif", frames, photometric="minisblack")
            return folder / "frames.tif"
        (folder / "frames").mkdir()
        for number, frame in enumerate(frames):
            tifffile.imwrite(folder / "frames" / f"f_{number}.tif", frame, photometric="minisblack")
        return folder / "frames"

    return write


def raw(name: str, content: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def gz(folder: Path) -> Path:
    path = cxi()(folder)
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    return path.with_suffix(".gz")


NPZ = {"xcoords": PLACES[:, 1], "ycoords": PLACES[:, 0]}
COORDS = {"ycoords": PLACES[:, :1], "xcoords": PLACES[:, 1:]}
CORNER = np.fft.ifftshift(COUNTS, (1, 2))
DIAMOND = {"entry_1/data/data": COUNTS, "entry_1/data/y": METRES[:, 0] * 1e6, "entry_1/data/x": METRES[:, 1] * 1e6}
DIAMOND |= {f"{BEAM}energy": 9e3, f"{DETECTOR}distance": 1200.0, f"{DETECTOR}pixel_mask": BAD}
DIAMOND |= {f"{DETECTOR}{axis}_pixel_size": 75.0 for axis in "yx"}
UNITS = {f"entry_1/data/{axis}": "um" for axis in "yx"} | {f"{DETECTOR}{axis}_pixel_size": "um" for axis in "yx"}
UNITS |= {f"{BEAM}energy": "eV", f"{DETECTOR}distance": "mm"}
STAGE = {f"{NANOMAX}pseudo/{axis}": METRES[:, column] * 1e6 for column, axis in enumerate("yx")}
ARRAYS = {"chunks/0/data": COUNTS.astype("f8"), "chunks/0/positions": METRES, "chunks/0/indices": np.arange(M) + 3}
OLD_EMD = {f"4DSTEM/d/dim{number + 1}": AXES[f"q/dim{number}"] for number in range(4)}
OLD_UNITS = {f"4DSTEM/d/dim{number + 1}": EMD[f"q/dim{number}"] for number in range(4)}
PARA = {"ppX": METRES[None, :, 1], "ppY": METRES[None, :, 0], "dx": [PIXEL], "lambda": [WAVELENGTH], "angle": 0.0}
VELOCIPROBE = "\n".join(f"{n},{x * 1e9:.3f},0,0,0,{y * 1e9:.3f},0,{n}" for n, (y, x) in enumerate(METRES))

CASES: dict[str, Case] = {
    "CXI: entry_2 alone": Case(edited(cxi(), renamed("entry_1", "entry_2"))),
    "CXI: entry without a number": Case(edited(cxi(), renamed("entry_1", "entry"))),
    "CXI: an image in entry_1": Case(edited(cxi(), image_before)),
    "CXI: two scans, the first": Case(edited(cxi(), two_scans)),
    "CXI: two scans, one chosen": Case(edited(cxi(), two_scans), {"entry": "entry_1"}),
    "CXI: an entry that is not there": Case(edited(cxi(), two_scans), {"entry": "entry_7"}, refused="entry_1, entry_2"),
    "CXI: (1, M, N, N)": Case(cxi(data=COUNTS[None])),
    "CXI: (M, 1, N, N)": Case(cxi(data=COUNTS[:, None])),
    "CXI: mask (1, N, N)": Case(cxi(mask=BAD[None]), masked=True),
    "CXI: mask that is True where good": Case(cxi(mask=GOOD), refused="--mask-means valid"),
    "CXI: mask that is True everywhere": Case(cxi(mask=np.ones((N, N), bool)), refused="--mask-means valid"),
    "CXI: mask, told": Case(cxi(mask=GOOD), {"mask_means": "valid"}, masked=True),
    "CXI: float16": Case(cxi(data=COUNTS.astype("f2"))),
    "CXI: int64": Case(cxi(data=COUNTS.astype("i8"))),
    "CXI: big-endian link": Case(linked),
    "CXI: compressed chunks": Case(edited(cxi(data=None), compressed)),
    "CXI: keV without unit": Case(cxi(energy=9.0)),
    "CXI: um without unit": Case(cxi(translation=XYZ * 1e6), {"position_unit": "um"}),
    "CXI: um without unit, unasked": Case(cxi(translation=XYZ * 1e6), refused="in um)"),
    "CXI: um with unit, told again": Case(cxi({"translation": "um"}, translation=XYZ * 1e6), {"position_unit": "um"}),
    "CXI: centred, (M, 2)": Case(cxi(translation=(XYZ - XYZ.mean(0))[:, :2])),
    "CXI: frames that are not square": Case(cxi(data=WIDE), refused="--centre-y, --centre-x"),
    "CXI: frames cut": Case(
        cxi(data=WIDE, mask=np.pad(BAD, ((0, 2), (3, 5)))),
        {"centre_y": 5, "centre_x": 8, "frame_size": N},
        masked=True,
    ),
    "CXI: no positions": Case(cxi(translation=None), refused="--scan-columns"),
    "CXI: no positions, a raster": Case(cxi(translation=None), ON_RASTER, STEPS),
    "CXI: two detectors": Case(
        edited(cxi(data=None), lambda f: f.update({f"{DETECTOR}data": COUNTS, "entry_1/instrument_1/d_2/data": CUBE}))
    ),
    "Diamond: um, mm, eV, pixel_mask": Case(hdf5("a.nxs", DIAMOND, UNITS), masked=True),
    "ptyd: weights (N, N)": Case(ptyd(chunks__0__weights=1.0 * GOOD, chunks__1__weights=1.0 * GOOD), masked=True),
    "ptyd: numbers from 3, values in arrays": Case(
        hdf5("a.ptyd", ARRAYS | {"meta/energy": [9.0], "meta/distance": [1.2], "meta/psize": [75e-6] * 2, "info/a": 1})
    ),
    "ptyd: no energy": Case(
        hdf5("a.ptyd", ARRAYS | {"info/distance": 1.2, "info/psize": 75e-6}), refused="--energy-eV"
    ),
    "ptyd: an option without a use": Case(ptyd(), {"frame_size": 8}, refused="is read as ptypy, to which --frame-size"),
    "fold_slice: rows, arrays of one": Case(hdf5("a_dp.h5", {"dp": COUNTS}, **{"a_para.h5": PARA})),
    "fold_slice: no second file": Case(hdf5("a_dp.h5", {"dp": COUNTS}), refused="a_para.h5"),
    "fold_slice: MATLAB, (1, M)": Case(
        matlab5("b_dp.mat", {"dp": COUNTS.transpose(1, 2, 0).astype("f8")}, {"b_para.mat": FOLD | {"dx": PIXEL}})
    ),
    "PtyLab: (2, M), further keys": Case(
        hdf5("a.hdf5", PTYLAB | {"encoder": METRES.T.copy(), "entrancePupilDiameter": 1e-3, "orientation": 0, "Nd": N})
    ),
    "PtyLab: no pixel": Case(
        hdf5("a.hdf5", {key: value for key, value in PTYLAB.items() if key != "dxd"}), refused="--detector-pixel-m"
    ),
    "HXN: further keys": Case(hdf5("a.h5", HXN | {"angle": 15.0, "nz": M})),
    "tike: data (M, N, N), scan float32": Case(
        npz(data=CORNER, scan=(PLACES - N // 2).astype("f4"), probe=np.ones((1, 1, 2, N, N), "c8"))
    ),
    "PtychoNN: amplitudes (R, C, N, N)": Case(npz(arr_0=np.sqrt(CUBE)), {**STEP, "domain": "amplitude"}, STEPS),
    "NPZ: mask (1, N, N), coordinates (M, 1)": Case(
        npz(diff3d=COUNTS, mask=GOOD[None], **COORDS), {"domain": "counts"}, masked=True
    ),
    "NPZ: mask 0 and 255": Case(
        npz(diff3d=COUNTS, mask=GOOD * np.uint8(255), **NPZ), {"domain": "counts", "mask_means": "valid"}, masked=True
    ),
    "NPZ: mask inverted": Case(npz(diff3d=COUNTS, mask=BAD, **NPZ), {"domain": "counts"}, refused="--mask-means"),
    "NPZ: objects": Case(
        npz(diff3d=np.array([COUNTS[0], None], object), **NPZ), {"domain": "counts"}, refused="pickles are never opened"
    ),
    "NPY: objects": Case(npy(np.array([COUNTS[0], None], object)), refused="a.npy"),
    "NPY: frames that are not square": Case(npy(WIDE.reshape(3, 4, 12, 18)), STEP, refused="--centre-y"),
    "NPY: frames cut": Case(
        npy(WIDE.reshape(3, 4, 12, 18)), {**STEP, "centre_y": 5, "centre_x": 8, "frame_size": N}, STEPS
    ),
    "Eiger: (M, 1, N, N)": Case(hdf5("a.h5", MASTER | {"entry/data/data": COUNTS[:, None]}), ON_RASTER, STEPS, True),
    "Eiger: (R, C, N, N)": Case(hdf5("a.h5", MASTER | {"entry/data/data": CUBE}), STEP, STEPS, True),
    "Eiger: entry1": Case(
        edited(hdf5("a.h5", MASTER | {"entry/data/data": COUNTS}), renamed("entry", "entry1")), ON_RASTER, STEPS, True
    ),
    "Eiger: energy in keV beside the beam": Case(
        hdf5(
            "a.h5",
            {key: value for key, value in MASTER.items() if "photon" not in key}
            | {"entry/data/data": COUNTS, "entry/instrument/beam/incident_energy": 9.0},
            {"entry/instrument/beam/incident_energy": "keV"},
        ),
        ON_RASTER,
        STEPS,
        True,
    ),
    "NanoMAX: two detectors, no energy": Case(
        hdf5("a.h5", STAGE | {f"{NANOMAX}merlin/frames": COUNTS, f"{NANOMAX}zyla/frames": CUBE}), GIVEN
    ),
    "NanoMAX: entry0": Case(
        edited(hdf5("a.h5", STAGE | {f"{NANOMAX}pilatus/data": COUNTS}), renamed("entry", "entry0")), GIVEN
    ),
    "EMD: axes from 1": Case(
        hdf5("a.h5", {"4DSTEM/d/data": CUBE} | OLD_EMD, OLD_UNITS | {"@version_major": "0"}), places=EMD_PLACES
    ),
    "EMD: pixels": Case(
        hdf5("a.h5", {"q/data": CUBE} | AXES, dict.fromkeys(AXES, "pixels") | {"@emd_version": "1"}), STEP, STEPS
    ),
    "EMD: pixels, unasked": Case(
        hdf5("a.h5", {"q/data": CUBE} | AXES, dict.fromkeys(AXES, "pixels") | {"@emd_version": "1"}),
        refused="--scan-step",
    ),
    "MATLAB: (R, C, N, N)": Case(matlab5("a.mat", {"data": CUBE}), STEP, STEPS),
    "TIFF: a stack": Case(tiff(COUNTS), ON_RASTER, STEPS),
    "TIFF: a stack, unasked": Case(tiff(COUNTS), refused="--positions FILE"),
    "TIFF: a folder": Case(tiff(COUNTS, folder_of=True), ON_RASTER, STEPS),
    "CBF": Case(raw("a.cbf", b"###CBF: VERSION 1.5\r\n" + bytes(600)), refused="CBF image"),
    "EDF": Case(raw("a.edf", b"{\nHeaderID = EH:000001 ;\n}\n".ljust(2048)), refused="EDF image"),
    "gzip": Case(gz, refused="gunzip"),
    "HDF5: names of its own": Case(
        hdf5("a.h5", {"scan/camera": COUNTS, "scan/y": PLACES[:, 0]}), refused="--layout-template"
    ),
    "HDF5: patterns by their path, positions beside it": Case(
        hdf5("a.h5", {"scan/camera": WIDE, "bad": np.pad(BAD, ((0, 2), (3, 5)))}, **{"p.h5": {"yx": METRES}}),
        {"patterns_at": "scan/camera", "domain": "counts", "positions": "p.h5:yx", "position_unit": "m", **PLAIN}
        | {"centre_y": 5, "centre_x": 8, "frame_size": N, "mask_at": "bad", "mask_means": "bad"},
        masked=True,
    ),
    "HDF5: patterns by their path, a raster": Case(
        hdf5("a.h5", {"scan/camera": CUBE, "scan/other": CUBE}),
        {"patterns_at": "scan/camera", "domain": "counts", **STEP},
        STEPS,
    ),
    "HDF5: patterns by their path, no positions": Case(
        hdf5("a.h5", {"scan/camera": COUNTS}),
        {"patterns_at": "scan/camera", "domain": "counts"},
        refused="--positions FILE",
    ),
    "HDF5: two rasters": Case(hdf5("a.h5", {"a": CUBE, "b": CUBE}), refused="--layout-template"),
}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.refused])
def test_a_file_with_its_own_habits_gives_the_same_scan(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    scan = diptych.load(case.write(tmp_path), **case.options)
    np.testing.assert_allclose(scan.counts, COUNTS, rtol=1e-6)
    moved = scan.positions - (PLACES if case.places is None else case.places)
    np.testing.assert_allclose(moved - moved.mean(0), 0, atol=5e-3)
    assert case.masked == (scan.mask is not None)
    if case.masked:
        np.testing.assert_array_equal(scan.mask, GOOD)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refused])
def test_a_file_that_is_refused_says_what_to_do(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    with pytest.raises(InputError) as caught:
        diptych.load(case.write(tmp_path), **case.options)
    assert case.refused in str(caught.value)


def test_paths_of_another_entry_are_those_of_the_file(tmp_path: Path) -> None:
    path = edited(cxi({"distance": "parsec"}), renamed("entry_1", "entry_5"))(tmp_path)
    with pytest.raises(InputError, match="entry_5/instrument_1/detector_1/distance"):
        diptych.load(path)
    scan = diptych.load(edited(cxi(), two_scans)(tmp_path))
    said = " ".join(scan.metadata["conversions"])
    assert "of 2 entries with patterns entry_1 is read" in said
    assert "entry_2" in said
    second = diptych.load(tmp_path / "a.cxi", entry="entry_2")
    assert (second.counts == 1).all()
    assert "entry_2/data_1/data" in {row["from"] for row in second.metadata["load"]}


@pytest.mark.parametrize("spec", [":6,2,8", ":6,2"])
def test_columns_of_a_table_without_a_header_are_numbered(spec: str, tmp_path: Path) -> None:
    """As Velociprobe writes them: x, two readings of y, and the trigger, in nanometres."""
    path = hdf5("a_master.h5", MASTER | LINKS, **PARTS)(tmp_path)
    (tmp_path / "stage.csv").write_text(VELOCIPROBE)
    options = {"positions": f"{tmp_path / 'stage.csv'}{spec}", "position_unit": "nm"}
    np.testing.assert_allclose(diptych.load(path, **options).positions, PLACES, atol=5e-3)
    for wrong, why in (("", "no header"), (":2", "names 1 columns"), (":9,2", "no column '9'")):
        with pytest.raises(InputError, match=why):
            diptych.load(path, positions=f"{tmp_path / 'stage.csv'}{wrong}", position_unit="nm")


def test_columns_of_a_table_are_named(tmp_path: Path) -> None:
    path = hdf5("a.h5", {f"{EIGER}description": "x", "entry/data/data": COUNTS})(tmp_path)
    rows = "\n".join(f"{y * 1e6:.6f};{x * 1e6:.6f};{M - 1 - n}" for n, (y, x) in enumerate(METRES[::-1]))
    (tmp_path / "stage.csv").write_text(f"first_um;second_um;shot\n{rows}\n")
    scan = diptych.load(path, positions=f"{tmp_path / 'stage.csv'}:first_um,second_um,shot", **PLAIN)
    np.testing.assert_allclose(scan.positions, PLACES, atol=5e-3)


def test_what_has_to_be_given_is_no_damage(tmp_path: Path) -> None:
    path = tiff(COUNTS)(tmp_path)
    with pytest.raises(IncompleteError):
        diptych.load(path)
    about = describe_file(path)
    assert (about["kind"], about["problem"]) == ("incomplete", None)
    assert "--scan-columns" in about["needs"]
    assert describe_file(path, scan_step=2.0, scan_columns=4)["kind"] == "scan"
    lost = hdf5("b.h5", {"x/probe": np.ones((2, 32, 32), complex), "x/z": 1.0})(tmp_path)
    assert describe_file(lost)["kind"] == "probe"
    alone = hdf5("c.h5", {"mask": np.ones((32, 40), bool)})(tmp_path)
    assert describe_file(alone)["kind"] == "image"


def test_a_mask_of_padding_is_no_inverted_mask(tmp_path: Path) -> None:
    margin = np.ones((N + 12, N + 12), "u1")
    margin[6:-6, 6:-6] = 0
    scan = diptych.load(cxi(data=np.pad(COUNTS, ((0, 0), (6, 6), (6, 6))), mask=margin)(tmp_path))
    assert scan.mask is not None
    assert scan.mask.mean() < 0.25
