"""A ledger whose files were removed or replaced by another program: found before anything is overwritten or lost."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.errors import InputError
from diptych.runtime.files import replacing

MOST_KEPT = 2**29
"""Bytes of a database above which no copy of it is kept in memory."""

_CHANGING = "changing"

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
    with replacing(path := _free(folder)) as temporary:
        copy = sqlite3.connect(temporary)
        try:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode=delete")
        finally:
            copy.close()
    return path


def _free(folder: Path) -> Path:
    number = 1
    while (path := folder / COPY.format(number)).exists():
        number += 1
    return path


class Contents:
    """Finds out whether another program has written to the files of an open database, as ``cp backup ledger.sqlite``
    does, and keeps what they held.

    With a write-ahead log, the file of the database changes only at checkpoints. All processes make them while they
    hold the lock file, and write there which state the file then has; a state that is not written there was made by
    another program. SQLite itself would not notice, and would mix the pages of both files.

    Parameters
    ----------
    database : Path
    wal : bool
        Whether it has a write-ahead log. Without one it changes with each transaction.
    """

    def __init__(self, database: Path, *, wal: bool) -> None:
        self._wal = database.with_name(f"{database.name}-wal") if wal else None
        # Kept open: closing any descriptor of the file would release the locks of SQLite in this process.
        self._file = os.open(database, os.O_RDONLY)
        self._chain, self._state = "", ""
        self._kept: tuple[bytes, bytes] | None = None

    def begin(self, lock: int) -> None:
        """Take the contents as they are, at opening. Where they changed since the last process, which is right while no
        session is open, those that are open must not go on.
        """
        chain, _, state = _read(lock).partition(" ")
        known = chain and state in (_CHANGING, self._look())
        self._chain = chain if known else secrets.token_hex(8)
        self._note(lock)

    def intact(self, lock: int) -> bool:
        """Whether the contents are those that the processes with this database have written."""
        chain, _, state = _read(lock).partition(" ")
        now = self._look()
        if not chain:  # the lock file was removed, and is new
            chain, state = self._chain, self._state
        if chain != self._chain or state not in (_CHANGING, now):
            return False
        # A process that was killed during a checkpoint leaves the word; SQLite repeats the checkpoint.
        if state == _CHANGING or now != self._state:
            self._note(lock)
        return True

    @contextmanager
    def changing(self, lock: int) -> Iterator[None]:
        """The block changes the file of the database."""
        _write(lock, f"{self._chain} {_CHANGING}")
        try:
            yield
        finally:
            self._note(lock)

    def keep_log(self) -> None:
        """Keep the write-ahead log as it is now, after a transaction."""
        if self._kept is not None and self._wal is not None and self._wal.exists():
            self._kept = self._kept[0], self._wal.read_bytes()

    def save(self, folder: Path) -> Path | None:
        """Write what the database held to a new file in a folder; None where it was too large to be kept."""
        if self._kept is None:
            return None
        if self._wal is not None and self._wal.exists() and (now := self._wal.read_bytes()).startswith(self._kept[1]):
            # Other processes have written to it since.
            self._kept = self._kept[0], now
        with replacing(path := _free(folder)) as temporary:
            log = temporary.with_name(f"{temporary.name}-wal")
            temporary.write_bytes(self._kept[0])
            try:
                log.write_bytes(self._kept[1])
                copy = sqlite3.connect(temporary)
                copy.execute("PRAGMA journal_mode=delete")
                copy.close()
            finally:
                log.unlink(missing_ok=True)
        return path

    def drop_log(self) -> None:
        """Empty the log if it is still that of the former contents: SQLite would write it into the new ones at the end.
        It is part of what was saved.
        """
        if self._kept is None or self._wal is None or not self._wal.exists():
            return
        if self._wal.read_bytes() == self._kept[1]:
            os.truncate(self._wal, 0)

    def close(self) -> None:
        """Close the file; after all connections."""
        os.close(self._file)

    def _note(self, lock: int) -> None:
        self._state = self._look()
        _write(lock, f"{self._chain} {self._state}")
        size = os.fstat(self._file).st_size
        self._kept = (os.pread(self._file, size, 0), b"") if size <= MOST_KEPT else None
        self.keep_log()

    def _look(self) -> str:
        about = os.fstat(self._file)
        # Without a log SQLite counts the changes of the file; times of network file systems are not exact.
        changed = about.st_mtime_ns if self._wal is not None else os.pread(self._file, 4, 24).hex()
        return f"{about.st_size} {changed}"


def _read(lock: int) -> str:
    return os.pread(lock, 200, 0).decode("ascii", "replace").strip()


def _write(lock: int, text: str) -> None:
    os.pwrite(lock, text.ljust(100).encode("ascii"), 0)
