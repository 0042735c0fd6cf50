"""Files of the formats by other versions and programs: they load to the same scan, or say what is missing."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C
from related_files import (
    AXES,
    BAD,
    BEAM,
    COUNTS,
    CUBE,
    DETECTOR,
    EMD,
    EMD_PLACES,
    FFT,
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
    RASTER,
    STEP,
    STEPS,
    WAVELENGTH,
    XYZ,
    Case,
    M,
    N,
    cxi,
    hdf5,
    matlab5,
    matlab73,
    npy,
    ptyd,
    rng,
    virtual,
)

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
