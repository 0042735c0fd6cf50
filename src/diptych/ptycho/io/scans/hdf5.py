"""Scans as HDF5 with the keys of an NPZ scan, at the top of the file or bundled with a product under ``/raw_data``."""

from __future__ import annotations

from pathlib import Path

from diptych.ptycho.io.convert import Domain
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import KEYS, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import finish
from diptych.ptycho.io.scans.npz import PATTERN_KEYS, has_patterns, read_scan
from diptych.ptycho.io.source import Hdf5Source, TreeSource
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

_GROUP = "raw_data"
_DATASETS = {"patterns": PATTERN_KEYS, "probe": ("probeGuess",), "object": ("objectGuess",)}


def scan_group(root: Hdf5Source, path: Path) -> tuple[Hdf5Source, Domain | None]:
    """Where the scan of an HDF5 file is stored, and the domain that this place implies: ``/raw_data`` (of a product,
    amplitudes), or the top of the file.
    """
    group = root.group(_GROUP) if _GROUP in root else None
    return (root, None) if group is None else (group, "amplitude")


def _raw_data(file: DataFile) -> TreeSource | None:
    return file.arrays.group(_GROUP) if file.kind == "hdf5" and _GROUP in file.arrays.names() else None


def _read_raw_data(file: DataFile, options: LoadOptions) -> Scan:
    group = _raw_data(file)
    assert group is not None
    return finish(read_scan(group, options, file.path.stem, "amplitude"), options)


def _matches(file: DataFile) -> bool:
    return file.kind == "hdf5" and has_patterns(file.arrays)


def _matches_raw_data(file: DataFile) -> bool:
    group = _raw_data(file)
    return group is not None and has_patterns(group)


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_scan(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="scan-hdf5",
    help="Scan as HDF5 with the keys of an NPZ scan: diff3d or diffraction, xcoords, ycoords, probeGuess.",
    options=NoOptions,
    holds="scan",
    takes=KEYS,
    matches=_matches,
    read=_read,
    datasets=_DATASETS,
)

RAW_DATA = Format(
    name="raw-data",
    help="Scan bundled with a Ptychodus product under /raw_data: amplitudes under the keys of an NPZ scan.",
    options=NoOptions,
    holds="scan",
    takes=KEYS,
    matches=_matches_raw_data,
    read=_read_raw_data,
    datasets={what: tuple(f"{_GROUP}/{key}" for key in keys) for what, keys in _DATASETS.items()},
)
