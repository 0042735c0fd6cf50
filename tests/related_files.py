"""Small files of the formats as other versions and programs write them, all of one scan: for tests of the readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import diptych
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
