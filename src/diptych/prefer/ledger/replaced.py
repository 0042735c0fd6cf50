"""A ledger whose files were removed or replaced by another program: found before anything is overwritten or lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from diptych.errors import InputError
from diptych.runtime.files import replacing

COPY = "ledger.recovered-{}.sqlite"
"""File name of a copy of a database that was removed or replaced while it was open; numbered from 1."""


def file_identities(database: Path) -> tuple[tuple[int, int] | None, ...]:
    """Device and inode of a database and of its write-ahead log; None for a file that does not exist."""
    return tuple(_identity(path) for path in (database, database.with_name(f"{database.name}-wal")))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_lost(database: Path) -> None:
    """Refuse to start a ledger over the latents of an earlier one, which it would overwrite.

    Raises
    ------
    InputError
        If the database is missing or empty, and the folder has latents.
    """
    if database.is_file() and database.stat().st_size:
        return
    blocks = sorted(block.name for block in database.parent.glob("latents-*.f32") if block.stat().st_size)
    if not blocks:
        return
    copies = sorted((copy.stat().st_mtime, copy.name) for copy in database.parent.glob(COPY.format("*")))
    source = f"from {copies[-1][1]}, a copy of it" if copies else "from a backup"
    raise InputError(
        database,
        f"is {'empty' if database.exists() else 'missing'}, but {', '.join(blocks)} has the latents of its images",
        remedy=f"Restore it {source}; to start anew, move the latents and the folder files elsewhere first.",
    )


def save_copy(database: sqlite3.Connection, folder: Path) -> Path:
    """Write all that an open database holds to a new file in a folder, whether or not its own file still has a name."""
    number = 1
    while (path := folder / COPY.format(number)).exists():
        number += 1
    with replacing(path) as temporary:
        copy = sqlite3.connect(temporary)
        try:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode=delete")
        finally:
            copy.close()
    return path
