"""Heaps of HDF5 files, which hold text of varying length: damaged ones are found before the library reads them.

The library never ends where an object of a damaged heap states a size of 0 for free space (seen with HDF5 2.0). Layout:
The HDF Group, HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from diptych.errors import InputError

MOST_BYTES = 64 * 2**20
"""Bytes from the beginning of a file that are looked through; writers put heaps among the first objects of a file."""

_PIECE = 2**20
"""Bytes that are read at a time. A file is never mapped into memory: one that is cut while it is open would end the
process."""

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
    with path.open("rb") as stream:
        for start in _places(stream):
            if not _sound(stream, start):
                raise InputError(
                    path,
                    f"the HDF5 file is damaged (the heap of texts at byte {start} is broken)",
                    remedy="Copy or write it again.",
                )


def _places(stream: BinaryIO) -> Iterator[int]:
    """Where heaps begin."""
    kept, read = b"", 0
    while read < MOST_BYTES:
        stream.seek(read)
        piece = stream.read(_PIECE)
        if not piece:
            return
        content, first = kept + piece, read - len(kept)
        read += len(piece)
        start = content.find(_SIGNATURE)
        while start >= 0:
            yield first + start
            start = content.find(_SIGNATURE, start + len(_SIGNATURE))
        kept = content[1 - len(_SIGNATURE) :]


def _sound(stream: BinaryIO, start: int) -> bool:
    """Whether every object of the heap at ``start`` lies inside it."""
    head = _bytes(stream, start, _HEAD)
    if len(head) < _HEAD:
        return False
    (size,) = struct.unpack_from("<Q", head, 8)
    place, end = start + _HEAD, start + size
    if end > stream.seek(0, os.SEEK_END):
        return False
    while place + _HEAD <= end:
        head = _bytes(stream, place, _HEAD)
        if len(head) < _HEAD:
            return False
        number, length = struct.unpack_from("<H6xQ", head)
        # Object 0 is the free space, and its size counts its head.
        taken = length if number == 0 else _HEAD + -(-length // 8) * 8
        if taken == 0 or taken > end - place:
            return False
        place += taken
    return True


def _bytes(stream: BinaryIO, start: int, count: int) -> bytes:
    stream.seek(start)
    return stream.read(count)
