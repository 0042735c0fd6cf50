"""The raw layout of tike's test data, as NPZ or HDF5: ``data``, ``scan`` and ``probe``."""

from __future__ import annotations

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import geometry_from, probe_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import Source
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions


def read_tike(source: Source, options: LoadOptions, name: str) -> RawScan:
    """The scan in ``source``, as stored.

    ``data`` (1, M, N, N) holds counts with zero frequency at the corner, ``scan`` (1, M, 2) the corners (y, x) of the
    windows in object pixels.

    Raises
    ------
    InputError
        If the arrays are empty, or their shapes disagree.
    """
    data, scan = real_from(source, "data"), real_from(source, "scan", "window corners")
    if 0 in data.shape:
        raise InputError(source.where, f"the scan is empty ('data' has shape {data.shape})", "at least one pattern")
    data = data[(0,) * (data.ndim - 3)]
    scan = scan[(0,) * (scan.ndim - 2)]
    if scan.ndim != 2 or len(scan) != len(data) or data.shape[1] != data.shape[2]:
        raise InputError(
            source.where,
            f"'data' has shape {data.shape} and 'scan' {scan.shape}",
            "(patterns, N, N) and (patterns, 2)",
        )
    half = data.shape[-1] // 2
    # In float64 first: adding N // 2 in float32 would round the fractions of the stored positions.
    corners = scan.astype(np.float64) + half
    return RawScan(
        where=source.where,
        name=name,
        values=np.fft.fftshift(data, (-2, -1)),
        y=corners[:, 0],
        x=corners[:, 1],
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        probe=probe_from(source, "probe") if options.use_probe else None,
        geometry=geometry_from(source, options),
        sources={"patterns": "data", "positions": "scan", "probe": "probe"},
        order="patterns (1, pattern, y, x) centred at [0, 0], positions (y, x) of the windows' corners",
        unit="px",
        metadata={"layout": "tike", "stored_domain": "counts"},
        said=[
            "zero frequency moved from pixel [0, 0] to the centre",
            f"window corners moved by {half} px to the window's index [{half}, {half}]",
        ],
    )


def _matches(file: DataFile) -> bool:
    if file.kind not in ("npz", "hdf5") or not set(file.arrays.names()) >= {"data", "scan", "probe"}:
        return False
    data, scan = file.arrays.header("data"), file.arrays.header("scan")
    return data is not None and scan is not None and scan.shape[-1:] == (2,) and len(data.shape) >= 3


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_tike(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="tike",
    help="Raw layout of tike's test data: data, scan, probe; counts with zero frequency at the corner.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
    datasets={"patterns": ("data",), "probe": ("probe",)},
)
