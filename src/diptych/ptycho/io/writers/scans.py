"""Writing scans as a pair of files of fold_slice, and as NeXus by NXcxi_ptycho."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.files import writing
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C
from diptych.ptycho.io.writers.lengths import pixel_m, square
from diptych.ptycho.scan import Geometry, Scan

PATTERNS, PARAMETERS = "_dp", "_para"
CXI_VERSION = 160


def parameters_beside(path: Path) -> Path:
    """The name of the file with the positions, of a file of patterns ``<name>_dp.hdf5``.

    Raises
    ------
    InputError
        If the name has no ``_dp``.
    """
    stem, found, rest = path.stem.rpartition(PATTERNS)
    if not (found and stem):
        raise InputError(path, "is no name for the patterns of fold_slice", "a name such as scan_dp.hdf5")
    return path.with_name(f"{stem}{PARAMETERS}{rest}{path.suffix}")


def write_fold_slice(scan: Scan, path: Path) -> None:
    """Write ``scan`` as fold_slice prepares it: ``<name>_dp.hdf5`` with the patterns, ``<name>_para.hdf5`` beside it.

    Mask, probe and background have no place and are left out.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the geometry is not complete, the object pixel not square, or the name has no
        ``_dp``.
    """
    import h5py

    other = parameters_beside(path)
    side = square(pixel_m(scan, path, "a scan of fold_slice"), path, "fold_slice")
    geometry = scan.geometry or Geometry()
    with writing(other) as temporary, h5py.File(temporary, "w") as file:
        file["ppY"], file["ppX"] = scan.positions[:, 0] * side, scan.positions[:, 1] * side
        file["dx"], file["angle"], file["lambda"] = side, 0.0, geometry.wavelength_m or 0.0
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file["dp"] = scan.counts


def write_nxptycho(scan: Scan, path: Path) -> None:
    """Write ``scan`` as NeXus by NXcxi_ptycho, which CXI readers open too.

    What the definition asks for and a scan does not know (name and type of the source, extent of the beam) says so:
    "unknown", or NaN. Background and truth have no place and are left out.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the geometry is not complete.
    """
    import h5py

    pixel, geometry = pixel_m(scan, path, "NXcxi_ptycho"), scan.geometry or Geometry()
    places = scan.positions * pixel
    translation = np.stack([places[:, 1], places[:, 0], np.zeros(len(places))], axis=1)
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry_1"
        file["cxi_version"], file["number_of_entries"] = CXI_VERSION, 1
        entry = _group(file, "entry_1", "NXentry")
        entry.attrs["default"] = "data_1"
        entry["definition"], entry["title"] = "NXcxi_ptycho", scan.name
        entry["start_time"] = datetime.now(UTC).isoformat(timespec="seconds")
        instrument = _group(entry, "instrument_1", "NXinstrument")
        source = _group(instrument, "source_1", "NXsource")
        source["name"], source["type"] = "unknown", "unknown"
        source["probe"] = "electron" if geometry.particle == "electron" else "x-ray"
        if scan.probe is not None:
            source["illumination"] = scan.probe
        beam = _group(instrument, "beam_1", "NXbeam")
        if geometry.energy_eV is not None:
            _number(beam, "energy", geometry.energy_eV * ELEMENTARY_CHARGE_C, "J")
        _number(beam, "extent", np.full(2, np.nan), "m")
        _detector(_group(instrument, "detector_1", "NXdetector"), scan, geometry, translation)
        sample = _group(entry, "sample_1", "NXsample")
        moves = _group(sample, "transformations", "NXtransformations")
        for axis, values, vector in (("x", places[:, 1], (1, 0, 0)), ("y", places[:, 0], (0, 1, 0))):
            _number(moves, axis, values, "m")
            moves[axis].attrs["vector"], moves[axis].attrs["transformation_type"] = vector, "translation"
        _group(sample, "geometry_1", "NXcollection")["translation"] = h5py.SoftLink(
            "/entry_1/instrument_1/detector_1/translation"
        )
        data = _group(entry, "data_1", "NXdata")
        data.attrs["signal"] = "data"
        for name in ("data", "translation"):
            data[name] = h5py.SoftLink(f"/entry_1/instrument_1/detector_1/{name}")
        for axis in "xy":
            data[axis] = h5py.SoftLink(f"/entry_1/sample_1/transformations/{axis}")
            data.attrs[f"{axis}_indices"] = 0


def _detector(detector: Any, scan: Scan, geometry: Geometry, translation: Any) -> None:
    """Patterns, translation, mask (0 where a pixel is valid) and geometry, each with its unit."""
    detector["data"] = scan.counts
    _number(detector, "translation", translation, "m")
    detector["translation"].attrs["axes"] = "translation:x:y:z"
    if scan.mask is not None:
        detector["mask"] = (~scan.mask).astype(np.uint32)
    if geometry.distance_m is not None:
        _number(detector, "distance", geometry.distance_m, "m")
    if geometry.detector_pixel_m is not None:
        for axis, side in zip("yx", geometry.detector_pixel_m, strict=True):
            _number(detector, f"{axis}_pixel_size", side, "m")
            _number(detector, f"beam_center_{axis}", (scan.size // 2) * side, "m")
    detector.attrs["propagation"] = geometry.propagation
    if geometry.focus_distance_m is not None:
        detector.attrs["focus_distance_m"] = geometry.focus_distance_m
    moves = _group(detector, "transformations", "NXtransformations")
    moves["vector"] = np.array([0, 0, 1])


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _number(group: Any, name: str, value: Any, unit: str) -> None:
    group[name] = value
    group[name].attrs["units"] = unit
