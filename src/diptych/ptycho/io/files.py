"""Files as such: what kind a file is by its first bytes, and writing one in a single step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from diptych.errors import InputError, UnavailableError
from diptych.runtime.files import replacing

FileKind = Literal["npz", "hdf5", "npy"]

_ZIP, _NPY, _HDF5 = b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n"
_OTHERS = {
    b"BZh": "compressed with bzip2; decompress it first (bunzip2)",
    b"\x1f\x8b": "compressed with gzip; decompress it first (gunzip)",
    b"PK\x05\x06": "an empty zip archive",
    b"MATLAB": "a MATLAB 5 file; save it with -v7.3 or as NPZ",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"\x89PNG": "a PNG image",
    b"\x80": "perhaps a Python pickle, and pickles are never opened",
}


def file_kind(path: Path) -> FileKind:
    """Whether ``path`` is an NPZ archive, an HDF5 file or a single NPY array, by its content (the suffix says nothing).

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, not readable, or none of the three.
    """
    expected = "expected a scan or a result as NPZ or HDF5"
    if path.is_dir():
        raise InputError(f"{path}: is a folder; {expected}.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file (a pipe or a device); {expected}.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head and not head.startswith((_ZIP, _NPY, _HDF5)) and _late_hdf5(file.seek(0, os.SEEK_END), path):
                return "hdf5"
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; {expected}.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {expected}.") from None
    if not head:
        raise InputError(f"{path}: the file is empty (0 bytes); {expected}. Was its writing or copying cut short?")
    if head.startswith(_ZIP):
        return "npz"
    if head.startswith(_NPY):
        return "npy"
    if head == _HDF5:
        return "hdf5"
    what = next(
        (text for magic, text in _OTHERS.items() if head.startswith(magic)),
        f"of an unknown kind (it begins with {head!r})",
    )
    raise InputError(f"{path}: the file is {what}; {expected}.")


def _late_hdf5(size: int, path: Path) -> bool:
    """Whether the HDF5 signature follows a user block of 512, 1024, 2048 ... bytes, as MATLAB 7.3 files have it."""
    with path.open("rb") as file:
        offset = 512
        while offset + 8 <= size:
            file.seek(offset)
            if file.read(8) == _HDF5:
                return True
            offset *= 2
    return False


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` when the block ends well; the old file stays when it does not.

    Raises
    ------
    InputError
        If ``path`` is a folder, or its folder does not exist.
    UnavailableError
        If the file system refuses (no space, no permission).
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected the name of a file to write.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first, or choose another name.")
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UnavailableError(f"{path}: could not be written ({error.strerror or error}).") from error
