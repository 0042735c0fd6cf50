"""NPZ archives and single NPY arrays."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.base import Header, brief, native, nbytes, refuse_what_does_not_fit

# NumPy parses a header as Python text, so a damaged one raises SyntaxError or TokenError.
_NPY_ERRORS = (EOFError, ValueError, OSError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError)
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, *_NPY_ERRORS)


class _Flat:
    """What containers of one level share. Subclasses give ``headers`` and ``read``."""

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array."""
        raise NotImplementedError

    def read(self, key: str) -> NDArray[Any]:
        """The array stored under ``key``."""
        raise NotImplementedError

    def names(self) -> Collection[str]:
        """Names of the arrays."""
        return self.headers().keys()

    def header(self, path: str) -> Header | None:
        """Shape and type of the array called ``path``; None where there is none."""
        return self.headers().get(path)

    def group(self, path: str) -> None:
        """None: there are no groups."""

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Empty: arrays have no attributes."""
        return {}

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` of the array ``key`` along ``axis``. The whole array is read."""
        return np.take(self.read(key), indices, axis)

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Every array by name."""
        yield from self.headers().items()


class NpzSource(_Flat):
    """The arrays of an NPZ archive, read one at a time.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Open for reading.
    where : str
        The file's name in messages.
    """

    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self.where = where
        self._archive = archive
        self._members = {
            info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")
        }
        self._headers: dict[str, Header] | None = None

    def names(self) -> Collection[str]:
        """Names of the arrays, from the archive's directory."""
        return self._members.keys()

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array; the headers alone are read, and checked against the sizes of the members."""
        if self._headers is None:
            self._headers = {key: self._header(key) for key in self._members}
        return self._headers

    def _header(self, key: str) -> Header:
        info = self._members[key]
        where = f"{self.where}: the array {key!r}"
        try:
            with self._archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = reader(file)
        except _ZIP_ERRORS as error:
            raise InputError(where, f"has no readable header ({brief(error)}); the file is damaged") from None
        header = Header(tuple(int(n) for n in shape), dtype)
        if not dtype.hasobject and info.file_size < nbytes(header):
            raise InputError(where, f"is cut short ({info.file_size} bytes)", f"{nbytes(header)} bytes")
        return header

    def read(self, key: str) -> NDArray[Any]:
        """The array stored under ``key``."""
        header = self.headers()[key]
        if header.dtype.hasobject:
            raise InputError(
                f"{self.where}: {key!r}",
                "is an array of Python objects, which only a pickle can hold; pickles are never opened",
                remedy="Save it again as plain numbers (or text).",
            )
        refuse_what_does_not_fit(header, self.where, key)
        try:
            with self._archive.open(self._members[key]) as file:
                return native(np.lib.format.read_array(file, allow_pickle=False))
        except _ZIP_ERRORS as error:
            raise InputError(f"{self.where}: the array {key!r}", f"is damaged or cut short ({brief(error)})") from None


class NpySource(_Flat):
    """The one array of an NPY file, under whatever name it is asked for."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            # Mapped, not read: the size that the header states is checked against the file before memory is taken.
            self._array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except _NPY_ERRORS as error:
            raise InputError(path, f"the NPY file is damaged, cut short or pickled ({brief(error)})") from None

    def headers(self) -> Mapping[str, Header]:
        """Shape and type under the name ``array``."""
        return {"array": Header(self._array.shape, self._array.dtype)}

    def read(self, key: str) -> NDArray[Any]:
        """The array, whatever ``key`` is."""
        refuse_what_does_not_fit(self.headers()["array"], self.where, "array")
        return native(np.array(self._array))


@contextmanager
def open_npz(path: Path) -> Iterator[NpzSource]:
    """The arrays of the NPZ file ``path``. Raises InputError when the archive is damaged or truncated."""
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise InputError(
            path, f"the NPZ (zip) archive is truncated or damaged ({brief(error)})", remedy="Copy or write it again."
        ) from None
    with archive:
        yield NpzSource(archive, str(path))


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an NPZ archive: light compression, no pickle, the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
