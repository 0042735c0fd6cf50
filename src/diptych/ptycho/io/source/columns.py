"""Arrays of a file that a reader has parsed: columns of tables, with their units."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.base import Header, listed


class ColumnsSource:
    """Columns by name; one level, as in an NPZ archive.

    Parameters
    ----------
    columns : mapping of str to array
        The columns.
    attributes : mapping of str to mapping
        Attributes of columns, for instance ``{"samx": {"units": "mm"}}``.
    where : str
        The file, in messages.
    """

    def __init__(
        self, columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, Mapping[str, Any]], where: str
    ) -> None:
        self.where = where
        self._columns, self._attributes = columns, attributes

    def names(self) -> Collection[str]:
        """Names of the columns."""
        return self._columns.keys()

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every column."""
        return {name: Header(column.shape, column.dtype) for name, column in self._columns.items()}

    def header(self, path: str) -> Header | None:
        """Shape and type of the column ``path``; None where there is none."""
        column = self._columns.get(path)
        return None if column is None else Header(column.shape, column.dtype)

    def group(self, path: str) -> None:
        """None: there are no groups."""

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Attributes of a column."""
        return self._attributes.get(path, {})

    def read(self, key: str) -> NDArray[Any]:
        """The column ``key``."""
        if key not in self._columns:
            raise InputError(self.where, f"holds no column {key!r}; it holds {listed(self._columns)}")
        return self._columns[key]

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` of the column ``key`` along ``axis``."""
        return np.take(self.read(key), indices, axis)

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Every column."""
        yield from self.headers().items()
