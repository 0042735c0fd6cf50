"""Heaps of HDF5 files, which hold text of varying length: damaged ones are found before the library reads them.

The library never ends where an object of a damaged heap states a size of 0 for free space (seen with HDF5 2.0). Layout:
The HDF Group, HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from diptych.errors import InputError

MOST_BYTES = 256 * 2**20
"""Bytes from the beginning of a file that are looked through; writers put heaps among the first objects of a file."""

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEAD = 16
"""Bytes before the objects of a heap, and before the data of an object."""


def check_heaps(path: Path) -> None:
    """Raise where a global heap holds an object that does not fit, or states no size.

    Raises
    ------
    InputError
        If there is one.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_SIGNATURE, 0, MOST_BYTES)
        while start >= 0:
            if not _sound(content, start):
                raise InputError(
                    path,
                    f"the HDF5 file is damaged (the heap of texts at byte {start} is broken)",
                    remedy="Copy or write it again.",
                )
            start = content.find(_SIGNATURE, start + len(_SIGNATURE), MOST_BYTES)


def _sound(content: mmap.mmap, start: int) -> bool:
    """Whether every object of the heap at ``start`` lies inside it."""
    if start + _HEAD > len(content):
        return False
    (size,) = struct.unpack_from("<Q", content, start + 8)
    place, end = start + _HEAD, start + size
    if end > len(content):
        return False
    while place + _HEAD <= end:
        number, length = struct.unpack_from("<H6xQ", content, place)
        # Object 0 is the free space, and its size counts its head.
        taken = length if number == 0 else _HEAD + -(-length // 8) * 8
        if taken == 0 or taken > end - place:
            return False
        place += taken
    return True
