"""MATLAB 5 files (``save`` without ``-v7.3``), read by SciPy; structs are groups.

Sizes are checked against the available memory before anything is read. Objects and function handles are never made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.base import Header, brief, listed, native, refuse_what_does_not_fit
from diptych.ptycho.io.source.matlab_tags import check_tags

_LARGEST_ITEM = np.dtype(np.complex128)
"""``whosmat`` tells shapes, not types: every element is counted as the largest."""


class MatlabSource:
    """The variables of a file, or the fields of a struct in it. Made by :func:`open_matlab`."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = values

    def names(self) -> Collection[str]:
        """Names of the variables and structs."""
        return set(self._values)

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array."""
        found = ((name, self.header(name)) for name in self._values)
        return {name: header for name, header in found if header is not None}

    def header(self, path: str) -> Header | None:
        """Shape and type of the array at ``path``; None where there is no array."""
        item = self._item(path)
        return Header(item.shape, item.dtype) if isinstance(item, np.ndarray) else None

    def group(self, path: str) -> MatlabSource | None:
        """The struct at ``path``; None where there is none."""
        item = self._item(path)
        return MatlabSource(item, f"{self.where}: {path}") if isinstance(item, Mapping) else None

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Nothing: variables have no attributes."""
        return {}

    def read(self, key: str) -> NDArray[Any]:
        """The array at ``key``."""
        item = self._item(key)
        if not isinstance(item, np.ndarray):
            raise InputError(self.where, f"holds no array {key!r}; it holds {listed(self._values)}")
        return native(item)

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` of the array at ``key`` along ``axis``."""
        return np.take(self.read(key), indices, axis)

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Path and header of every array below."""
        for name, item in self._values.items():
            if isinstance(item, np.ndarray):
                yield name, Header(item.shape, item.dtype)
            elif (group := self.group(name)) is not None:
                yield from ((f"{name}/{path}", header) for path, header in group.walk())

    def _item(self, path: str) -> Any:
        item: Any = self._values
        for part in path.strip("/").split("/"):
            item = item.get(part) if isinstance(item, Mapping) else None
        return item


@contextmanager
def open_matlab(path: Path) -> Iterator[MatlabSource]:
    """The MATLAB 5 file ``path``.

    Raises
    ------
    InputError
        If it is damaged, or holds more than memory does.
    """
    from scipy.io import loadmat, whosmat

    check_tags(path)
    try:
        for name, shape, kind in whosmat(path):
            if kind not in ("struct", "cell", "char"):
                refuse_what_does_not_fit(Header(tuple(shape), _LARGEST_ITEM), str(path), name)
        stored = loadmat(path, mat_dtype=False, struct_as_record=True)
    except InputError:
        raise
    except Exception as error:
        # The library has no exception of its own: damage shows as any of a dozen.
        raise InputError(path, f"the MATLAB file is damaged ({brief(error)})", remedy="Save it again.") from error
    yield MatlabSource({name: _plain(item) for name, item in stored.items() if not name.startswith("__")}, str(path))


def _plain(item: Any, depth: int = 0) -> Any:
    """Structs of one element as mappings, numbers and text as arrays; anything else is left out as None."""
    if isinstance(item, np.ndarray) and item.dtype.names and item.size == 1 and depth < 8:
        return {name: _plain(item.reshape(-1)[0][name], depth + 1) for name in item.dtype.names}
    return item if isinstance(item, np.ndarray) and item.dtype.kind in "biufcUS" else None
