"""Many files through one verb: tasks by content, answers in a folder, and the table of where each file stands."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError
from diptych.runtime.files import sha256, write_text
from diptych.runtime.provenance import versions
from diptych.runtime.run_directory import plain
from diptych.runtime.schedulers.tasks import Answer, Task

State = Literal["waiting", "running", "done", "failed"]

ANSWERS, LOGS, RUNS = "answers", "logs", "runs"
TABLE = ("batch.csv", "batch.json")


@dataclass(frozen=True)
class BatchJob:
    """One file of a batch.

    Parameters
    ----------
    file : Path
        The input.
    digest : str
        SHA-256 of verb, arguments, version and content of the file: the name of its answer.
    task : Task
        What a worker runs.
    state : str
        waiting, running, done or failed.
    kept : bool
        The answer is that of an earlier call.
    attempts : int
        How often it was run in this call.
    seconds : float
        Time of the last attempt.
    error : str
        Why it failed.
    values : dict or None
        What the verb returned.
    """

    file: Path
    digest: str
    task: Task
    state: State = "waiting"
    kept: bool = False
    attempts: int = 0
    seconds: float = 0.0
    error: str = ""
    values: dict[str, Any] | None = None

    def answered(self, answer: Answer) -> BatchJob:
        """The job with its answer."""
        return replace(
            self,
            state="failed" if answer.error else "done",
            attempts=answer.attempts,
            seconds=answer.seconds,
            error=answer.error,
            values=answer.values,
        )

    def row(self) -> dict[str, Any]:
        """The line of the table."""
        return {
            "file": str(self.file),
            "state": f"{self.state}, kept" if self.kept else self.state,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 2),
            "error": self.error,
            "log": self.task.log,
        }


def find_files(patterns: Iterable[str | Path]) -> list[Path]:
    """The files that patterns such as ``scans/*`` name, sorted, each once; folders and hidden files are left out.

    Raises
    ------
    InputError
        If a pattern names no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        named = Path(pattern)
        paths = [named] if named.is_file() else [Path(each) for each in sorted(glob.glob(str(pattern), recursive=True))]
        files = [path for path in paths if path.is_file()]
        if not files:
            if named.is_dir():
                raise InputError(
                    f"batch {pattern}", "is a folder", f"files, or a quoted pattern such as '{named.as_posix()}/*'"
                )
            raise InputError(f"batch {pattern}", "names no file", "files, or a quoted pattern such as 'scans/*.h5'")
        found.update(dict.fromkeys(files))
    return list(found)


def plan(
    files: Sequence[Path], work: str, verb: str, arguments: Sequence[str], out: Path, *, runs: bool
) -> list[BatchJob]:
    """The jobs of a batch: those that an earlier call finished have their answers already.

    Parameters
    ----------
    files : sequence of Path
        The inputs. Files of equal name and content are one job.
    work : str
        ``"module:function"`` that runs a verb; see :class:`~diptych.runtime.schedulers.tasks.Task`.
    verb, arguments
        What is run on each file. The content of files that the arguments name counts, not their names.
    out : Path
        Folder of the batch.
    runs : bool
        Whether the verb writes a run directory.
    """
    version = versions()["diptych"]
    said = [sha256(Path(each)) if Path(each).is_file() else each for each in arguments]
    jobs: dict[str, BatchJob] = {}
    for file in files:
        named = json.dumps([verb, said, version, file.name, sha256(file)])
        digest = hashlib.sha256(named.encode()).hexdigest()
        name = f"{file.stem}-{digest[:10]}"
        call = {
            "verb": verb,
            "file": str(file.resolve()),
            "arguments": [str(Path(each).resolve()) if Path(each).is_file() else each for each in arguments],
            "run": str((out / RUNS / name).resolve()) if runs else None,
            "answer": str((out / ANSWERS / f"{digest}.json").resolve()),
        }
        job = BatchJob(file, digest, Task(name, work, call, str((out / LOGS / f"{name}.txt").resolve())))
        jobs.setdefault(digest, _with_earlier(job, out))
    return list(jobs.values())


def prepare(out: Path) -> None:
    """Make the folder of a batch."""
    try:
        for name in (ANSWERS, LOGS):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}", f"cannot be used as a folder ({error.strerror})", "", "Name another.") from (
            None
        )


def keep(path: Path, values: Mapping[str, Any]) -> None:
    """Write the answer of a finished job; a worker does this before it answers, so that the answer cannot be lost."""
    write_text(path, json.dumps({"values": plain(values)}, indent=2, allow_nan=False) + "\n")


def write_table(out: Path, jobs: Sequence[BatchJob]) -> None:
    """Write ``batch.csv`` (one line per file) and ``batch.json`` (with what the verb returned)."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(jobs[0].row()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(job.row() for job in jobs)
    write_text(out / TABLE[0], stream.getvalue())
    rows = [{**job.row(), "values": job.values} for job in jobs]
    write_text(out / TABLE[1], json.dumps(plain(rows), indent=2, allow_nan=False) + "\n")


def _with_earlier(job: BatchJob, out: Path) -> BatchJob:
    try:
        record = json.loads((out / ANSWERS / f"{job.digest}.json").read_text(encoding="utf-8"))
        values = dict(record["values"])
    except (OSError, ValueError, KeyError, TypeError):
        return job
    run = job.task.arguments["run"]
    if run is not None and not Path(run).is_dir():
        # The run directory was deleted: its results are asked for again.
        return job
    return replace(job, state="done", kept=True, values=values)
