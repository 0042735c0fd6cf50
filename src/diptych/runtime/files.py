"""Atomic writing of files, and checks of output paths."""

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
    """Yield a temporary path beside ``path``; renamed to ``path`` when the block ends without error, else removed.

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
        # mkstemp makes files private; set the permissions that any other new file of this process would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_output(path: Path, suffixes: tuple[str, ...], *, overwrite: bool = False, option: str = "--out") -> Path:
    """``path``, if a file of that name may be written; called before the work starts.

    Parameters
    ----------
    path : Path
        The file to write.
    suffixes : tuple of str
        Suffixes the writer knows, with the dot.
    overwrite : bool
        Allow an existing file to be replaced.
    option : str
        Name of the argument in messages.

    Raises
    ------
    InputError
        If the suffix is unknown, the folder is absent, or a folder, or (without ``overwrite``) a file, of that name
        exists.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}", f"the suffix is {path.suffix!r}", " or ".join(suffixes))
    if not path.parent.is_dir():
        raise InputError(
            f"{option} {path}",
            f"the folder {path.parent} does not exist",
            remedy="Create it first, or name another file.",
        )
    if path.is_dir():
        raise InputError(f"{option} {path}", "is a folder", "the name of a file")
    if path.exists() and not overwrite:
        raise InputError(f"{option} {path}", "exists already", remedy="Name another file, or pass --overwrite.")
    return path
