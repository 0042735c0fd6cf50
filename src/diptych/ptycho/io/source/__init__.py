"""Arrays in a file by name or path, whatever the container: NPZ archives, single NPY arrays, HDF5 files.

Readers of formats use the interfaces :class:`Source` (the arrays of one level) and :class:`TreeSource` (groups, paths
and attributes). Shapes and types are known before anything is read, sizes are checked against the file and against the
available memory, and nothing is ever unpickled.
"""

from diptych.ptycho.io.source.base import Header, Source, TreeSource, listed
from diptych.ptycho.io.source.columns import ColumnsSource
from diptych.ptycho.io.source.entries import Entry, chosen_entry, entries
from diptych.ptycho.io.source.hdf5 import Hdf5Source, open_hdf5
from diptych.ptycho.io.source.hdf5_storage import write_hdf5
from diptych.ptycho.io.source.json_text import json_text, read_json
from diptych.ptycho.io.source.matlab import open_matlab
from diptych.ptycho.io.source.npz import NpySource, NpzSource, open_npz, write_npz

__all__ = [
    "ColumnsSource",
    "Entry",
    "Hdf5Source",
    "Header",
    "NpySource",
    "NpzSource",
    "Source",
    "TreeSource",
    "chosen_entry",
    "entries",
    "json_text",
    "listed",
    "open_hdf5",
    "open_matlab",
    "open_npz",
    "read_json",
    "write_hdf5",
    "write_npz",
]
