"""Jobs and runs as the jobs page lists them; runs are renamed, exported and deleted here."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.errors import InputError
from diptych.runtime.jobs.records import read_record
from diptych.runtime.run_directory import is_locked
from diptych.studio.state.manage import deleted, renamed

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job
    from diptych.studio.context import Studio

LOW_BYTES = 1_000_000_000
"""Free space below which pages warn."""

TAIL_BYTES = 64_000


@dataclass(frozen=True)
class Line:
    """One job or run of the list.

    Parameters
    ----------
    title, state, error : str
        As shown; ``state`` as in :class:`~diptych.runtime.jobs.Job`.
    started : str
        Time in UTC; empty for a job without a run directory.
    command : str
        The verb.
    folder : Path or None
        The run directory.
    job : Job or None
        Where the job belongs to this server.
    """

    title: str
    state: str
    error: str
    started: str
    command: str
    folder: Path | None
    job: Job | None


def lines(studio: Studio) -> list[Line]:
    """Jobs of this server, the newest first, then the earlier runs in the data folders."""
    found: list[Line] = []
    known: set[Path] = set()
    for job in reversed(studio.jobs.jobs()):
        if job.folder is not None and job.folder in known:
            continue  # An earlier attempt at a run that was resumed.
        record = None if job.folder is None else read_record(job.folder)
        if job.folder is not None:
            known.add(job.folder)
            if record is None and job.state not in ("queued", "running"):
                continue  # Deleted.
        verb = record.command if record is not None else job.work.rpartition(":")[2].replace("_", " ")
        found.append(
            Line(job.title, job.state, job.error, "" if record is None else record.started, verb, job.folder, job)
        )
    for item in studio.folders.items("run"):
        record = read_record(item.path)
        if record is not None and item.path not in known:
            found.append(
                Line(record.title, record.state, record.error, record.started, record.command, item.path, None)
            )
    return found


def log_tail(folder: Path | None) -> str:
    """The end of the log of a run; empty where there is none."""
    if folder is None:
        return ""
    try:
        with (folder / "log.txt").open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - TAIL_BYTES, 0))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def rename(studio: Studio, folder: Path, name: str) -> Path:
    """Rename a run directory. Raises InputError for a name that is no name or taken, or a run that is under way."""
    return renamed(_idle(studio, folder), name)


def delete(studio: Studio, folder: Path) -> None:
    """Delete a run directory and all in it. Raises InputError for a folder that is no run, or is under way."""
    deleted(_idle(studio, folder))


def export(studio: Studio, folder: Path, target: Path) -> None:
    """Write a run directory as a ZIP archive; links are left out."""
    folder = studio.folders.resolve(folder)
    if read_record(folder) is None:
        raise InputError(folder.name, "is not a run", "a run directory")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, Path(folder.name) / path.relative_to(folder))


def full_disk(studio: Studio) -> str:
    """A warning where little space is left in a data folder; else empty."""
    for root in studio.folders.roots:
        free = shutil.disk_usage(root).free
        if free < LOW_BYTES:
            return f"{root.name or root}: only {free / 1e6:.0f} MB are free. Runs and labels need space: free some."
    return ""


def _idle(studio: Studio, folder: Path) -> Path:
    folder = studio.folders.resolve(folder)
    if folder in studio.folders.roots or read_record(folder) is None:
        raise InputError(folder.name, "is not a run", "a run directory")
    if is_locked(folder):
        raise InputError(folder.name, "is under way", "a run that has ended", "Stop it first.")
    return folder
