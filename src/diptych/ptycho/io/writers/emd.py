"""Writing scans on a raster as EMD 1.0 (HDF5), the data cube of py4DSTEM and emdfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.files import writing
from diptych.ptycho.io.writers.lengths import pixel_m
from diptych.ptycho.scan import Scan

_NM, _PER_ANGSTROM = 1e9, 1e-10
_OFF_RASTER_PX = 1e-3


def raster_of(positions: NDArray[np.float64]) -> tuple[int, int] | None:
    """Rows and columns of positions (M, 2) on a raster, x fastest; None where they are on none."""
    count = len(positions)
    rows = np.flatnonzero(np.abs(np.diff(positions[:, 0])) > _OFF_RASTER_PX)
    columns = int(rows[0]) + 1 if len(rows) else count
    if count % columns:
        return None
    y, x = positions.reshape(count // columns, columns, 2).transpose(2, 0, 1)
    ideal = [np.linspace(line[0], line[-1], len(line)) for line in (y[:, 0], x[0])]
    off = max(float(np.abs(y - ideal[0][:, None]).max()), float(np.abs(x - ideal[1]).max()))
    return (count // columns, columns) if off < _OFF_RASTER_PX else None


def write_emd(scan: Scan, path: Path) -> None:
    """Write ``scan`` as a data cube (Rx, Ry, Qx, Qy); ``x`` of these programs is the first axis, rows.

    The scan axes are in nm, those of the patterns in 1/angstrom with zero in the middle. Mask, probe, background and
    energy have no place and are left out.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the positions are on no raster, or the object pixel is not known.
    """
    import h5py

    pixel = pixel_m(scan, path, "EMD")
    shape = raster_of(scan.positions)
    if shape is None or 1 in shape:
        raise InputError(
            path,
            f"the {len(scan)} positions of {scan.name} are on no raster of rows and columns, which EMD needs",
            "a raster, x fastest",
            "Write another format: .cxi, .ptyd or .nxs.",
        )
    size, half = scan.size, scan.size // 2
    grid = scan.positions.reshape(*shape, 2)
    first = grid[0, 0] * pixel * _NM
    last = grid[-1, -1] * pixel * _NM
    reciprocal = [_PER_ANGSTROM / (size * side) for side in pixel]
    axes: list[tuple[str, str, Any]] = [
        ("Rx", "nm", [first[0], first[0] + (last[0] - first[0]) / (shape[0] - 1)]),
        ("Ry", "nm", [first[1], first[1] + (last[1] - first[1]) / (shape[1] - 1)]),
        *((name, "A^-1", [-half * q, (1 - half) * q]) for name, q in zip(("Qx", "Qy"), reciprocal, strict=True)),
    ]
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(emd_group_type="file", version_major=1, version_minor=0)
        file.attrs.update(authoring_program="diptych", authoring_user="", UUID="")
        root = file.create_group("datacube_root")
        root.attrs.update(emd_group_type="root", python_class="Root")
        cube = root.create_group("datacube")
        cube.attrs.update(emd_group_type="array", python_class="DataCube")
        cube["data"] = scan.counts.reshape(*shape, size, size)
        cube["data"].attrs["units"] = "counts"
        for number, (name, unit, values) in enumerate(axes):
            cube[f"dim{number}"] = np.asarray(values, np.float64)
            cube[f"dim{number}"].attrs.update(name=name, units=unit)
        bundle = root.create_group("metadatabundle")
        bundle.attrs["emd_group_type"] = "metadatabundle"
        calibration = bundle.create_group("calibration")
        calibration.attrs.update(emd_group_type="metadata", python_class="Calibration")
        numbers = {"Q_pixel_size": reciprocal[0], "R_pixel_size": (last[0] - first[0]) / (shape[0] - 1)}
        texts = {"Q_pixel_units": "A^-1", "R_pixel_units": "nm", "_root_treepath": ""}
        for stored, kind in ((numbers, "number"), (texts, "string")):
            for key, value in stored.items():
                calibration[key] = value
                calibration[key].attrs["type"] = kind
        calibration["QR_flip"] = False
        calibration["QR_flip"].attrs["type"] = "bool"
        targets = calibration.create_group("_target_paths")
        targets.attrs.update(type="list_of_strings", length=1)
        targets["0"] = "/datacube"
