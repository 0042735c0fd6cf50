"""What remains of jobs in their run directories, so that they can be listed after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.runtime.files import write_text
from diptych.runtime.run_directory import JOB, MARK, is_locked, plain

if TYPE_CHECKING:
    from diptych.runtime.jobs.job import Job, State

_STATES: dict[str, State] = {"done": "done", "interrupted": "cancelled", "failed": "failed"}
_KILLED = "the process ended before the run did; --resume continues a run that has a checkpoint"


@dataclass(frozen=True)
class JobRecord:
    """A run directory as a list of jobs shows it, also for runs that were started from the command line.

    Parameters
    ----------
    folder : Path
        The run directory.
    command : str
        The verb.
    title : str
        Title of the job; the folder's name for a run of the command line.
    state : str
        ``running``, ``done``, ``failed`` or ``cancelled``. A run whose process was killed has failed.
    error : str
        Why it failed.
    started, finished : str
        Times in UTC (ISO 8601); ``finished`` is empty for a run that is under way or was killed.
    work, arguments
        The job function and its arguments, by which it can be submitted again; empty for a run of the command line.
    """

    folder: Path
    command: str
    title: str
    state: State
    error: str = ""
    started: str = ""
    finished: str = ""
    work: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The log file of the run."""
        return self.folder / "log.txt"


def write_record(job: Job) -> None:
    """Write id, title, function and arguments of a job into its run directory."""
    assert job.folder is not None
    values = {"id": job.id, "title": job.title, "work": job.work, "arguments": job.arguments}
    write_text(job.folder / JOB, json.dumps(plain(values), indent=2) + "\n")


def list_records(root: str | Path) -> list[JobRecord]:
    """The run directories directly below ``root``, the last one started first; other folders are skipped."""
    root = Path(root)
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    found = [record for folder in folders if (record := read_record(folder)) is not None]
    return sorted(found, key=lambda record: (record.started, record.folder.name), reverse=True)


def read_record(folder: Path) -> JobRecord | None:
    """The record of one run directory; None when the folder is none."""
    run = _json(folder / MARK)
    if run is None or run.get("program") != "diptych":
        return None
    job = _json(folder / JOB) or {}
    status = str(run.get("status"))
    alive = status == "running" and is_locked(folder)
    state: State = "running" if alive else _STATES.get(status, "failed")
    killed = status == "running" and not alive
    arguments = job.get("arguments")
    return JobRecord(
        folder,
        str(run.get("command", "")),
        str(job.get("title") or folder.name),
        state,
        _KILLED if killed else str(run.get("error", "")),
        str(run.get("started", "")),
        str(run.get("finished", "")),
        str(job.get("work", "")),
        arguments if isinstance(arguments, dict) else {},
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
