"""The interfaces that readers of formats use, and the checks that every container shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.runtime.cpu.memory import available_memory

_MOST_NAMES = 12


class Header(NamedTuple):
    """Shape and type of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Source(Protocol):
    """The arrays of one level of a file. ``where`` names the place in messages."""

    where: str

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array, without reading any."""
        ...

    def read(self, key: str) -> NDArray[Any]:
        """The array stored under ``key``. Raises InputError when it is damaged or holds Python objects."""
        ...


class TreeSource(Source, Protocol):
    """A file, or a group of it, whose arrays are found by path: ``"entry_1/data_1/data"``.

    A container without groups (NPZ) has one level; its paths are its keys, and it has no attributes.
    """

    def names(self) -> Collection[str]:
        """Names at this level, of arrays and groups, without opening any: what a format is recognised by."""
        ...

    def header(self, path: str) -> Header | None:
        """Shape and type of the array at ``path``; None where there is no array."""
        ...

    def group(self, path: str) -> TreeSource | None:
        """The group at ``path``; None where there is no group."""
        ...

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Attributes of the array or group at ``path`` (of this level when empty); text as ``str``."""
        ...

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` (n,), increasing, at least one, of the array at ``key`` along ``axis``."""
        ...

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Path of every array below, with its header, or the reason why it cannot be read."""
        ...


def listed(names: Iterable[str]) -> str:
    """Names in alphabetical order for a message, the first dozen of many."""
    ordered = sorted(names)
    return (
        ", ".join(ordered[:_MOST_NAMES]) + (f", ... ({len(ordered)} in all)" if len(ordered) > _MOST_NAMES else "")
        or "nothing"
    )


def refuse_what_does_not_fit(header: Header, where: str, key: str) -> None:
    """Raise before an array is allocated that memory cannot hold: a small compressed or sparse file may declare a huge
    one.
    """
    size = nbytes(header)
    available = available_memory()
    if available is not None and size > available:
        raise InputError(
            f"{where}: {key!r}",
            f"declares {header.shape} {header.dtype}, {size / 1e9:.3g} GB",
            f"no more than the {available / 1e9:.3g} GB of memory that are available",
            "Is the file damaged? Otherwise load a part of it, or use a machine with more memory.",
        )


def nbytes(header: Header) -> int:
    """Bytes of the array, computed in floating point: a damaged header may state sizes beyond 64 bits."""
    return int(np.prod(header.shape, dtype=np.float64)) * header.dtype.itemsize


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order: torch accepts no other."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def brief(error: object, most: int = 200) -> str:
    """What a library's error says, cut: some repeat the damaged bytes."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]} ..."
