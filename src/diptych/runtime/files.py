"""Atomic writing of files, and checks of output paths."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; renamed to ``path`` when the block ends without error, else removed.

    The temporary name keeps the suffix, because some writers (matplotlib, NumPy) choose or append one by it.
    """
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
