"""A verb on many files, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.errors import InputError
from diptych.runtime.jobs.context import Finished, JobContext, ending
from diptych.runtime.jobs.runs import options_from
from diptych.runtime.logging import LOGGER, log_file
from diptych.runtime.progress import Progress
from diptych.runtime.schedulers import SchedulerOptions, Task, run_tasks
from diptych.runtime.schedulers.batch import BatchJob, find_files, plan, prepare, write_table

WORK = "diptych.cli.batch:run_verb"

RUN_VERBS = ("reconstruct", "train")
"""Verbs that write a run directory: each file gets one below ``runs`` in the folder of the batch."""

VERBS = (*RUN_VERBS, "info", "check", "evaluate", "convert", "validate", "prepare", "bound")
"""Verbs that read one file each; those that this version does not have are refused by name."""

_OWN = ("--run", "--out", "--resume", "--overwrite", "--json")

Show = Callable[[Sequence[BatchJob]], None]


@dataclass(frozen=True)
class FinishedBatch(Finished):
    """What :func:`run_batch` returns: counts, rows and paths as ``data``, and the jobs.

    ``data["jobs"]`` has one row per file; ``data["failed"]`` names those that failed and why.
    """

    jobs: tuple[BatchJob, ...] = ()


def run_batch(
    files: Sequence[str | Path] | str | Path,
    verb: str = "reconstruct",
    arguments: Sequence[str] = (),
    *,
    out: str | Path = "batch",
    scheduler: SchedulerOptions | Mapping[str, Any] | None = None,
    context: JobContext | None = None,
    show: Show | None = None,
) -> FinishedBatch:
    """Run a verb on every file. A file that fails is reported with its log, and stops no other one.

    Results are named by the content of their file, the verb, its arguments and the version of diptych: the same call
    again runs only what is missing or has failed. The folder ``out`` then holds ``batch.csv`` and ``batch.json`` (one
    row per file), ``runs/`` (run directories), ``answers/`` (what the verb returned) and ``logs/``.

    Parameters
    ----------
    files : path, pattern, or a sequence of them
        For instance ``"scans/*.h5"``.
    verb : str
        One of :data:`VERBS`.
    arguments : sequence of str
        Further arguments of the verb, as on the command line: ``("--engine", "rpie")``.
    out : path
        Folder of the batch. Workers on other machines must see it, and the files, under the same paths.
    scheduler : SchedulerOptions or mapping, optional
        Where the jobs run, and how often a failed one is run again.
    context : JobContext, optional
        Progress (``values`` has ``failed``) and cancel token.
    show : callable, optional
        Called with all jobs after each change.

    Raises
    ------
    InputError
        If a pattern names no file, the verb is not one of those, or the scheduler cannot be reached.
    KeyboardInterrupt
        On Ctrl-C; finished jobs are kept.

    Examples
    --------
    >>> from diptych.ptycho.jobs import run_batch
    >>> done = run_batch("scans/*.npz", scheduler={"scheduler": "processes"})  # doctest: +SKIP
    >>> done.data["failed"]  # doctest: +SKIP
    {}
    """
    context = context or JobContext()
    options = options_from(SchedulerOptions, scheduler)
    if verb not in VERBS:
        raise InputError(f"batch: verb {verb!r}", "cannot be run on many files", f"one of {', '.join(VERBS)}")
    if taken := [each for each in arguments if each.split("=")[0] in _OWN]:
        raise InputError(
            f"batch: {taken[0]}", "is set by the batch for each file", remedy=f"Leave out {', '.join(taken)}."
        )
    found = find_files([files] if isinstance(files, str | Path) else files)
    folder = Path(out)
    prepare(folder)
    jobs = plan(found, WORK, verb, arguments, folder, runs=verb in RUN_VERBS)
    board = _Board(jobs, folder, context, show)
    with log_file(folder / "log.txt"):
        LOGGER.info("batch %s: %d files, %d kept; %s", verb, len(jobs), len(board.kept), options)
        try:
            board.update()
            for answer in run_tasks(board.missing, options, context.cancel, board.started):
                board.put(answer.key, board.jobs[answer.key].answered(answer))
                if answer.error:
                    LOGGER.warning("%s: %s", board.jobs[answer.key].file, answer.error)
        except KeyboardInterrupt:
            board.forget_running()
            raise KeyboardInterrupt(board.left()) from None
        finally:
            board.forget_running()
    return board.finished()


class _Board:
    """The jobs by key, and who is told of changes."""

    def __init__(self, jobs: Sequence[BatchJob], folder: Path, context: JobContext, show: Show | None) -> None:
        self.jobs = {job.task.key: job for job in jobs}
        self.folder, self._context, self._show = folder, context, show
        self.kept = [job for job in jobs if job.kept]
        self.missing = [job.task for job in jobs if not job.kept]

    def started(self, task: Task) -> None:
        """Note that a worker of this machine has begun a job."""
        self.jobs[task.key] = replace(self.jobs[task.key], state="running")
        if self._show is not None:
            self._show(tuple(self.jobs.values()))

    def put(self, key: str, job: BatchJob) -> None:
        """Replace a job and tell everyone."""
        self.jobs[key] = job
        self.update()

    def update(self) -> None:
        """Write the table, and report progress."""
        jobs = tuple(self.jobs.values())
        write_table(self.folder, jobs)
        if self._show is not None:
            self._show(jobs)
        failed = sum(job.state == "failed" for job in jobs)
        ended = sum(job.state in ("done", "failed") for job in jobs)
        self._context.progress(Progress("batch", ended, len(jobs), {"failed": float(failed)}))

    def forget_running(self) -> None:
        """What has no answer at the end has not run."""
        for key, job in self.jobs.items():
            if job.state == "running":
                self.jobs[key] = replace(job, state="waiting")
        write_table(self.folder, tuple(self.jobs.values()))

    def left(self) -> str:
        """What was done before an interruption, and how to go on."""
        ended = sum(job.state in ("done", "failed") for job in self.jobs.values())
        return (
            f"interrupted; {ended} of {len(self.jobs)} files are finished, and their results kept in {self.folder}; "
            f"the same command continues."
        )

    def finished(self) -> FinishedBatch:
        """Counts, rows and paths."""
        jobs = tuple(self.jobs.values())
        waiting = sum(job.state == "waiting" for job in jobs)
        data = {
            "folder": str(self.folder),
            "files": len(jobs),
            "done": sum(job.state == "done" for job in jobs),
            "kept": len(self.kept),
            "waiting": waiting,
            "failed": {str(job.file): job.error for job in jobs if job.state == "failed"},
            "jobs": [{**job.row(), "values": job.values} for job in jobs],
        }
        return FinishedBatch(data, ending(waiting > 0), jobs)
