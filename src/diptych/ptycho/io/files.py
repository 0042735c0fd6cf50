"""Files as such: the kind of a file by its first bytes, opening it, and writing one in a single step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.positions.mda import is_mda, open_mda
from diptych.ptycho.io.positions.spec import is_spec, open_spec
from diptych.ptycho.io.source import NpySource, TreeSource, open_hdf5, open_matlab, open_npz
from diptych.runtime.files import replacing

FileKind = Literal["npz", "hdf5", "npy", "matlab", "mda", "spec"]

_ZIP, _NPY, _HDF5, _MATLAB = b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"MATLAB 5"
_EXPECTED = "a scan or a result as NPZ or HDF5"
_TO_TIFF = (
    "Write the frames as one TIFF, NPY or HDF5 file, or as a folder of TIFF files (fabio and rosettasciio read most "
    "kinds of detector files)."
)
_OTHERS = {
    b"BZh": ("the file is compressed with bzip2", "Decompress it first (bunzip2)."),
    b"\x1f\x8b": ("the file is compressed with gzip", "Decompress it first (gunzip)."),
    b"PK\x05\x06": ("the file is an empty zip archive", ""),
    b"II*\x00": ("the file is a TIFF image", ""),
    b"MM\x00*": ("the file is a TIFF image", ""),
    b"###CBF": ("the file is a CBF image", _TO_TIFF),
    b"{\nHeader": ("the file is perhaps an EDF image", _TO_TIFF),
    b"{\r\nHeade": ("the file is perhaps an EDF image", _TO_TIFF),
    b"\x89PNG": ("the file is a PNG image", ""),
    b"\x80": ("the file is perhaps a Python pickle, and pickles are never opened", "Save the arrays as NPZ or HDF5."),
}


@dataclass(frozen=True)
class DataFile:
    """A file (or folder) that formats are asked to recognise.

    Parameters
    ----------
    path : Path
        Where it is.
    kind : {"npz", "hdf5", "npy", "matlab", "mda", "spec", "other"}
        The container, by its first bytes.
    source : TreeSource, optional
        Its arrays; None for kind "other", which a format of its own may know.
    problem : InputError, optional
        For kind "other": the error where no format knows it.
    """

    path: Path
    kind: str
    source: TreeSource | None
    problem: InputError | None = None

    @property
    def arrays(self) -> TreeSource:
        """The arrays. Raises InputError where the file is no container of arrays."""
        if self.source is None:
            raise self.problem or InputError(self.path, "holds no named arrays", _EXPECTED)
        return self.source


@contextmanager
def opened(path: Path) -> Iterator[DataFile]:
    """The file ``path``, open for reading while the block runs.

    Raises
    ------
    InputError
        If it is missing, empty, damaged or truncated.
    """
    if path.is_dir():
        yield DataFile(path, "other", None, InputError(path, "is a folder", _EXPECTED))
        return
    head = _head(path)
    kind = _kind(head, path)
    if kind == "npz":
        with open_npz(path) as arrays:
            yield DataFile(path, kind, arrays)
    elif kind == "hdf5":
        with open_hdf5(path) as tree:
            yield DataFile(path, kind, tree)
    elif kind == "matlab":
        with open_matlab(path) as variables:
            yield DataFile(path, kind, variables)
    elif kind == "npy":
        yield DataFile(path, kind, NpySource(path))
    elif kind in ("mda", "spec"):
        yield DataFile(path, kind, open_mda(path) if kind == "mda" else open_spec(path))
    else:
        yield DataFile(path, "other", None, _unknown(head, path))


def file_kind(path: Path) -> FileKind:
    """Whether ``path`` is NPZ, HDF5, NPY, MATLAB 5, MDA or SPEC, by its content, not by suffix.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, not readable, or none of them.
    """
    if path.is_dir():
        raise InputError(path, "is a folder", _EXPECTED)
    head = _head(path)
    kind = _kind(head, path)
    if kind is None:
        raise _unknown(head, path)
    return kind


def _head(path: Path) -> bytes:
    """The first 8 bytes."""
    if path.exists() and not path.is_file():
        raise InputError(path, "is no regular file (a pipe or a device)", _EXPECTED)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", _EXPECTED) from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _EXPECTED) from None
    if not head:
        raise InputError(path, "the file is empty (0 bytes)", _EXPECTED, "Was its writing or copying interrupted?")
    return head


def _kind(head: bytes, path: Path) -> FileKind | None:
    if head.startswith(_ZIP):
        return "npz"
    if head.startswith(_NPY):
        return "npy"
    if head == _HDF5 or _late_hdf5(path):
        return "hdf5"
    if head.startswith(_MATLAB):
        return "matlab"
    return "mda" if is_mda(head) else "spec" if is_spec(head) else None


def _unknown(head: bytes, path: Path) -> InputError:
    for magic, (found, remedy) in _OTHERS.items():
        if head.startswith(magic):
            return InputError(path, found, _EXPECTED, remedy)
    return InputError(path, f"the file is of an unknown kind (it begins with {head!r})", _EXPECTED, _TO_TIFF)


def _late_hdf5(path: Path) -> bool:
    """Whether the HDF5 signature follows a user block of 512, 1024, 2048 ... bytes, as in MATLAB 7.3 files."""
    with path.open("rb") as file:
        size, offset = file.seek(0, os.SEEK_END), 512
        while offset + 8 <= size:
            file.seek(offset)
            if file.read(8) == _HDF5:
                return True
            offset *= 2
    return False


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces ``path`` when the block ends without an error; otherwise the old file stays.

    Raises
    ------
    InputError
        If ``path`` is a folder, or its folder does not exist.
    UnavailableError
        If the file system refuses (no space, no permission).
    """
    if path.is_dir():
        raise InputError(path, "is a folder", "the name of a file to write")
    if not path.parent.is_dir():
        raise InputError(
            path, f"the folder {path.parent} does not exist", remedy="Make it first, or choose another name."
        )
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UnavailableError(f"{path}: could not be written ({error.strerror or error}).") from error
