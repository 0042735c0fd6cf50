"""Patterns of a raster as one array (Ry, Rx, N, N), as NPY, NPZ or HDF5: 4D-STEM, Ptycho.jl, arrays of users.

The array does not state where patterns were taken. Rows and columns of the raster are ``scan_step`` apart, x fastest.
"""

from __future__ import annotations

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions


def raster_key(source: TreeSource) -> str | None:
    """Key of the one array (Ry, Rx, N, N) at the top of a file; None where there is none, or there are several."""
    found = [
        key
        for key in source.names()
        if (header := source.header(key)) is not None
        and len(header.shape) == 4
        and header.shape[2] == header.shape[3] > 1
        and header.dtype.kind in "buif"
    ]
    return found[0] if len(found) == 1 else None


def read_raster(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in an array of four axes, as stored.

    Raises
    ------
    InputError
        If neither the step nor positions in another file are given.
    """
    key = raster_key(source)
    assert key is not None
    values = real_from(source, key)
    rows, columns = values.shape[:2]
    said = [f"patterns read from {key}, a raster of {rows} rows and {columns} columns"]
    if options.positions is not None:
        y = x = unplaced(rows * columns)
    elif options.scan_step is None:
        raise InputError(
            source.where,
            f"holds a raster of {rows} x {columns} patterns ({key}) and no positions",
            "the step between them, or positions in another file",
            "Pass scan_step=... in object pixels (--scan-step) or in --position-unit, or --positions FILE.",
        )
    else:
        y, x = (line.ravel() * options.scan_step for line in np.indices((rows, columns), dtype=np.float64))
        said.append(f"positions: a raster with a step of {options.scan_step:g} {options.position_unit}, x fastest")
    return RawScan(
        where=source.where,
        name=name,
        values=values.reshape(-1, *values.shape[2:]),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, source.where),
        metadata={"layout": "raster", "stored_domain": "counts"},
        said=said,
    )


def _matches(file: DataFile) -> bool:
    return file.kind in ("npy", "npz", "hdf5", "matlab") and raster_key(file.arrays) is not None


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_raster(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="raster",
    help="Scan as one array (Ry, Rx, N, N) in NPY, NPZ, HDF5 or MATLAB; its step is an option.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
)
