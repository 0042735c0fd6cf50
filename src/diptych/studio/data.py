"""The data folders: what lies in them, and paths that must stay inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.errors import InputError
from diptych.runtime.jobs.records import read_record

Kind = Literal["file", "run", "session"]

SUFFIXES = (".npz", ".h5", ".hdf5", ".nxs", ".cxi", ".mat", ".ptyd", ".ptyr", ".emd", ".npy", ".raw")
"""Names that may hold a scan or a result; whether they do is found out when one is opened."""

DEPTH = 3
MOST = 2000
"""Folders below a data folder that are searched, and entries that are listed."""


@dataclass(frozen=True)
class Item:
    """A file, a run or a session in a data folder.

    Parameters
    ----------
    path : Path
        Absolute.
    kind : str
        ``file`` (may hold a scan or a result), ``run`` (a run directory) or ``session`` (of the preference panel).
    modified : float
        Time of the last change, seconds since the epoch.
    size : int
        Bytes; 0 for folders.
    """

    path: Path
    kind: Kind
    modified: float
    size: int


class DataFolders:
    """Folders that pages may read and write.

    Parameters
    ----------
    roots : tuple of Path
        Existing folders, absolute and without links.

    Raises
    ------
    InputError
        If one of them is no folder.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        for root in roots:
            if not root.is_dir():
                raise InputError(
                    root, "is not a folder", "an existing data folder", "Create it, or pass another --data."
                )
        self.roots = roots

    def resolve(self, given: str | os.PathLike[str]) -> Path:
        """The absolute path of what a person typed; relative ones start at the first data folder.

        Raises
        ------
        InputError
            If the path lies outside the data folders once links are followed, or cannot be a path.
        """
        try:
            path = (self.roots[0] / Path(given).expanduser()).resolve()
        except (ValueError, OSError, RuntimeError) as error:
            raise InputError("path", f"cannot be read ({error})", "the path of a file or folder") from None
        if not any(path == root or path.is_relative_to(root) for root in self.roots):
            places = ", ".join(map(str, self.roots))
            raise InputError(
                path.name or "path",
                "lies outside the data folders",
                f"a path in {places}",
                "Start studio with --data FOLDER.",
            )
        return path

    def shown(self, path: Path) -> str:
        """The path relative to its data folder, for pages."""
        for root in self.roots:
            if path.is_relative_to(root):
                return str(path.relative_to(root))
        return path.name

    def link(self, path: Path) -> str:
        """The shortest text that :meth:`resolve` takes for this path, for addresses of pages."""
        first = self.roots[0]
        return str(path.relative_to(first)) if path.is_relative_to(first) and path != first else str(path)

    def items(self, kind: Kind | None = None) -> list[Item]:
        """What lies in the data folders, the last changed first."""
        found: dict[Path, Item] = {}
        for root in self.roots:
            for item in _walk(root, DEPTH):
                found.setdefault(item.path, item)
                if len(found) >= MOST:
                    break
        wanted = [item for item in found.values() if kind in (None, item.kind)]
        return sorted(wanted, key=lambda item: item.modified, reverse=True)


def _walk(folder: Path, depth: int) -> Iterator[Item]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # A folder that cannot be listed has nothing to show.
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        path = Path(entry.path)
        try:
            info = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue  # Removed in the meantime.
        if not is_folder:
            if entry.name.lower().endswith(SUFFIXES):
                yield Item(path, "file", info.st_mtime, info.st_size)
        elif (path / "ledger.sqlite").is_file():
            yield Item(path, "session", (path / "ledger.sqlite").stat().st_mtime, 0)
        elif read_record(path) is not None:
            yield Item(path, "run", info.st_mtime, 0)
        elif depth > 1:
            yield from _walk(path, depth - 1)
