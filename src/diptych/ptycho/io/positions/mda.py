"""EPICS MDA files (the sscan record's saveData): positioners and detectors of nested scans, as columns.

Numbers are XDR: big-endian, 4 or 8 bytes, text padded to 4. A scan of rank n holds the offsets of the scans of rank
n - 1 that were taken at its points. Every column is given for the points of the innermost scan, in the order in which
they were measured, x fastest; numbers of an outer scan are repeated.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.columns import ColumnsSource

VERSIONS = (1.2, 1.3, 1.4)
LARGEST_BYTES = 2**30
_MOST = {"rank": 4, "text": 4096, "columns": 1024}


@dataclass(frozen=True)
class _Column:
    name: str
    about: str
    unit: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class _Sweep:
    rank: int
    done: int
    inner: tuple[int, ...]
    columns: list[_Column]


def is_mda(head: bytes) -> bool:
    """Whether a file begins as MDA does: a version number and a scan number, big-endian."""
    if len(head) < 8:
        return False
    version, number = struct.unpack(">fi", head[:8])
    return any(abs(version - known) < 1e-4 for known in VERSIONS) and number >= 0


def open_mda(path: Path) -> ColumnsSource:
    """The columns of an MDA file; attributes hold ``units`` and ``description``.

    Raises
    ------
    InputError
        If the file is damaged or cut short.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(
            path, f"has {path.stat().st_size / 1e9:.1f} GB", f"an MDA file below {LARGEST_BYTES / 1e9:.0f} GB"
        )
    reader = _Reader(path.read_bytes(), path)
    reader.skip(8)
    rank = reader.whole(1, _MOST["rank"], "rank of the scan")
    reader.skip(4 * rank + 8)
    seen: dict[str, int] = {}
    values, attributes = {}, {}
    for column in _flat(reader, reader.offset, rank):
        seen[column.name] = seen.get(column.name, 0) + 1
        # Columns of equal names, for instance a motor in two ranks, get a number.
        name = column.name if seen[column.name] == 1 else f"{column.name}#{seen[column.name]}"
        values[name] = column.values
        attributes[name] = {"units": column.unit, "description": column.about}
    return ColumnsSource(values, attributes, str(path))


def _flat(reader: _Reader, offset: int, rank: int) -> list[_Column]:
    """Columns of the scan at ``offset`` and of those inside it, one number for each innermost point."""
    sweep = _sweep(reader, offset, rank)
    if not sweep.inner:
        return sweep.columns
    places = [inner for inner in sweep.inner[: sweep.done] if inner]
    if len(set(places)) < len(places):
        raise reader.damaged("two points of a scan hold the same inner scan")
    parts: list[list[_Column]] = []
    points = 0
    for place in places:
        parts.append(_flat(reader, place, rank - 1))
        points += len(parts[-1][0].values) if parts[-1] else 0
        if 4 * points > reader.size:
            raise reader.damaged("its scans hold more numbers than the file")
    if not parts:
        return []
    names = [column.name for column in parts[0]]
    parts = [part for part in parts if [column.name for column in part] == names]
    lengths = [len(part[0].values) if part else 0 for part in parts]
    inner = [
        _Column(first.name, first.about, first.unit, np.concatenate([part[number].values for part in parts]))
        for number, first in enumerate(parts[0])
    ]
    outer = [
        _Column(column.name, column.about, column.unit, np.repeat(column.values[: len(parts)], lengths))
        for column in sweep.columns
    ]
    return [*outer, *inner]


def _sweep(reader: _Reader, offset: int, rank: int) -> _Sweep:
    reader.seek(offset)
    if reader.whole(1, _MOST["rank"], "rank of a scan") != rank:
        raise reader.damaged("a scan has another rank than its place states")
    points = reader.whole(0, reader.size, "number of points")
    done = min(reader.whole(0, reader.size, "last point"), points)
    inner = reader.numbers(">i4", points) if rank > 1 else np.empty(0, np.int64)
    reader.text()
    reader.text()
    positioners, detectors, triggers = (reader.whole(0, _MOST["columns"], "number of columns") for _ in range(3))
    about = []
    for _ in range(positioners):
        reader.skip(4)
        name, description, _, unit, readback, readback_about, readback_unit = (reader.text() for _ in range(7))
        about.append((name or readback, description or readback_about, unit or readback_unit))
    for _ in range(detectors):
        reader.skip(4)
        about.append((reader.text(), reader.text(), reader.text()))
    for _ in range(triggers):
        reader.skip(4)
        reader.text()
        reader.skip(4)
    columns = []
    for number, (name, description, unit) in enumerate(about):
        values = reader.numbers(">f8" if number < positioners else ">f4", points)[:done]
        columns.append(_Column(name or f"column {number}", description, unit, values.astype(np.float64)))
    return _Sweep(rank, done, tuple(int(place) for place in inner), columns)


class _Reader:
    """Numbers and text in order; everything is checked against the size of the file."""

    def __init__(self, content: bytes, path: Path) -> None:
        self._content, self._path = content, path
        self.size, self.offset = len(content), 0

    def damaged(self, why: str) -> InputError:
        return InputError(self._path, f"the MDA file is damaged or cut short: {why}", remedy="Copy it again.")

    def seek(self, offset: int) -> None:
        if not 0 < offset < self.size:
            raise self.damaged(f"a scan is said to start at byte {offset} of {self.size}")
        self.offset = offset

    def skip(self, count: int) -> None:
        self._take(count)

    def whole(self, least: int, most: int, what: str) -> int:
        value: int = struct.unpack(">i", self._take(4))[0]
        if not least <= value <= most:
            raise self.damaged(f"{what} is {value}")
        return value

    def text(self) -> str:
        """Counted text: its length, and where that is not 0 the length again, the bytes, padding to 4."""
        if self.whole(0, _MOST["text"], "length of a text") == 0:
            return ""
        length = self.whole(0, _MOST["text"], "length of a text")
        return self._take(-(-length // 4) * 4)[:length].decode("utf-8", "replace")

    def numbers(self, kind: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self._take(np.dtype(kind).itemsize * count), kind)

    def _take(self, count: int) -> bytes:
        if count < 0 or self.offset + count > self.size:
            raise self.damaged(f"{count} bytes are expected at byte {self.offset} of {self.size}")
        self.offset += count
        return self._content[self.offset - count : self.offset]
