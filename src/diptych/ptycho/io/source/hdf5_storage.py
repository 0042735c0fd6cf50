"""How HDF5 keeps data: opening under file locks, sizes against the file, compression filters."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.source.base import brief
from diptych.ptycho.io.source.hdf5_heaps import check_heaps

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EDEADLK}
"""What file systems answer that offer no locks (some NFS and parallel file systems)."""

_HELD = {errno.EAGAIN, errno.EWOULDBLOCK}
"""What they answer where another program holds the lock (11 on Linux, 35 on macOS)."""

_LARGE_BYTES = 64 * 2**20
_MOST_COMPRESSED = 20_000

_FILTERS = {
    305: "LZO",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32019: "JPEG",
    32024: "SZ3",
    32026: "Blosc2",
}
"""Registered numbers of compression filters (The HDF Group's list of registered filter plugins)."""


def open_file(path: Path) -> Any:
    """The h5py file ``path``, open for reading; without a lock where the file system offers none.

    Raises
    ------
    InputError
        If it is damaged or truncated, or another program holds it open for writing.
    UnavailableError
        If the file system refuses for another reason.
    """
    import h5py

    try:
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            file = h5py.File(path, "r", locking=False)
        if file.id.get_create_plist().get_sizes() == (8, 8):
            try:
                check_heaps(path)
            except InputError:
                file.close()
                raise
        return file
    except OSError as error:
        if error.errno in _HELD:
            raise InputError(
                path,
                "another program holds the HDF5 file open for writing",
                remedy="Wait until it is closed, or set HDF5_USE_FILE_LOCKING=FALSE to read what is written so far.",
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, *_NO_LOCKS):
            raise UnavailableError(f"{path}: the HDF5 file cannot be opened ({brief(error)}).") from None
        raise InputError(
            path,
            f"the HDF5 file is truncated, damaged or being written ({brief(error)})",
            remedy="Copy or write it again.",
        ) from None


@contextmanager
def write_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file to be filled, which is put together in memory and written to ``path`` at the end.

    The library must not write to a disk by itself: where the disk is full, the file can be neither completed nor
    closed, and the process crashes when it ends.
    """
    import h5py

    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    path.write_bytes(content)


def check_extent(dataset: Any, where: str) -> None:
    """Raise when the values of a contiguous dataset would lie beyond the end of its file."""
    offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    if offset is None:
        return
    end = dataset.file.id.get_filesize()
    if offset + size > end:
        raise InputError(where, f"is cut short: its values would end at byte {offset + size}", f"at most {end}")


def check_written(dataset: Any, where: str) -> None:
    """Raise when a large dataset is all but empty: HDF5 would fill memory with values that nobody wrote.

    The strongest filters reach a few thousand to one on frames without light.
    """
    size = int(dataset.size or 0) * dataset.dtype.itemsize
    if dataset.is_virtual or size <= _LARGE_BYTES:
        return
    stored = dataset.id.get_storage_size()
    if stored * _MOST_COMPRESSED < size:
        raise InputError(
            where,
            f"declares {dataset.shape} {dataset.dtype}, {size / 1e9:.3g} GB, and holds {stored} bytes of them",
            "values that were written",
            "Is the file damaged, or still being written?",
        )


def check_filters(dataset: Any, where: str) -> None:
    """Raise when ``dataset`` is compressed by a filter that is not installed; ``hdf5plugin`` is used where it is.

    Raises
    ------
    UnavailableError
        Names the filter and how to install it.
    """
    import h5py

    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, _, text = properties.get_filter(index)
        if h5py.h5z.filter_avail(number):
            continue
        with suppress(ImportError):
            import_module("hdf5plugin")
        if not h5py.h5z.filter_avail(number):
            name = _FILTERS.get(number) or text.decode("utf-8", "replace").split(";")[0] or "unknown"
            raise UnavailableError(
                f"{where}: is compressed with the HDF5 filter {number} ({name}), which is not installed. "
                "Run: pip install 'diptych[formats]'"
            )
