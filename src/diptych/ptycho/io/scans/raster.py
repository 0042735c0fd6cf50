"""Patterns of a raster as one array (Ry, Rx, N, N), as NPY, NPZ or HDF5: 4D-STEM, Ptycho.jl, arrays of users.

The array does not state where patterns were taken. Rows and columns of the raster are ``scan_step`` apart, x fastest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import window_of
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions


def raster_key(source: TreeSource) -> str | None:
    """Key of the one array (Ry, Rx, H, W), or (N, N, Ry, Rx), at the top of a file; None where there is none, or there
    are several.
    """
    found = [
        key
        for key in source.names()
        if (header := source.header(key)) is not None
        and len(header.shape) == 4
        and min(header.shape[2:]) > 1
        and header.dtype.kind in "buif"
    ]
    return found[0] if len(found) == 1 else None


def raster_positions(
    options: LoadOptions, shape: tuple[int, int], where: str, key: str, said: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates y and x (rows * columns,) of a raster, ``scan_step`` apart in ``position_unit``, x fastest.

    Raises
    ------
    InputError
        If neither the step nor positions in another file are given.
    """
    rows, columns = shape
    if options.positions is not None:
        lost = unplaced(rows * columns)
        return lost, lost
    if options.scan_step is None:
        raise IncompleteError(
            where,
            f"holds a raster of {rows} x {columns} patterns ({key}) and no positions",
            "the step between them, or positions in another file",
            "Pass scan_step=... in object pixels (--scan-step) or in --position-unit, or --positions FILE.",
        )
    y, x = (line.ravel() * options.scan_step for line in np.indices((rows, columns), dtype=np.float64))
    said.append(f"positions: a raster with a step of {options.scan_step:g} {options.position_unit}, x fastest")
    return y, x


def sequence_positions(
    options: LoadOptions,
    count: int,
    where: str,
    key: str,
    said: list[str],
    raster: tuple[int, int] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (count,) of patterns in one sequence that states no positions: a raster of ``scan_columns``, or of
    the rows and columns in which the file holds them.

    Raises
    ------
    InputError
        If neither the raster nor positions in another file are given, or the rows are not complete.
    """
    if options.positions is not None:
        return (lost := unplaced(count)), lost
    if raster is not None and options.scan_columns is None:
        return raster_positions(options, raster, where, key, said)
    if options.scan_columns is None or options.scan_step is None:
        raise IncompleteError(
            where,
            f"holds {count} {'frames' if count > 1 else 'frame'} ({key}) and no scan positions",
            "positions in another file, or the raster they were taken on",
            "Pass --positions FILE, or --scan-columns COLUMNS with --scan-step STEP (and --position-unit).",
        )
    if count % options.scan_columns:
        raise InputError(
            where, f"holds {count} frames ({key})", f"a multiple of {options.scan_columns}, as scan_columns states"
        )
    return raster_positions(options, (count // options.scan_columns, options.scan_columns), where, key, said)


def read_raster(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in an array of four axes, as stored.

    Raises
    ------
    InputError
        If neither the step nor positions in another file are given.
    """
    key = raster_key(source)
    if key is None:
        return _sequence(source, options, name)
    values = real_from(source, key)
    reversed_ = values.shape[2] != values.shape[3] and values.shape[0] == values.shape[1] > 1
    values = np.moveaxis(values, (0, 1), (2, 3)) if reversed_ else values
    rows, columns, *full = values.shape
    said = [f"patterns read from {key}, a raster of {rows} rows and {columns} columns"]
    window = window_of((full[0], full[1]), options, None, source.where, said)
    if reversed_:
        said.append("the patterns are its first two axes, which are square, and the raster its last two")
    elif rows == columns == values.shape[2]:
        said.append("all four axes are equally long: the first two are read as the raster, the last two as the pattern")
    y, x = raster_positions(options, (rows, columns), source.where, key, said)
    return RawScan(
        where=source.where,
        name=name,
        values=np.ascontiguousarray(window.cut(values)).reshape(-1, window.size, window.size),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, source.where),
        metadata={"layout": "raster", "stored_domain": "counts"},
        said=said,
        sources={"patterns": key},
        order=f"patterns {'(y, x, row, column)' if reversed_ else '(row, column, y, x)'}, positions from the raster, "
        "x fastest",
        unit=options.position_unit,
    )


def _sequence(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """Patterns (M, N, N) of an NPY file, in one sequence."""
    (key,) = source.names()
    values = real_from(source, key)
    said = [f"patterns read from {key}, {len(values)} in one sequence"]
    window = window_of((int(values.shape[1]), int(values.shape[2])), options, None, source.where, said)
    y, x = sequence_positions(options, len(values), source.where, key, said)
    return RawScan(
        where=source.where,
        name=name,
        values=np.ascontiguousarray(window.cut(values)),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, source.where),
        metadata={"layout": "array of patterns", "stored_domain": "counts"},
        said=said,
        sources={"patterns": key},
        order="patterns (pattern, y, x)",
        unit=options.position_unit,
    )


def _is_stack(source: TreeSource) -> bool:
    headers = list(source.headers().values())
    shape = headers[0].shape if len(headers) == 1 else ()
    return len(shape) == 3 and min(shape[1:]) > 1 and headers[0].dtype.kind in "buif"


def _matches(file: DataFile) -> bool:
    if file.kind == "npy" and _is_stack(file.arrays):
        return True
    return file.kind in ("npy", "npz", "hdf5", "matlab") and raster_key(file.arrays) is not None


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_raster(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="raster",
    help="Scan as one array (Ry, Rx, N, N) in NPY, NPZ, HDF5 or MATLAB; its step is an option.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER),
    matches=_matches,
    read=_read,
)
