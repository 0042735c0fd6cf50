"""A queue of jobs: heavy ones run one at a time, light ones at once."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from diptych.runtime.cpu.parallel import torch_threads
from diptych.runtime.jobs.context import Finished
from diptych.runtime.jobs.job import Job, explain
from diptych.runtime.jobs.process import run_in_process


class JobQueue:
    """Runs job functions in threads of this process, or each in a process of its own.

    Use it as a context manager, or call :meth:`close` at the end.

    Examples
    --------
    >>> with JobQueue() as jobs:  # doctest: +SKIP
    ...     job = jobs.submit("diptych.ptycho.jobs:run_reconstruction", {"file": "scan.npz"}, title="scan")
    ...     job.wait()
    ...     job.state, job.folder
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._waiting: queue.SimpleQueue[tuple[Job, bool, int | None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._serve, name="diptych-jobs", daemon=True)
        self._worker.start()
        self._light: list[threading.Thread] = []
        self._closed = False

    def submit(
        self,
        work: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        title: str = "",
        heavy: bool = True,
        process: bool = False,
        threads: int | None = None,
    ) -> Job:
        """Queue a call of a job function.

        Parameters
        ----------
        work : str
            ``"module:function"`` of a function that takes ``arguments`` and ``context`` and returns a
            :class:`~diptych.runtime.jobs.context.Finished`.
        arguments : mapping, optional
            Keyword arguments; JSON values where ``process`` is on.
        title : str
            What lists show; the function's name without it.
        heavy : bool
            Wait for the heavy jobs submitted before. Off: start at once.
        process : bool
            Run in a process of its own, which ends with this one at the latest.
        threads : int, optional
            torch's CPU threads for this job alone.

        Raises
        ------
        RuntimeError
            If the queue is closed.
        """
        if self._closed:
            raise RuntimeError("the job queue is closed")
        job = Job(work, arguments or {}, title or work.rpartition(":")[2])
        self._jobs.append(job)
        if heavy:
            self._waiting.put((job, process, threads))
        else:
            thread = threading.Thread(target=run, args=(job, process, threads), daemon=True)
            self._light = [each for each in self._light if each.is_alive()] + [thread]
            thread.start()
        return job

    def jobs(self) -> list[Job]:
        """All jobs, in the order of their submission."""
        return list(self._jobs)

    def close(self, timeout: float = 30.0) -> None:
        """Cancel what is queued or running and wait, at most ``timeout`` seconds for each thread."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        self._waiting.put(None)
        for thread in (self._worker, *self._light):
            thread.join(timeout)

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while (entry := self._waiting.get()) is not None:
            run(*entry)


def run(job: Job, process: bool, threads: int | None) -> None:
    """Run a job to its end in this thread, or in a process that this thread waits for; nothing is raised."""
    if not job.begin():
        return
    if process:
        run_in_process(job, threads)
        return
    try:
        with torch_threads(threads):
            finished = resolve(job.work)(**job.arguments, context=job.context())
        assert isinstance(finished, Finished), f"{job.work} returned a {type(finished).__name__}"
    except KeyboardInterrupt:
        job.end()
    except BaseException as error:
        job.log_traceback(traceback.format_exc())
        job.end(error=explain(error))
    else:
        job.end(finished)


def resolve(work: str) -> Any:
    """The function that ``"module:function"`` names."""
    module, _, name = work.partition(":")
    return getattr(import_module(module), name)
