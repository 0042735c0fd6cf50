"""What the files in the data folders hold, and names for new runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from diptych.studio.context import Studio

Holds = Literal["scan", "result", "positions", "nothing"]


def holds(path: Path) -> Holds:
    """What a file holds, by the readers; ``nothing`` where none recognises it. Remembered until the file changes."""
    try:
        status = path.stat()
    except OSError:
        return "nothing"
    return _holds(path, status.st_mtime_ns, status.st_size)


def is_result(path: Path) -> bool:
    """Whether a file holds a result (object and probe)."""
    return holds(path) == "result"


def is_scan(path: Path) -> bool:
    """Whether a file holds a scan (diffraction patterns)."""
    return holds(path) == "scan"


def files_of(studio: Studio) -> list[Path]:
    """Files in the data folders that may hold a scan or a result, and the results of runs, the last changed first."""
    found = []
    for item in studio.folders.items():
        if item.kind == "file":
            found.append(item.path)
        elif item.kind == "run":
            found += [path for name in ("result.h5", "result.npz") if (path := item.path / name).is_file()]
    return found


def models_of(studio: Studio) -> list[Path]:
    """Trained networks (.safetensors) in the data folders and in their run directories, the last changed first."""
    found: dict[Path, float] = {}
    places = [*studio.folders.roots, *(item.path for item in studio.folders.items("run"))]
    for place in [*places, *(root / "models" for root in studio.folders.roots)]:
        for path in place.glob("*.safetensors"):
            if path.is_file() and not path.is_symlink():
                found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: found[path], reverse=True)


def numbered_run(root: Path, stem: str) -> Path:
    """A run directory below ``root / "runs"`` that does not exist yet."""
    runs = root / "runs"
    number = 1
    while (runs / f"{stem}-{number}").exists():
        number += 1
    return runs / f"{stem}-{number}"


@lru_cache(maxsize=4096)
def _holds(path: Path, modified: int, size: int) -> Holds:
    from diptych.ptycho.io import files, formats

    try:
        with files.opened(path) as file:
            found = formats.recognise(file)
    except DiptychError:
        return "nothing"
    return "nothing" if found is None else found.holds
