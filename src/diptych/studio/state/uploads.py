"""Files that a browser sends: written in pieces into the first data folder, under a safe name."""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.studio.data import SUFFIXES

if TYPE_CHECKING:
    from diptych.studio.context import Studio

FOLDER = "uploads"
"""Below the first data folder."""


def safe_name(given: str) -> str:
    """A file name without folders and unusual characters, from one that a browser states.

    Raises
    ------
    InputError
        If its ending is none of a scan or result.
    """
    name = re.sub(r"[^\w.+-]", "_", given.replace("\\", "/").rpartition("/")[2]).lstrip(".")[-100:]
    if not name.lower().endswith(SUFFIXES):
        raise InputError(
            "upload", f"{given[:100]!r} is no file of a scan or result by its name", f"one of {', '.join(SUFFIXES)}"
        )
    return name


async def receive(studio: Studio, file: Any) -> Path:
    """Write an upload to ``uploads/`` in the first data folder; nothing is replaced.

    Raises
    ------
    InputError
        If the name or the size is refused.
    UnavailableError
        If the disk refuses, for instance because it is full.
    """
    name, limit = safe_name(file.name), int(studio.options.upload_limit * 2**30)
    if file.size() > limit:
        raise InputError("upload", f"{name} holds {file.size():,} bytes", f"at most {limit:,}")
    folder = studio.folders.resolve(studio.folders.roots[0] / FOLDER)
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".upload-", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                async for piece in file.iterate():
                    await asyncio.to_thread(stream.write, piece)
                stream.close()
                return _moved(temporary, folder, name)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
    except OSError as error:
        raise UnavailableError(f"{name}: cannot be written ({error.strerror or error}); free some space.") from error


def _moved(temporary: Path, folder: Path, name: str) -> Path:
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    while True:
        target = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            target.hardlink_to(temporary)  # Fails where the name is taken, also by another upload just now.
        except FileExistsError:
            number += 1
            continue
        return target
