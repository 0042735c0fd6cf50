"""Files beside the database of a ledger: latents in blocks, and images and other files named by their hash."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, UnavailableError
from diptych.runtime.files import replacing

FLOAT = np.dtype("<f4")

_NAME = re.compile(r"[0-9a-f]{64}\.(png|npz)")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storing(path: Path, what: str = "written") -> Iterator[None]:
    """Report a full disk and other errors of writing (or of what ``what`` says) below ``path`` as UnavailableError.

    Raises
    ------
    UnavailableError
        Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UnavailableError(
                f"{path}: the disk is full; nothing was stored. Free some space and repeat the last step."
            ) from error
        raise UnavailableError(f"{path}: cannot be {what} ({error.strerror or error}); nothing was stored.") from error


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that they survive a crash of the machine (not needed on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Blocks:
    """Latents, one file ``latents-<d>.f32`` per dimension d: rows of d little-endian float32, without a header.

    Rows are assigned by the database while it holds its write lock. A row that the database does not refer to is free;
    data that a killed process left there are overwritten.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, dimension: int) -> Path:
        """The file of a dimension."""
        return self._folder / f"latents-{dimension}.f32"

    def write(self, dimension: int, first: int, latents: Sequence[NDArray[np.float32]]) -> None:
        """Write latents (d,) to the rows from ``first`` on; they are on disk when this returns."""
        path = self.path(dimension)
        new = not path.exists()
        with path.open("r+b" if not new else "x+b", buffering=0) as file:
            file.seek(first * dimension * FLOAT.itemsize)
            write_all(file, b"".join(latent.astype(FLOAT, copy=False).tobytes() for latent in latents))
            os.fsync(file.fileno())
        if new:
            sync_folder(self._folder)

    def read(self, dimension: int, rows: Sequence[int], checksums: Sequence[int]) -> list[NDArray[np.float32] | None]:
        """Latents (d,), read and compared with their checksums; None for a row that is missing or damaged.

        They are read, not mapped into memory: the system kills a process that touches a mapped page of a file that
        another program has truncated.
        """
        size = dimension * FLOAT.itemsize
        try:
            handle = self.path(dimension).open("rb", buffering=0)
        except FileNotFoundError:
            return [None] * len(rows)
        found: list[NDArray[np.float32] | None] = []
        with handle as file, storing(self._folder, "read"):
            for row, expected in zip(rows, checksums, strict=True):
                file.seek(row * size)
                latent = np.empty(dimension, dtype=FLOAT)
                sound = _read_into(file, latent.data.cast("B")) and checksum(latent) == expected
                latent.setflags(write=False)
                found.append(latent if sound else None)
        return found


class Gathered:
    """Latents (n, d) that grow row by row; arrays that were returned earlier keep their values."""

    def __init__(self, dimension: int) -> None:
        self._count = 0
        self._values = np.zeros((0, dimension), dtype=np.float32)

    def append(self, latent: NDArray[np.float32]) -> None:
        """Add a row (d,)."""
        if self._count == len(self._values):
            # Arrays returned earlier keep the old memory. The margin makes growth cheap on average.
            values = np.empty((self._count + max(64, self._count // 8), self._values.shape[1]), dtype=np.float32)
            values[: self._count] = self._values[: self._count]
            self._values = values
        self._values[self._count] = latent
        self._count += 1

    @property
    def values(self) -> NDArray[np.float32]:
        """The rows (n, d), read-only."""
        given = self._values[: self._count]
        given.setflags(write=False)
        return given


class Files:
    """Files named by their SHA-256: stored once, verified when read.

    Parameters
    ----------
    folder : Path
        Must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes, suffix: str) -> str:
        """Store bytes and return their name; they are completely on disk when it returns."""
        name = hashlib.sha256(data).hexdigest() + suffix
        path = self._folder / name
        if not path.exists() or path.stat().st_size != len(data):
            with replacing(path) as temporary, temporary.open("wb", buffering=0) as file:
                write_all(file, data)
        sync_folder(self._folder)
        return name

    def path(self, name: str) -> Path:
        """Path of the file of that name. Raises InputError if the name is not a hash (it could leave the folder)."""
        if not _NAME.fullmatch(name):
            raise InputError(
                self._folder, f"refers to the file {name!r}", "the SHA-256 of a file", "The ledger is damaged."
            )
        return self._folder / name

    def get(self, name: str) -> bytes:
        """The bytes of that name.

        Raises
        ------
        InputError
            If the name is not a hash, or the file is missing or damaged.
        """
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", remedy="Restore it from a backup.") from None
        if hashlib.sha256(data).hexdigest() != path.stem:
            raise InputError(path, "is damaged (its hash differs from its name)", remedy="Restore it from a backup.")
        return data


def write_all(file: io.RawIOBase | io.FileIO, data: bytes) -> None:
    """Write every byte: a single call may write fewer if the disk is almost full."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _read_into(file: io.RawIOBase | io.FileIO, buffer: memoryview) -> bool:
    """Fill the buffer from a file; False if the file ends before."""
    while buffer:
        count = file.readinto(buffer)
        if not count:
            return False
        buffer = buffer[count:]
    return True


def checksum(latent: NDArray[np.float32]) -> int:
    """CRC-32 of a latent (d,)."""
    return zlib.crc32(np.ascontiguousarray(latent, dtype=FLOAT).data)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) as PNG, at the fastest compression level."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes, where: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a PNG file.

    Raises
    ------
    InputError
        If the bytes are not a PNG file, are damaged, or claim an excessive size.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(where, f"is not a readable PNG image ({error})") from None
