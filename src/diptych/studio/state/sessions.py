"""Sessions on disk: renamed, exported, deleted. One that is open is closed first."""

from __future__ import annotations

import sqlite3
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path

from diptych.errors import InputError, UnavailableError
from diptych.prefer.ledger.store import NAME
from diptych.studio.state.manage import deleted, renamed
from diptych.studio.state.prefer.desks import Desks

LIVE = (NAME, f"{NAME}-wal", f"{NAME}-shm", "ledger.lock")
"""Files of a database that may be written while it is read."""


def rename(desks: Desks, folder: Path, name: str) -> Path:
    """Rename a session. Raises InputError for a name that is none or taken, UnavailableError where the disk refuses."""
    folder = _session(desks, folder)
    desks.close(folder)
    return renamed(folder, name)


def delete(desks: Desks, folder: Path) -> None:
    """Delete a session with all its pictures and judgements. Raises UnavailableError where the disk refuses."""
    folder = _session(desks, folder)
    desks.close(folder)
    deleted(folder)


def export(desks: Desks, folder: Path, target: Path) -> None:
    """Write a session as a ZIP archive that opens elsewhere as it is; it may be in use meanwhile.

    Raises
    ------
    InputError
        If the folder has no session.
    UnavailableError
        If its database cannot be read.
    """
    folder = _session(desks, folder)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / NAME
        try:
            with (
                closing(sqlite3.connect(f"{(folder / NAME).as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as database,
            ):
                source.backup(database)
        except sqlite3.Error as error:
            raise UnavailableError(f"{folder.name}: cannot be exported ({error}).") from error
        # After the database: what it refers to was written before, and is never changed.
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.write(copy, Path(folder.name) / NAME)
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.relative_to(folder).as_posix() not in LIVE:
                    archive.write(path, Path(folder.name) / path.relative_to(folder))


def _session(desks: Desks, folder: Path) -> Path:
    folder = desks.folder(str(folder))
    if not (folder / NAME).is_file():
        raise InputError(folder.name, "has no session", "the folder of a session")
    return folder
