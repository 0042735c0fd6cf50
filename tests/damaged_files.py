"""A small file of every format that is read, and ways to damage it: for tests that no damage does any harm."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import diptych

N, M = 8, 9
PIXEL_M = 75e-6
rng = np.random.default_rng(11)
COUNTS = rng.poisson(20.0, (M, N, N)).astype(np.uint16)
POSITIONS = rng.uniform(6, 20, (M, 2))
METRES = POSITIONS * 2.3e-7
PROBE = rng.normal(size=(1, N, N)) + 1j * rng.normal(size=(1, N, N))
IMAGE = np.exp(1j * rng.uniform(0, 1, (32, 32))).astype(np.complex64)


def scan() -> diptych.Scan:
    geometry = diptych.Geometry(9e3, 1.0, (PIXEL_M, PIXEL_M))
    mask = np.ones((N, N), bool)
    mask[1, 2] = False
    return diptych.Scan(COUNTS, POSITIONS, PROBE.astype(np.complex64), mask=mask, geometry=geometry)


def result() -> diptych.Reconstruction:
    canvas = diptych.Canvas(IMAGE, (0, 0), (1e-8, 1e-8))
    return diptych.Reconstruction(canvas, PROBE.astype(np.complex64), POSITIONS, {"epoch": [1.0], "loss": [2.0]})


def hdf5(name: str, arrays: Mapping[str, Any], attributes: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
    """A function that writes these arrays to ``name`` in a folder."""

    def write(folder: Path) -> Path:
        with h5py.File(folder / name, "w") as file:
            for key, value in arrays.items():
                file[key] = value
            for key, pairs in (attributes or {}).items():
                target = file[key] if key else file
                for attribute, value in pairs.items():
                    target.attrs[attribute] = value
        return folder / name

    return write


def fold_slice(folder: Path) -> Path:
    hdf5("s_para.hdf5", {"ppY": METRES[:, 0], "ppX": METRES[:, 1], "dx": 1e-8, "lambda": 1.4e-10})(folder)
    return hdf5("s_dp.hdf5", {"dp": COUNTS})(folder)  # type: ignore[no-any-return]


def npz(name: str, arrays: Mapping[str, Any]) -> Any:
    def write(folder: Path) -> Path:
        np.savez(folder / name, **arrays)
        return folder / name

    return write


def npy(folder: Path) -> Path:
    np.save(folder / "raster.npy", COUNTS.reshape(3, 3, N, N))
    return folder / "raster.npy"


def tiff_frames(folder: Path) -> Path:
    import tifffile

    tifffile.imwrite(folder / "frames.tif", COUNTS, photometric="minisblack")
    return folder / "frames.tif"


def matlab(folder: Path) -> Path:
    from scipy.io import savemat

    parameters = {"dx_spec": [1e-8, 1e-8], "lambda": 1.4e-10, "positions": POSITIONS}
    savemat(folder / "shelves.mat", {"object": IMAGE, "probe": PROBE[0], "p": parameters})
    return folder / "shelves.mat"


def empad(folder: Path) -> Path:
    frames = rng.uniform(0, 9, (4, 130, 128)).astype("<f4")
    (folder / "scan_x2_y2.raw").write_bytes(frames.tobytes())
    view = "<optics.get_full_scan_field_of_view>[4e-9, 4e-9]</optics.get_full_scan_field_of_view>"
    sizes = "<scan_resolution_x>2</scan_resolution_x><scan_resolution_y>2</scan_resolution_y>"
    (folder / "a.xml").write_text(
        f'<root><pix_x>2</pix_x><pix_y>2</pix_y><raw_file filename="scan_x2_y2.raw"/>'
        f'<scan_parameters mode="acquire">{sizes}</scan_parameters><iom_measurements>{view}'
        "<source.get_voltage>300000</source.get_voltage>"
        "<calibrated_diffraction_angle>0.0004</calibrated_diffraction_angle></iom_measurements></root>"
    )
    return folder / "a.xml"


def mda(folder: Path) -> Path:
    def text(value: str) -> bytes:
        return struct.pack(">ii", len(value), len(value)) + value.encode() + b"\0" * (-len(value) % 4)

    none = struct.pack(">i", 0)
    content = struct.pack(">fiiiii", 1.4, 1, 1, M, 1, 0) + struct.pack(">iii", 1, M, M) + text("s") + text("t")
    content += struct.pack(">iii", 2, 0, 0)
    for name in "yx":
        content += struct.pack(">i", 0) + text(name) + none + none + text("um") + none + none + none
    (folder / "a.mda").write_bytes(content + POSITIONS.T.astype(">f8").tobytes())
    return folder / "a.mda"


def spec(folder: Path) -> Path:
    rows = "\n".join(f"{y} {x}" for y, x in POSITIONS)
    (folder / "a.spec").write_text(f"#F a\n\n#S 1 mesh\n#L samy  samx\n{rows}\n")
    return folder / "a.spec"


CXI = "entry_1/instrument_1"
EIGER = "entry/instrument/detector"
XYZ = np.stack([METRES[:, 1], METRES[:, 0], 0 * METRES[:, 0]], 1)
PTYR = {"data": IMAGE[None], "_psize": [1e-8, 1e-8], "_origin": [0.0, 0.0], "_energy": 9.0}
CUBE = {"a_root/datacube/data": COUNTS.reshape(3, 3, N, N)} | {
    f"a_root/datacube/dim{number}": np.array([0.0, 0.1]) for number in range(4)
}
CUBE_UNITS = {f"a_root/datacube/dim{number}": {"units": "nm" if number < 2 else "A^-1"} for number in range(4)}

SAMPLES: dict[str, Callable[[Path], Path]] = {
    "scan-npz": lambda folder: diptych.save(scan(), folder / "s.npz"),
    "result-npz": lambda folder: diptych.save(result(), folder / "r.npz"),
    "ptychodus": lambda folder: diptych.save(result(), folder / "r.h5"),
    "ptychodus-npz": lambda folder: diptych.save(result(), folder / "p.npz", "ptychodus-npz"),
    "ptychodus-cxi": lambda folder: diptych.save(result(), folder / "p.cxi"),
    "ptyrad": lambda folder: diptych.save(result(), folder / "rad.hdf5", "ptyrad"),
    "nexus": lambda folder: diptych.save(result(), folder / "r.nxs"),
    "tiff": lambda folder: diptych.save(result(), folder / "r.tif"),
    "cxi": lambda folder: diptych.save(scan(), folder / "s.cxi"),
    "nxptycho": lambda folder: diptych.save(scan(), folder / "nx.nxs"),
    "diamond": hdf5(
        "n.nxs",
        {"entry_1/data/data": COUNTS, "entry_1/data/y": METRES[:, 0], "entry_1/data/x": METRES[:, 1]}
        | {f"{CXI}/beam_1/energy": 9.0, f"{CXI}/detector_1/distance": 1000.0}
        | {f"{CXI}/detector_1/{axis}_pixel_size": 75.0 for axis in "yx"},
        {f"{CXI}/beam_1/energy": {"units": "keV"}, f"{CXI}/detector_1/distance": {"units": "mm"}}
        | {f"{CXI}/detector_1/{axis}_pixel_size": {"units": "um"} for axis in "yx"},
    ),
    "scan-hdf5": hdf5("s.h5", {"diff3d": COUNTS, "ycoords": POSITIONS[:, 0], "xcoords": POSITIONS[:, 1]}),
    "tike": npz("t.npz", {"data": COUNTS[None], "scan": POSITIONS[None] - 4, "probe": PROBE[None]}),
    "ptypy": hdf5(
        "s.ptyd",
        {"chunks/0/data": COUNTS, "chunks/0/positions": METRES, "chunks/0/weights": np.ones(COUNTS.shape, bool)}
        | {"info/energy": 9.0, "info/distance": 1.0, "info/psize": [PIXEL_M, PIXEL_M]},
    ),
    "fold-slice": fold_slice,
    "fold-slice-positions": hdf5("s_para.hdf5", {"ppY": METRES[:, 0], "ppX": METRES[:, 1], "dx": 1e-8}),
    "ptylab": hdf5(
        "p.hdf5", {"ptychogram": COUNTS, "encoder": METRES, "dxd": PIXEL_M, "zo": 1.0, "wavelength": 1.4e-10}
    ),
    "hxn": hdf5(
        "h.h5",
        {"diffamp": np.sqrt(COUNTS), "points": METRES.T * 1e6, "ccd_pixel_um": 75.0, "lambda_nm": 0.14, "z_m": 1.0},
    ),
    "raster": npy,
    "ptypy-result": hdf5(
        "r.ptyr",
        {f"content/obj/S/{key}": value for key, value in PTYR.items()}
        | {"content/probe/S/data": PROBE, "content/positions/S": METRES},
    ),
    "cdtools-result": hdf5(
        "c.h5", {"obj": IMAGE, "probe": PROBE, "translation": XYZ, "obj_basis": [[0, -1e-8], [-1e-8, 0], [0, 0]]}
    ),
    "ptychoshelves": matlab,
    "dectris": hdf5(
        "m.h5",
        {"entry/data/data_000001": COUNTS, f"{EIGER}/detectorSpecific/pixel_mask": np.zeros((N, N), np.uint32)}
        | {f"{EIGER}/detectorSpecific/photon_energy": 9e3, f"{EIGER}/distance": 1.0, f"{EIGER}/description": "Eiger"}
        | {f"{EIGER}/{axis}_pixel_size": PIXEL_M for axis in "yx"}
        | {f"{EIGER}/beam_center_{axis}": 4.0 for axis in "yx"}
        | {f"entry/sample/transformations/sam_{axis}": METRES[:, 0] for axis in "yx"},
    ),
    "nanomax": hdf5(
        "n.h5",
        {"entry/measurement/eiger/frames": COUNTS, "entry/snapshots/pre_scan/energy": [9e3]}
        | {f"entry/measurement/pseudo/{axis}": METRES[:, 0] * 1e6 for axis in "yx"},
    ),
    "frames": hdf5("f.h5", {"exchange/data": COUNTS}),
    "tiff-frames": tiff_frames,
    "emd": hdf5(
        "e.h5", CUBE, {"": {"authoring_program": "emdfile"}, "a_root": {"emd_group_type": "root"}} | CUBE_UNITS
    ),
    "empad": empad,
    "mda": mda,
    "spec": spec,
    "panda": hdf5("panda.h5", {"INENC1.VAL.Mean": METRES[:, 0], "PCAP.TS_TRIG.Value": METRES[:, 1]}),
    "nxstxm": hdf5(
        "x.nxs",
        {"entry1/definition": "NXstxm", "entry1/c/sample_y": METRES[:, 0], "entry1/c/sample_x": METRES[:, 1]},
        {"entry1": {"NX_class": "NXentry"}},
    ),
}
"""Name of a format to a function that writes a file of it into a folder."""

STEP = {"raster": {"scan_step": 2.0}, "dectris": {}, "frames": {"scan_step": 2.0, "scan_columns": 3}}
STEP["tiff-frames"] = STEP["frames"]
STEP["nanomax"] = {"distance_m": 1.0, "detector_pixel_m": 75e-6}
STEP["emd"], STEP["scan-hdf5"] = {"energy_eV": 3e5}, {"domain": "counts"}
"""Options with which the sound file loads."""

ODD: tuple[Any, ...] = (
    np.asarray("text"),
    np.asarray(np.nan),
    np.asarray(-1e300),
    np.zeros((0, 3)),
    np.ones((2, 2, 2, 2, 2)),
    np.full(M, 1j),
    np.full((M, N, N), np.inf),
    np.full((M, N, N), -1, np.int32),
    np.ones((N, N, M + 1), np.float16),
    np.asarray(True),
    np.zeros(M, [("a", "f4")]),
    np.asarray(2**63 - 1),
)
UNITS: tuple[Any, ...] = ("parsec", "", b"\xff\xfe", 7, np.arange(3), "m" * 5000, "GeV")


def damage(path: Path, random: np.random.Generator) -> str:
    """Damage the file in one random way, and say how."""
    if path.suffix == ".npz" and random.random() < 0.5:
        return _damage_npz(path, random)
    if h5py.is_hdf5(path) and random.random() < 0.75:
        return _damage_tree(path, random)
    return _damage_bytes(path, random)


def _damage_bytes(path: Path, random: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    place = int(random.integers(1, len(content)))
    how = str(random.choice(["cut", "flip", "zero", "ones", "double"]))
    if how == "cut":
        del content[place:]
    elif how == "flip":
        for _ in range(int(random.integers(1, 9))):
            content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    elif how == "double":
        content[place:place] = content[: int(random.integers(1, 4096))]
    else:
        size = min(int(random.integers(1, 64)), len(content) - place)
        content[place : place + size] = bytes([0 if how == "zero" else 255]) * size
    path.write_bytes(bytes(content))
    return f"{how} at byte {place}"


def _damage_npz(path: Path, random: np.random.Generator) -> str:
    arrays = dict(np.load(path))
    key = str(random.choice(sorted(arrays)))
    if random.random() < 0.2:
        del arrays[key]
        what: Any = "nothing"
    else:
        what = ODD[int(random.integers(len(ODD)))]
        arrays[key] = what
    np.savez(path, **arrays)
    return f"{key} = {what!r}"[:200]


def _damage_tree(path: Path, random: np.random.Generator) -> str:
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        key = str(random.choice(names))
        how = str(random.choice(["odd", "huge", "delete", "self", "nowhere", "outside", "parent", "virtual", "units"]))
        if how == "units":
            file[key].attrs["units"] = UNITS[int(random.integers(len(UNITS)))]
            return f"units of {key}"
        folder = key.rpartition("/")[0] or "/"
        del file[key]
        if how == "odd":
            value = ODD[int(random.integers(len(ODD)))]
            # h5py stores text as str, not as an array of it.
            file[key] = str(value) if value.dtype.kind == "U" else value
        elif how == "huge":
            shape = [(4_000_000, 512, 512), (2**40,), (65536, 65536)][int(random.integers(3))]
            file.create_dataset(key, shape, "u2", chunks=tuple(min(side, 64) for side in shape))
        elif how == "self":
            file[key] = h5py.SoftLink(f"/{key}")
        elif how == "nowhere":
            file[key] = h5py.SoftLink("/no/where")
        elif how == "outside":
            file[key] = h5py.ExternalLink("/etc/passwd", "/entry/data")
        elif how == "parent":
            file[key] = file[folder]
        elif how == "virtual":
            layout = h5py.VirtualLayout((M, N, N), "u2")
            layout[:] = h5py.VirtualSource(".", key, (M, N, N))
            file.create_virtual_dataset(key, layout)
    return f"{how} at {key}"
