"""Files of the formats by other versions and programs: they load to the same scan, or say what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C

N, M = 10, 12
rng = np.random.default_rng(1)
COUNTS = rng.poisson(12, (M, N, N)).astype("u2")
GEOMETRY = diptych.Geometry(9e3, 1.2, (75e-6, 75e-6))
PIXEL = GEOMETRY.object_pixel_m(N)[0]
WAVELENGTH = GEOMETRY.wavelength_m
PLACES = rng.uniform(0, 30, (M, 2))
METRES = PLACES * PIXEL
XYZ = np.stack([METRES[:, 1], METRES[:, 0], 0 * METRES[:, 0]], 1)
RASTER = np.stack(np.mgrid[:3, :4], -1).reshape(-1, 2) * [3.0, 2.5]
STEPS = np.stack(np.mgrid[:3, :4], -1).reshape(-1, 2) * 2.0
CUBE = COUNTS.reshape(3, 4, N, N)
BAD = np.zeros((N, N), "u4")
BAD[2, 3] = 1
DETECTOR, SOURCE, BEAM = (f"entry_1/instrument_1/{name}/" for name in ("detector_1", "source_1", "beam_1"))
EIGER, NANOMAX = "entry/instrument/detector/", "entry/measurement/"
GIVEN = {"energy_eV": 9e3, "distance_m": 1.2, "detector_pixel_m": 75e-6}
STEP = {"scan_step": 2.0}

Write = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """A file, the options it needs, and what it must give; ``refused``: part of the message where it must not load."""

    write: Write
    options: Mapping[str, Any] = field(default_factory=dict)
    places: Any = None
    masked: bool = False
    refused: str = ""


def hdf5(name: str, arrays: Mapping[str, Any], units: Mapping[str, str] | None = None, **beside: Any) -> Write:
    """Writes ``arrays`` (None: left out) with ``units``, and the HDF5 files ``beside`` it, by their bare names."""

    def write(folder: Path) -> Path:
        for other, content in {**beside, name: arrays}.items():
            with h5py.File(folder / (other if "." in other else f"{other}.h5"), "w") as file:
                for key, value in content.items():
                    if value is not None:
                        file[key] = value
        with h5py.File(folder / name, "a") as file:
            for key, text in (units or {}).items():
                path, _, attribute = key.partition("@")
                (file[path] if path else file).attrs[attribute or "units"] = text
        return folder / name

    return write


def cxi(units: Mapping[str, str] | None = None, **changes: Any) -> Write:
    named = {"data": "entry_1/data_1/data", "translation": "entry_1/data_1/translation", "energy": f"{SOURCE}energy"}
    named |= {"wavelength": f"{SOURCE}wavelength", "distance": f"{DETECTOR}distance", "mask": f"{DETECTOR}mask"}
    named |= {"x": f"{DETECTOR}x_pixel_size", "y": f"{DETECTOR}y_pixel_size", "side": f"{DETECTOR}pixel_size"}
    named |= {"basis": f"{DETECTOR}basis_vectors", "incident": f"{BEAM}incident_wavelength"}
    usual = {"data": COUNTS, "translation": XYZ, "energy": 9e3 * ELEMENTARY_CHARGE_C, "distance": 1.2}
    usual |= {"x": 75e-6, "y": 75e-6}
    values = {named[key]: value for key, value in (usual | changes).items()}
    return hdf5("a.cxi", values, {named[key]: text for key, text in (units or {}).items()})


def ptyd(**changes: Any) -> Write:
    usual: dict[str, Any] = {"chunks/0/data": COUNTS[:7], "chunks/0/positions": METRES[:7]}
    usual |= {"chunks/1/data": COUNTS[7:], "chunks/1/positions": METRES[7:]}
    usual |= {"meta/energy": 9.0, "meta/distance": 1.2, "meta/psize": 75e-6, "info/version": 0.1}
    return hdf5("a.ptyd", usual | {key.replace("__", "/"): value for key, value in changes.items()})


def matlab5(name: str, arrays: Mapping[str, Any], beside: Mapping[str, Mapping[str, Any]] | None = None) -> Write:
    def write(folder: Path) -> Path:
        from scipy.io import savemat

        for other, content in {**(beside or {}), name: arrays}.items():
            savemat(folder / other, dict(content))
        return folder / name

    return write


def matlab73(folder: Path) -> Path:
    """A pair of fold_slice as MATLAB v7.3: HDF5 shows every array with its axes reversed."""
    columns = {"ppX": METRES[:, 1][None], "ppY": METRES[:, 0][None], "dx": [[PIXEL]], "lambda": [[WAVELENGTH]]}
    for name, arrays in (("a_dp.mat", {"dp": COUNTS.transpose(0, 2, 1)}), ("a_para.mat", columns)):
        with h5py.File(folder / name, "w", userblock_size=512) as file:
            for key, value in arrays.items():
                file[key] = value
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
        with (folder / name).open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file".ljust(512))
    return folder / "a_dp.mat"


def npy(array: Any) -> Write:
    def write(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return write


def virtual(source: str, there: bool) -> Write:
    def write(folder: Path) -> Path:
        path = cxi(data=None)(folder)
        if there:
            hdf5(source, {"d": COUNTS})(folder)
        with h5py.File(path, "a") as file:
            layout = h5py.VirtualLayout((M, N, N), "u2")
            layout[:] = h5py.VirtualSource(source, "d", (M, N, N))
            file.create_virtual_dataset("entry_1/data_1/data", layout)
        return path

    return write


FOLD = {"ppX": METRES[:, 1][:, None], "ppY": METRES[:, 0][:, None], "dx": [[PIXEL]], "lambda": [[WAVELENGTH]]}
PTYLAB = {"ptychogram": COUNTS, "encoder": METRES, "dxd": 75e-6, "zo": 1.2, "wavelength": WAVELENGTH}
HXN = {"diffamp": np.sqrt(COUNTS), "points": METRES.T[::-1] * 1e6, "ccd_pixel_um": 75.0, "z_m": 1.2}
HXN["lambda_nm"] = WAVELENGTH * 1e9
MASTER = {f"{EIGER}description": "Dectris Eiger", f"{EIGER}detectorSpecific/photon_energy": 9e3}
MASTER |= {f"{EIGER}detector_distance": 1.2, f"{EIGER}x_pixel_size": 75e-6, f"{EIGER}y_pixel_size": 75e-6}
MASTER |= {f"{EIGER}beam_center_x": 6.0, f"{EIGER}beam_center_y": 6.0, f"{EIGER}detectorSpecific/pixel_mask": BAD}
LINKS = {f"entry/data/data_00000{n}": h5py.ExternalLink(f"part{n}.h5", "entry/data/data") for n in (1, 2)}
PARTS = {"part1": {"entry/data/data": COUNTS[:5]}, "part2": {"entry/data/data": COUNTS[5:]}}
AXES = {"q/dim0": [0, 0.5], "q/dim1": [0, 0.5], "q/dim2": [0, 0.1], "q/dim3": [0, 0.1]}
FFT = {f"q/dim{number}": np.fft.fftfreq(N, 1 / (N * 0.1)) for number in (2, 3)}
EMD = {"q/dim0": "nm", "q/dim1": "nm", "q/dim2": "A^-1", "q/dim3": "A^-1", "@authoring_program": "py4DSTEM"}
EMD_PLACES = STEPS / 2 * 0.5 * N

CASES: dict[str, Case] = {
    "CXI of SHARP: float counts, mask": Case(cxi(data=COUNTS.astype("f4"), mask=BAD), masked=True),
    "CXI energy in eV, without unit": Case(cxi(energy=9e3)),
    "CXI energy in kev": Case(cxi({"energy": "kev"}, energy=np.array([9.0]))),
    "CXI energy of each frame": Case(cxi(energy=np.full(M, 9e3 * ELEMENTARY_CHARGE_C))),
    "CXI energy that changes": Case(cxi(energy=np.linspace(1, 2, M) * 1e-15), refused="values from 1e-15 to 2e-15"),
    "CXI wavelength": Case(cxi(energy=None, wavelength=WAVELENGTH)),
    "CXI wavelength in angstrom": Case(cxi({"incident": "angstrom"}, energy=None, incident=WAVELENGTH * 1e10)),
    "CXI wavelength without unit": Case(cxi(energy=None, incident=WAVELENGTH * 1e10)),
    "CXI microns": Case(cxi({"translation": "microns"}, translation=XYZ * 1e6)),
    "CXI distance in mm": Case(cxi({"distance": "mm"}, distance=np.array([1200.0]))),
    "CXI translation (3, M)": Case(cxi(translation=XYZ.T.copy())),
    "CXI one pixel size": Case(cxi(x=None, y=None, side=75e-6)),
    "CXI basis (2, 3) of each frame": Case(
        cxi(basis=np.broadcast_to([[0, -75e-6, 0], [-75e-6, 0, 0]], (M, 2, 3)).copy())
    ),
    "CXI virtual": Case(virtual("raw.h5", there=True)),
    "CXI virtual, source missing": Case(virtual("gone.h5", there=False), refused="gone.h5, which is missing"),
    "CXI without pixel": Case(cxi(x=None, y=None), refused="--detector-pixel-m"),
    "Diamond raster, axes in mm": Case(
        hdf5(
            "a.nxs",
            {"entry_1/data/data": CUBE, "entry_1/data/y": RASTER[::4, 0] * PIXEL * 1e3, f"{BEAM}energy": 9.0}
            | {"entry_1/data/x": RASTER[:4, 1] * PIXEL * 1e3, f"{DETECTOR}distance": 1.2}
            | {f"{DETECTOR}x_pixel_size": 75e-6, f"{DETECTOR}y_pixel_size": 75e-6},
            {"entry_1/data/y": "mm", "entry_1/data/x": "mm", f"{BEAM}energy": "keV"},
        ),
        places=RASTER,
    ),
    "ptyd without info": Case(ptyd(info__version=None)),
    "ptyd early: common/weight2d": Case(
        ptyd(
            **dict.fromkeys(("meta__energy", "meta__distance", "meta__psize")),
            **{
                "common/weight2d": 1.0 * (BAD == 0),
                "common/energy": 9.0,
                "common/distance": 1.2,
                "common/psize": 75e-6,
            },
        ),
        masked=True,
    ),
    "ptyd links, one missing": Case(
        ptyd(**{"chunks/2": h5py.ExternalLink("gone.ptyd", "chunks/2")}), refused="gone.ptyd, which is missing"
    ),
    "fold_slice without dx": Case(
        hdf5("a_dp.hdf5", {"dp": COUNTS}, **{"a_para.hdf5": {"ppX": METRES[:, 1], "ppY": METRES[:, 0]}}), GIVEN
    ),
    "fold_slice without dx, unasked": Case(
        hdf5("a_dp.hdf5", {"dp": COUNTS}, **{"a_para.hdf5": {"ppX": METRES[:, 1], "ppY": METRES[:, 0]}}),
        refused="--detector-pixel-m",
    ),
    "fold_slice, MATLAB v5": Case(
        matlab5("a_dp.mat", {"dp": COUNTS.transpose(1, 2, 0)}, {"a_para.mat": FOLD | {"dx": PIXEL}})
    ),
    "fold_slice, MATLAB v7.3": Case(matlab73),
    "PtyLab values (1, 1)": Case(
        hdf5(
            "a.hdf5", {key: np.reshape(value, (1, 1)) if np.isscalar(value) else value for key, value in PTYLAB.items()}
        )
    ),
    "HXN points (M, 2)": Case(hdf5("a.h5", HXN | {"points": HXN["points"].T.copy(), "z_m": [1.2]})),
    "HXN export": Case(
        hdf5(
            "a.h5",
            {"diff_data/merlin1/det_images": COUNTS, "scan/energy": 9.0, "scan/scan_positions": HXN["points"]},
        ),
        {"distance_m": 1.2, "detector_pixel_m": 75e-6},
    ),
    "array of four axes, patterns first": Case(npy(CUBE.transpose(2, 3, 0, 1)), STEP, STEPS),
    "array of three axes": Case(npy(COUNTS), {**STEP, "scan_columns": 4}, STEPS),
    "array of four axes called dp": Case(hdf5("a.h5", {"dp": CUBE}), STEP, STEPS),
    "py4DSTEM: axes from 0": Case(hdf5("a.h5", {"q/data": CUBE} | AXES, EMD), places=EMD_PLACES),
    "EMD in the order of an FFT": Case(
        hdf5("a.h5", {"q/data": np.fft.ifftshift(COUNTS, (1, 2)).reshape(CUBE.shape)} | AXES | FFT, EMD),
        places=EMD_PLACES,
    ),
    "Eiger with two files": Case(
        hdf5("a_master.h5", MASTER | LINKS, **PARTS), {**STEP, "scan_columns": 4}, STEPS, masked=True
    ),
    "Eiger, one file missing": Case(
        hdf5("a_master.h5", MASTER | LINKS, part1=PARTS["part1"]), STEP, refused="part2.h5, which is missing"
    ),
    "NanoMAX, early": Case(
        hdf5(
            "a.h5",
            {f"{NANOMAX}Eiger/data": COUNTS, f"{NANOMAX}npoint_buff/x": METRES[:, 1] * 1e6}
            | {f"{NANOMAX}npoint_buff/y": METRES[:, 0] * 1e6},
        ),
        GIVEN,
    ),
}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.refused])
def test_a_relative_gives_the_same_scan(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    scan = diptych.load(case.write(tmp_path), **case.options)
    np.testing.assert_allclose(scan.counts, COUNTS, rtol=1e-6)
    moved = scan.positions - (PLACES if case.places is None else case.places)
    np.testing.assert_allclose(moved - moved.mean(0), 0, atol=5e-3)
    assert case.masked == (scan.mask is not None)
    if case.masked:
        np.testing.assert_array_equal(scan.mask, BAD == 0)
    parts = [row["part"] for row in scan.metadata["load"]]
    assert parts[:6] == ["format", "patterns", "axis order", "centring", "orientation", "positions"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refused])
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    with pytest.raises(InputError) as caught:
        diptych.load(case.write(tmp_path), **case.options)
    assert case.refused in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "frame;y_um;x_um\n"
        + "\n".join(f"{n};{y:.6f};{x:.6f}".replace(".", ",") for n, (y, x) in enumerate(METRES * 1e6)),
        "frame,note,x_um,y_um\n" + "\n".join(f"{n},good,{x:.6f},{y:.6f}" for n, (y, x) in enumerate(METRES * 1e6)),
        "PosX [mm]\tPosY [mm]\n" + "\n".join(f"{x:.9f}\t{y:.9f}" for y, x in METRES * 1e3),
    ],
    ids=["decimal comma", "a column of text", "tabs"],
)
def test_tables_of_positions(text: str, tmp_path: Path) -> None:
    path = hdf5("a.h5", {"entry/data/data": COUNTS})(tmp_path)
    (tmp_path / "places.csv").write_text(text)
    scan = diptych.load(path, positions=str(tmp_path / "places.csv"), **GIVEN)
    np.testing.assert_allclose(scan.positions, PLACES, atol=5e-3)


def test_results_of_other_versions(tmp_path: Path) -> None:
    image = np.exp(1j * rng.uniform(0, 1, (50, 60))).astype(np.complex64)
    probe = (rng.normal(size=(2, N, N)) + 0j).astype(np.complex64)
    places = rng.uniform(10, 40, (M, 2))
    corners = (places - N // 2) * PIXEL
    steps = np.array([[0, -PIXEL], [-PIXEL, 0], [0, 0]])
    cdtools = {"obj": image, "probe": probe, "obj_basis": steps, "wavelength": WAVELENGTH}
    moves = np.stack([-corners[:, 1], -corners[:, 0], 0 * corners[:, 0]], 1)
    storage = {"content/obj/S/data": image[None], "content/obj/S/_psize": PIXEL, "content/probe/S/data": probe}
    product = {"object": image, "probe": probe, "costs": [2.0, 1.0]}
    product |= {f"probe_position_{axis}_m": places[:, column] * PIXEL for column, axis in enumerate("yx")}
    pixel = {"object@pixel_height_m": PIXEL, "object@pixel_width_m": PIXEL}
    writes = {
        "cdtools 0.3": hdf5("a.h5", cdtools | {"translations": moves, "state_dict/min_translation": [0.0, 0.0]}),
        "cdtools 0.2": hdf5("a.h5", cdtools | {"translation": moves, "min_translation": [0.0, 0.0]}),
        "PtyPy, early": hdf5(
            "a.ptyr", storage | {"content/obj/S/_center": [0.0, 0.0], "content/positions/x": places * PIXEL}
        ),
        "Ptychodus, early": hdf5("a.h5", product, pixel),
    }
    for name, write in writes.items():
        result = diptych.load(write(tmp_path))
        np.testing.assert_array_equal(result.object.values, image, err_msg=name)
        np.testing.assert_allclose(result.positions - result.object.origin, places, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(result.object.pixel_m, PIXEL, err_msg=name)
