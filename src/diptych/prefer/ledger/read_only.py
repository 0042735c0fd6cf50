"""Opening the database of a ledger without writing anything: on a read-only or full file system, and for programs that
only read.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

from diptych.errors import InputError

PATIENCE = 30.0
"""Seconds to wait for writers."""


def open_to_read(path: Path, application: int, version: int) -> sqlite3.Connection:
    """A connection that reads the database at ``path``.

    Readers of a write-ahead log share an index that the first of them makes beside it. Where that is impossible, the
    database is read as it is if its log is empty, and otherwise from a copy of both in the folder of temporary files.

    Raises
    ------
    InputError
        If the file is not a ledger of this version.
    sqlite3.Error
        If it cannot be read.
    """
    where = quote(str(path.resolve()))
    try:
        return _checked(f"file:{where}?mode=ro", path, application, version)
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if not log.exists() or log.stat().st_size == 0:
            return _checked(f"file:{where}?mode=ro&immutable=1", path, application, version)
    with tempfile.TemporaryDirectory() as scratch:
        for file in (path, log):
            shutil.copyfile(file, Path(scratch) / file.name)
        copy = _checked(f"file:{quote(str(Path(scratch) / path.name))}", path, application, version)
        found = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        copy.backup(found)
        copy.close()
    return found


def _checked(address: str, path: Path, application: int, version: int) -> sqlite3.Connection:
    found = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        found.execute("PRAGMA trusted_schema=OFF")
        found.execute("SELECT count(*) FROM events")
        known = tuple(found.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    except sqlite3.Error:
        found.close()
        raise
    if known != (application, version):
        found.close()
        raise InputError(path, "is not a ledger of this version", f"version {version}", "Update diptych.")
    return found
