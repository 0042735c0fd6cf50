"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.errors import InputError

log = logging.getLogger("diptych")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space on the device, quota exceeded, file larger than the file system allows."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the name ``path`` when the block ends well, else it is removed.

    The temporary name keeps the suffix, because some writers (matplotlib, NumPy) choose or append one by it.

    Raises
    ------
    OSError
        If the file system refuses; its ``filename`` is ``path``.
    """
    with naming_the_file(path), _temporary(path) as temporary:
        yield temporary


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Name ``path`` in the errors of the file system, which name the temporary file, or none."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None) or _stated(str(error))
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _stated(message: str) -> int | None:
    """The error of the file system that a library's message states in words (HDF5, torch)."""
    found = (number for number in (*_FULL, errno.EIO, errno.EROFS) if os.strerror(number) in message)
    return next(found, errno.EIO if "PytorchStreamWriter failed" in message else None)


def needs(path: Path, size: int) -> str:
    """How many bytes are needed and how many are free where ``path`` lies, for a message; MB are 1e6 bytes."""
    return f"about {size / 1e6:.3g} MB are needed, {shutil.disk_usage(path.parent).free / 1e6:.3g} MB are free"


def is_full(error: OSError) -> bool:
    """Whether an error of the file system says that there is no space, or no quota, left."""
    return error.errno in _FULL


@contextmanager
def unless_refused(what: str) -> Iterator[None]:
    """Warn, instead of failing, when the file system refuses a file that the result does not depend on.

    Parameters
    ----------
    what : str
        What is not written, and what follows, for the warning.
    """
    try:
        yield
    except OSError as error:
        log.warning("%s: could not be written (%s); %s", error.filename or "a file", error.strerror or error, what)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # Without this, a crash of the machine may leave the new name on an empty file.
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes files private; give the result the permissions any other new file of this process would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_output(path: Path, suffixes: tuple[str, ...], *, overwrite: bool = False, option: str = "--out") -> Path:
    """``path``, when a file of that name may be written; asked before the work starts, not after it.

    Parameters
    ----------
    path : Path
        The file to be.
    suffixes : tuple of str
        Suffixes the writer knows, with the dot.
    overwrite : bool
        Allow a file that is there to be replaced.
    option : str
        What messages call the argument.

    Raises
    ------
    InputError
        If the suffix is unknown, the folder is absent, or a file (without ``overwrite``) or a folder has the name.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: the suffix is {path.suffix!r}; expected {' or '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise InputError(
            f"{option} {path}: the folder {path.parent} does not exist; make it first, or name another file."
        )
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; expected the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"{option} {path}: exists already; name another file, or pass --overwrite.")
    return path
