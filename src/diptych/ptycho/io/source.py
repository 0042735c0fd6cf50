"""Named arrays in a file: one small interface over NPZ archives and HDF5 groups. Nothing is ever unpickled."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.runtime.memory import available_memory

_MOST_NAMES = 12
# A damaged header is Python text to NumPy, which parses it: SyntaxError and TokenError are its words for damage.
_NPY_ERRORS = (EOFError, ValueError, OSError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError)
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, *_NPY_ERRORS)


class Header(NamedTuple):
    """Shape and type of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def listed(names: Iterable[str]) -> str:
    """Names in alphabetical order for a message, the first dozen of many."""
    ordered = sorted(names)
    return (
        ", ".join(ordered[:_MOST_NAMES]) + (f", ... ({len(ordered)} in all)" if len(ordered) > _MOST_NAMES else "")
        or "nothing"
    )


class Source(Protocol):
    """Where a reader finds its arrays. ``where`` is what messages call the place."""

    where: str

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array, without reading any."""
        ...

    def read(self, key: str) -> NDArray[Any]:
        """The array stored under ``key``. Raises InputError when it is damaged or holds Python objects."""
        ...


class NpzSource:
    """The arrays of an NPZ archive, read one at a time."""

    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self.where = where
        self._archive = archive
        self._members = {
            info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")
        }
        self._headers: dict[str, Header] | None = None

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every array; the headers alone are read."""
        if self._headers is None:
            self._headers = {key: self._header(key) for key in self._members}
        return self._headers

    def _header(self, key: str) -> Header:
        info = self._members[key]
        try:
            with self._archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = reader(file)
        except _ZIP_ERRORS as error:
            raise InputError(
                f"{self.where}: the array {key!r} has no readable header ({error}); the file is damaged."
            ) from None
        size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
        if not dtype.hasobject and info.file_size < size:
            raise InputError(f"{self.where}: the array {key!r} is cut short ({info.file_size} bytes, expected {size}).")
        return Header(tuple(int(n) for n in shape), dtype)

    def read(self, key: str) -> NDArray[Any]:
        """The array stored under ``key``."""
        if self.headers()[key].dtype.hasobject:
            raise InputError(
                f"{self.where}: {key!r} is an array of Python objects, which only a pickle can hold; pickles are "
                f"never opened. "
                "Save it again as plain numbers (or text)."
            )
        _refuse_what_does_not_fit(self.headers()[key], self.where, key)
        try:
            with self._archive.open(self._members[key]) as file:
                return _native(np.lib.format.read_array(file, allow_pickle=False))
        except _ZIP_ERRORS as error:
            raise InputError(f"{self.where}: the array {key!r} is damaged or cut short ({error}).") from None


class NpySource:
    """The one array of an NPY file, under whatever name it is asked for."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            # Mapped, not read: the size that the header states is checked against the file before memory is taken.
            self._array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except _NPY_ERRORS as error:
            raise InputError(f"{path}: the NPY file is damaged, cut short or pickled ({error}).") from None

    def headers(self) -> Mapping[str, Header]:
        """Shape and type under the name ``array``."""
        return {"array": Header(self._array.shape, self._array.dtype)}

    def read(self, key: str) -> NDArray[Any]:
        """The array, whatever ``key`` is."""
        _refuse_what_does_not_fit(self.headers()["array"], self.where, "array")
        return _native(np.array(self._array))


class Hdf5Source:
    """The datasets of an HDF5 group, by name."""

    def __init__(self, group: Any, where: str) -> None:
        import h5py

        self.where = where
        self._group = group
        self._datasets: dict[str, Any] = {}
        self.groups: set[str] = set()
        for key in group:
            # A link may name any file of this machine; what is read must lie in the file that the user named.
            outside = isinstance(group.get(key, getlink=True), h5py.ExternalLink)
            item = None if outside else group.get(key)
            if outside or (item is not None and item.file.filename != group.file.filename):
                raise InputError(
                    f"{where}: {key!r} is a link into another file, which is not followed; copy what it names into "
                    f"this file."
                )
            if isinstance(item, h5py.Dataset):
                self._datasets[key] = item
            elif isinstance(item, h5py.Group):
                self.groups.add(key)

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every dataset of the group (not of its subgroups)."""
        return {key: Header(tuple(item.shape or ()), item.dtype) for key, item in self._datasets.items()}

    def read(self, key: str) -> NDArray[Any]:
        """The dataset called ``key``; text comes as a NumPy unicode scalar."""
        import h5py

        with self._reading(key, self._datasets[key].shape or ()) as item:
            if h5py.check_string_dtype(item.dtype) is not None:
                return np.asarray(item.asstr()[()])
            return _native(np.asarray(item[()]))

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` (n,), increasing and at least one, of the dataset ``key`` along ``axis``."""
        shape = self._datasets[key].shape
        with self._reading(key, (*shape[:axis], len(indices), *shape[axis + 1 :])) as item:
            # Slices, one for each run of neighbours: the library is slow where it is given a list.
            runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
            parts = [item[(*(slice(None),) * axis, slice(int(run[0]), int(run[-1]) + 1))] for run in runs]
            return _native(np.concatenate(parts, axis) if len(parts) > 1 else parts[0])

    @contextmanager
    def _reading(self, key: str, shape: tuple[int, ...]) -> Iterator[Any]:
        """The dataset ``key``, of which an array of ``shape`` is to be read."""
        item = self._datasets[key]
        if item.is_virtual or item.external:
            raise InputError(
                f"{self.where}: the values of {key!r} lie in other files, which are not followed; copy them into "
                f"this file."
            )
        _refuse_what_does_not_fit(Header(shape, item.dtype), self.where, key)
        try:
            yield item
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.where}: the dataset {key!r} cannot be read ({error}).") from None


def _refuse_what_does_not_fit(header: Header, where: str, key: str) -> None:
    """Raise before an array is made that memory cannot hold: a small compressed or sparse file may declare a huge
    one.
    """
    size = int(np.prod(header.shape, dtype=np.float64)) * header.dtype.itemsize
    available = available_memory()
    if available is not None and size > available:
        raise InputError(
            f"{where}: {key!r} declares {header.shape} {header.dtype}, {size / 1e9:.3g} GB; expected no more than the "
            f"{available / 1e9:.3g} GB of memory that are available. Is the file damaged? Else take a part of it, or "
            f"a larger machine."
        )


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order: torch takes no other."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


@contextmanager
def open_npz(path: Path) -> Iterator[NpzSource]:
    """The arrays of the NPZ file ``path``. Raises InputError when the archive is damaged or truncated."""
    try:
        archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise InputError(
            f"{path}: the NPZ (zip) archive is truncated or damaged ({error}). Copy or write it again."
        ) from None
    with archive:
        yield NpzSource(archive, str(path))


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The HDF5 file ``path``, open for reading. Raises InputError when it is damaged or truncated."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path}: the HDF5 file is truncated, damaged or being written ({error}). Copy or write it again."
        ) from None
    with file:
        try:
            yield file
        except InputError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            # The library notices damage late and by many names, some of them when a link or an attribute is merely
            # looked at.
            raise InputError(f"{path}: the HDF5 file is damaged ({error}). Copy or write it again.") from error


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an NPZ archive: deflated lightly (counts shrink fast), no pickle, the same bytes for the same
    arrays.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def read_json(source: Source, key: str = "_metadata") -> tuple[dict[str, Any], str | None]:
    """The JSON object under ``key`` - text, or UTF-8 bytes - and, where it was passed over, why.

    Raises
    ------
    InputError
        If the text is not a JSON object.
    """
    header = source.headers().get(key)
    if header is None:
        return {}, None
    if header.dtype.hasobject and isinstance(source, NpzSource):
        return {}, f"{key!r} is a pickled object and was not read: pickles are never opened"
    array = source.read(key)
    try:
        text = array.tobytes().decode() if array.dtype == np.uint8 or array.dtype.kind == "S" else str(array[()])
        value = json.loads(text.rstrip("\0"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.where}: {key!r} is not JSON text ({error}).") from None
    if not isinstance(value, dict):
        raise InputError(
            f"{source.where}: {key!r} holds a JSON {type(value).__name__}; expected an object of names and values."
        )
    return value, None


def json_text(value: Any, what: str) -> str:
    """``value`` as JSON text; NumPy numbers, arrays and paths become plain ones. Raises InputError for anything
    else.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, np.generic | np.ndarray):
            return item.tolist()
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"a {type(item).__name__}")

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}: cannot be written as JSON (it holds {error}); expected numbers, text, lists and mappings."
        ) from None
