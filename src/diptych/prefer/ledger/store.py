"""The database of a ledger: one SQLite file, shared by any number of processes; commits are durable."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError, UnavailableError
from diptych.prefer.ledger.files import storing
from diptych.prefer.ledger.read_only import open_to_read
from diptych.prefer.ledger.replaced import Contents, file_identities, refuse_lost, save_copy
from diptych.runtime.logging import LOGGER

NAME = "ledger.sqlite"
APPLICATION = 0x44495054  # "DIPT": distinguishes a ledger from other databases
VERSION = 1
CHECKPOINT = 2**22
"""Bytes of the write-ahead log above which it is written into the database."""

PATIENCE = 30.0
"""Seconds that a writer waits for other writers."""

NETWORK = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb2",
            "smb3",
            "smbfs",
            "afs",
            "ceph",
            "glusterfs",
            "lustre",
            "beegfs",
            "gpfs",
            "pvfs2",
            "panfs",
        ),
        *(
            "9p",
            "virtiofs",
            "davfs",
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.ceph",
            "fuse.rclone",
            "fuse.davfs2",
            "fuse.s3fs",
        ),
    }
)
"""Network file systems: WAL keeps its index in shared memory, which other machines cannot see."""

SCHEMA = """
CREATE TABLE frames (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE candidates (
    id TEXT PRIMARY KEY, dimension INTEGER NOT NULL, row INTEGER NOT NULL, checksum INTEGER NOT NULL, pixels TEXT, image
    TEXT, frame TEXT NOT NULL, source TEXT NOT NULL, offset INTEGER NOT NULL, provenance TEXT NOT NULL, UNIQUE
    (dimension, row)
) WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, time TEXT NOT NULL, source TEXT NOT NULL,
    screen INTEGER, target INTEGER UNIQUE, body TEXT
);
CREATE INDEX of_kind ON events (kind, position);
CREATE TABLE shown (screen INTEGER, slot INTEGER, candidate TEXT NOT NULL, PRIMARY KEY (screen, slot)) WITHOUT ROWID;
CREATE INDEX screens_of ON shown (candidate, screen);
"""


class Store:
    """One connection for writing and one for reading, so that a long read does not delay a judgement.

    Parameters
    ----------
    folder : Path
    read_only : bool
        Write nothing to the folder; :meth:`writing` raises UnavailableError.

    Attributes
    ----------
    journal : str
        "wal", or "delete" where WAL is not supported.

    Raises
    ------
    InputError
        If the file is not a ledger, or one of a later version.
    UnavailableError
        If the folder cannot be written, or other processes keep it locked.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path, self.read_only = folder / NAME, read_only
        self._lock_path = folder / "ledger.lock"
        refuse_lost(self.path)
        self._process = os.getpid()
        self._copy: Path | None = None
        self._opened: tuple[tuple[int, int] | None, ...] | None = None
        self._contents: Contents | None = None
        self._writing, self._reading = threading.RLock(), threading.Lock()
        if read_only:
            with self._translated_errors():
                self._writer = self._reader = open_to_read(self.path, APPLICATION, VERSION)
                self.journal = str(self._reader.execute("PRAGMA journal_mode").fetchone()[0]).lower()
            return
        network = file_system(folder) in NETWORK
        with storing(folder), self._translated_errors():
            self._writer = self._connect()
            self.journal = self._choose_journal(wanted="delete" if network else "wal")
            self._writer.execute(f"PRAGMA synchronous={'FULL' if self.journal == 'wal' else 'EXTRA'}")
        if self.journal != "wal":
            why = f"{file_system(folder)} is a network file system" if network else "the file system refuses it"
            LOGGER.warning(
                "%s: no write-ahead log (%s); using a rollback journal and a lock file, which is slower.",
                self.path,
                why,
            )
        self._prepare()
        with self._writing, storing(folder), self._translated_errors(), self._locked() as lock:
            self._opened = file_identities(self.path)
            if lock is not None:
                self._contents = Contents(self.path, wal=self.journal == "wal")
                self._contents.begin(lock)
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only=ON")

    def close(self) -> None:
        """Close both connections."""
        with self._writing, self._reading:
            if self._contents is None:
                self._writer.close()
                self._reader.close()
                return
            contents, self._contents = self._contents, None
            try:
                # The last connection writes the log into the database.
                with storing(self.path.parent), self._locked() as lock:
                    assert lock is not None
                    if file_identities(self.path) == self._opened and not contents.intact(lock):
                        contents.drop_log()
                        self._close_connections()
                    else:
                        with contents.changing(lock):
                            self._close_connections()
            except (UnavailableError, sqlite3.OperationalError) as error:
                LOGGER.debug("%s: closed without the lock file (%s)", self.path, error)
            finally:
                self._close_connections()
                contents.close()

    def _close_connections(self) -> None:
        self._writer.close()
        self._reader.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction under the write lock of all processes: durable when the block ends, rolled back when it raises.

        Raises
        ------
        UnavailableError
            If the disk is full or fails, another process holds the lock for :data:`PATIENCE` seconds, or the database
            is no longer the file that was opened: then what is written would be lost, and a copy of everything that
            was acknowledged is made.
        """
        if self.read_only:
            raise UnavailableError(f"{self.path}: is open for reading only; nothing was stored.")
        with self._writing, storing(self.path.parent), self._translated_errors(), self._locked() as lock:
            self._refuse_replaced(lock)
            with self._changing(lock):
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                finally:
                    # A failed COMMIT may or may not have rolled back.
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
            if self._contents is not None and self.journal == "wal":
                self._contents.keep_log()
            self._refuse_replaced(lock)
            self._checkpoint(lock)

    @contextmanager
    def _changing(self, lock: int | None) -> Iterator[None]:
        """A transaction; without a write-ahead log it changes the file of the database."""
        if self._contents is None or lock is None or self.journal == "wal":
            yield
            return
        with self._contents.changing(lock):
            yield

    def _checkpoint(self, lock: int | None) -> None:
        """Write a long log into the database. SQLite would do so at any commit, without saying so."""
        if self._contents is None or lock is None or self.journal != "wal":
            return
        log = self.path.with_name(f"{NAME}-wal")
        if log.exists() and log.stat().st_size > CHECKPOINT:
            with self._contents.changing(lock):
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._reading, self._translated_errors():
            return self._reader.execute(query, values).fetchall()

    def _refuse_replaced(self, lock: int | None) -> None:
        """Raise UnavailableError if the open files are not those that have their names now, or hold something else."""
        same = self._opened is None or file_identities(self.path) == self._opened
        if same and (self._contents is None or lock is None or self._contents.intact(lock)):
            return
        what = "was written over" if same else "was replaced" if self.path.exists() else "was removed"
        remedy = "Open the session again."
        if self.path.parent.is_dir() and (self._copy is None or not self._copy.exists()):
            folder, contents = self.path.parent, self._contents if same else None
            self._copy = save_copy(self._writer, folder) if contents is None else contents.save(folder)
        if self._copy is not None and self.path.parent.is_dir():
            what_is = "What this process knew of it" if same else "All that was stored before"
            remedy = f"{what_is} is in {self._copy}: rename it to {NAME}, or open what is there now."
        raise UnavailableError(
            f"{self.path}: {what} by another program while it was open; nothing was stored there. {remedy}"
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA trusted_schema=OFF")
        # See _checkpoint.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def _choose_journal(self, wanted: str) -> str:
        """Set the journal mode, retrying while other processes open the file; returns the mode in effect."""
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                mode = str(self._writer.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0]).lower()
            except sqlite3.OperationalError as error:
                busy = "locked" in str(error)
                if busy and time.monotonic() < limit:
                    time.sleep(0.01)
                elif not busy and wanted == "wal":
                    wanted = "delete"
                else:
                    raise
            else:
                return mode

    def _prepare(self) -> None:
        with self.writing() as database:
            application, version, tables = (
                database.execute(query).fetchone()[0]
                for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
            )
            if (application, version, tables) == (0, 0, 0):
                for statement in SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id={APPLICATION}")
                database.execute(f"PRAGMA user_version={VERSION}")
            elif application != APPLICATION:
                raise InputError(self.path, "is a database of another program", "a ledger", "Choose another folder.")
            elif version != VERSION:
                raise InputError(
                    self.path, f"is a ledger of version {version}", f"version {VERSION}", "Update diptych."
                )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        if os.getpid() != self._process:
            raise InputError(
                self.path, "was opened before this process was forked", remedy="Open the ledger in the new process."
            )
        try:
            yield
        except DiptychError:
            raise
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise UnavailableError(
                    f"{self.path}: the disk is full; nothing was stored. Free some space and repeat."
                ) from error
            if "locked" in str(error):
                raise UnavailableError(
                    f"{self.path}: another process has kept the ledger locked for {PATIENCE:.0f} s; repeat."
                ) from error
            raise UnavailableError(f"{self.path}: {error}; nothing was stored.") from error
        except sqlite3.ProgrammingError as error:
            if "closed" in str(error):
                raise InputError(self.path, "the ledger is closed", remedy="Open it again.") from error
            raise
        except sqlite3.DatabaseError as error:
            raise InputError(
                self.path, f"is not a ledger, or is damaged ({error})", remedy="Restore it from a backup."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """Hold ``ledger.lock``, so that writers are served in turn. (With SQLite's lock alone they retry at random
        times, and some wait for seconds.)

        Without WAL it also helps on network file systems, where locks of whole files are more reliable than SQLite's
        locks of byte ranges.
        """
        try:
            import fcntl
        except ImportError:  # Windows: SQLite's own locks
            yield None
            return
        # Closing the file releases the lock, as the end of the process does.
        with _FileLock(self._lock_path, fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
            yield handle


class _FileLock:
    """A file lock with a timeout of :data:`PATIENCE`: the process that holds it may have been stopped."""

    def __init__(self, path: Path, flock: Callable[[int, int], None], wait: int, now: int) -> None:
        self._path, self._flock, self._wait, self._now = path, flock, wait, now

    def __enter__(self) -> int:
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._flock(self._handle, self._now)
        except BlockingIOError:
            self._queue()
        except OSError:
            os.close(self._handle)
            raise
        return self._handle

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def _queue(self) -> None:
        """Wait in a thread, because waiting for a file lock cannot be interrupted."""
        guard, taken, handle, late = threading.Lock(), threading.Event(), self._handle, False

        def wait() -> None:
            self._flock(handle, self._wait)
            with guard:
                if late:
                    os.close(handle)
                else:
                    taken.set()

        threading.Thread(target=wait, daemon=True).start()
        try:
            if not taken.wait(PATIENCE):
                raise sqlite3.OperationalError("database is locked")
        except BaseException:
            with guard:
                late = True
                if taken.is_set():
                    os.close(handle)
            raise


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system of a folder, as Linux names it; empty if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    target, best, kind = folder.resolve(), -1, ""
    for line in lines:
        _, mount, name, *_ = line.split(" ")
        point = Path(mount.replace("\\040", " "))
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), name
    return kind
