"""Folders of runs and sessions: renamed and deleted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from diptych.errors import InputError, UnavailableError

_NAME = re.compile(r"\w[\w .+-]{0,63}")


def renamed(folder: Path, name: str) -> Path:
    """Give a folder another name.

    Raises
    ------
    InputError
        If the name is none, or taken.
    UnavailableError
        If the disk refuses.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise InputError("name", f"found {name!r}", "up to 64 letters, digits, spaces or any of _.+-")
    target = folder.with_name(name)
    if target.exists():
        raise InputError(name, "exists already", "a name that is not taken")
    try:
        folder.rename(target)
    except OSError as error:
        raise UnavailableError(f"{folder.name}: cannot be renamed ({error.strerror}).") from error
    return target


def deleted(folder: Path) -> None:
    """Delete a folder and all in it. Raises UnavailableError if the disk refuses."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise UnavailableError(f"{folder.name}: cannot be deleted ({error.strerror}).") from error
