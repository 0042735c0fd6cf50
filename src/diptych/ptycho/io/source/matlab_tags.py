"""The tags of a MATLAB 5 file, checked before a library reads it: a damaged one may claim gigabytes.

Every element is a tag (type, number of bytes) and its bytes; a matrix holds elements in turn, and a compressed element
one that zlib has packed (MAT-File Format, The MathWorks, chapter 1).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from diptych.errors import InputError
from diptych.runtime.cpu.memory import available_memory

_HEADER, _MATRIX, _COMPRESSED = 128, 14, 15
_DEEPEST = 16


def check_tags(path: Path) -> None:
    """Raise InputError where an element of the MATLAB 5 file would end after its container."""
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _damaged(path, "its header states no byte order")
    _check(memoryview(content)[_HEADER:], order, path, 0)


def _check(content: memoryview, order: str, path: Path, depth: int) -> None:
    if depth > _DEEPEST:
        raise _damaged(path, f"its arrays are nested more than {_DEEPEST} deep")
    place, end = 0, len(content)
    while place + 8 <= end:
        kind, count = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:
            # Four bytes or less stand in the tag itself.
            if kind >> 16 > 4:
                raise _damaged(path, f"a short element claims {kind >> 16} bytes")
            place += 8
            continue
        if count > end - place - 8:
            raise _damaged(path, f"an element claims {count} bytes where {end - place - 8} are left")
        inner = content[place + 8 : place + 8 + count]
        if kind == _MATRIX:
            _check(inner, order, path, depth + 1)
        elif kind == _COMPRESSED:
            _check(memoryview(_unpacked(inner, path)), order, path, depth + 1)
        place += 8 + (count if kind == _COMPRESSED else -(-count // 8) * 8)


def _unpacked(content: memoryview, path: Path) -> bytes:
    most = available_memory() or 2**40
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(content, min(most // 2, 2**62))
    except zlib.error as error:
        raise _damaged(path, str(error)) from None
    if unpacking.unconsumed_tail:
        raise InputError(path, "unpacks to more than half of the memory that is available", "a smaller file")
    return data


def _damaged(path: Path, why: str) -> InputError:
    return InputError(path, f"the MATLAB file is damaged ({why})", remedy="Save it again.")
