"""Files with several entries, or one of another name: an entry under the name by which a format calls it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.base import Header, TreeSource, listed

_ENTRY = re.compile(r"(entry|scan)_?\d*", re.IGNORECASE)
_MOST = 64
"""Entries that are looked at."""


class Entry:
    """A tree in which the group ``name`` at the top is found as ``called``. Made by :func:`entries`."""

    def __init__(self, source: TreeSource, name: str, called: str) -> None:
        self.where = source.where
        self.name, self.called = name, called
        self._source = source

    def names(self) -> Collection[str]:
        """Names at the top, with that of the entry exchanged."""
        return (set(self._source.names()) - {self.name}) | {self.called}

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of the arrays at the top."""
        return self._source.headers()

    def header(self, path: str) -> Header | None:
        """Shape and type of the array at ``path``; None where there is no array."""
        return self._source.header(self._stored(path))

    def group(self, path: str) -> TreeSource | None:
        """The group at ``path``; None where there is no group."""
        return self._source.group(self._stored(path))

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Attributes of the array or group at ``path``."""
        return self._source.attributes(self._stored(path))

    def read(self, key: str) -> NDArray[Any]:
        """The array at ``key``."""
        return self._source.read(self._stored(key))

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` of the array at ``key`` along ``axis``."""
        return self._source.read_part(self._stored(key), indices, axis)

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Every array below, by its path in the file."""
        return self._source.walk()

    def verify(self, path: str) -> None:
        """Raise where the values at ``path`` cannot be read."""
        if (verify := getattr(self._source, "verify", None)) is not None:
            verify(self._stored(path))

    def told(self, text: str) -> str:
        """``text`` with the paths of the file in place of those of the format."""
        if self.name == self.called:
            return text
        parts = text.split(self.where)
        called = rf"(?<![\w/]){re.escape(self.called)}(?!\w)"
        return self.where.join(re.sub(called, lambda _: self.name, part) for part in parts)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Errors of the block name the paths of the file."""
        try:
            yield
        except InputError as error:
            said = {key: self.told(getattr(error, key)) for key in ("where", "found", "expected", "remedy")}
            raise error.changed(**said) from None

    def _stored(self, path: str) -> str:
        bare = path.strip("/")
        if bare == self.called or bare.startswith(f"{self.called}/"):
            return self.name + bare[len(self.called) :]
        return path


def entries(source: TreeSource, called: str) -> Iterator[Entry]:
    """The entries of a file, each under the name ``called``: that of this name first, then the others in their order.

    An entry is a group at the top with a name such as ``entry``, ``entry_2`` or ``scan_001``, or of the class NXentry.
    """
    names = [name for name in source.names() if name != called and _is_entry(source, name)]
    ordered = sorted(names, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])
    if called in source.names():
        ordered.insert(0, called)
    yield from (Entry(source, name, called) for name in ordered[:_MOST])


def chosen_entry(found: list[Entry], asked: str | None, where: str, said: list[str]) -> Entry:
    """The entry called ``asked``, or the first; others that could be meant are stated in ``said``.

    Raises
    ------
    InputError
        If there is none called ``asked``.
    """
    names = [entry.name for entry in found]
    if asked is not None and asked.strip("/") not in names:
        raise InputError(where, f"has no entry {asked!r} with patterns", f"one of {listed(names)}")
    chosen = found[0] if asked is None else next(entry for entry in found if entry.name == asked.strip("/"))
    if asked is None and len(found) > 1:
        others = listed(name for name in names if name != chosen.name)
        said.append(f"of {len(found)} entries with patterns {chosen.name} is read; --entry chooses another: {others}")
    return chosen


def _is_entry(source: TreeSource, name: str) -> bool:
    try:
        if source.group(name) is None:
            return False
        return bool(_ENTRY.fullmatch(name)) or source.attributes(name).get("NX_class") == "NXentry"
    except InputError:
        # A link that leads nowhere.
        return False
