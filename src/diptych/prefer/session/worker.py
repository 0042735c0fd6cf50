"""Background work: one thread per kind of work, one job at a time, the most urgent job first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from diptych.errors import InputError

Result = TypeVar("Result")

URGENT, AHEAD, SPARE = 0, 1, 2
"""Urgency of a job that a caller waits for, of one that is done ahead, and of one for when there is no other."""


class Worker(Protocol):
    """Runs jobs in order of urgency."""

    @property
    def running(self) -> str:
        """Name of the job that is running; empty if none is."""
        ...

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the waiting jobs, in order."""
        ...

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Queue a job; the future has what ``work`` returns or raises."""
        ...

    def close(self, patience: float | None = None) -> bool:
        """Cancel the waiting jobs, and wait for the end of the running one, at most ``patience`` s. Returns whether it
        has ended; otherwise it goes on in its thread, and its result is discarded.
        """
        ...

    def at_end(self, work: Callable[[], object]) -> None:
        """Call ``work`` when the running job of a closed worker has ended; at once if none is running."""
        ...


class BackgroundWorker:
    """A worker with a thread of its own, which is started by the first job.

    Parameters
    ----------
    name : str
        Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: list[tuple[int, int, str, Callable[[], Any], Future[Any]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._running = ""
        self._last: Callable[[], object] | None = None

    @property
    def running(self) -> str:
        """Name of the job that is running; empty if none is."""
        return self._running

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the waiting jobs, in order."""
        with self._changed:
            return tuple(job[2] for job in sorted(self._jobs))

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Queue a job; the future has what ``work`` returns or raises.

        Raises
        ------
        InputError
            If the worker is closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise closed_error()
            heapq.heappush(self._jobs, (urgency, next(self._order), name, work, future))
            if self._thread is None:
                # A daemon thread, so that an open session does not keep the program from exiting.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def close(self, patience: float | None = None) -> bool:
        """See :meth:`Worker.close`."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job[4].cancel()
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(patience)
        return not self._thread.is_alive()

    def at_end(self, work: Callable[[], object]) -> None:
        """See :meth:`Worker.at_end`."""
        with self._changed:
            if self._thread is not None and self._thread.is_alive() and self._running:
                self._last = work
                return
        work()

    def _run(self) -> None:
        self._work()
        if self._last is not None:
            self._last()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = ""
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, self._running, work, future = heapq.heappop(self._jobs)
            finish(work, future)
            # Release references to the job and its result while the thread waits for the next one.
            del work, future


class SynchronousWorker:
    """Runs every job in the caller, before :meth:`submit` returns."""

    running = ""
    waiting: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._closed = False

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Run a job; the future has what it returned or raised."""
        if self._closed:
            raise closed_error()
        future: Future[Result] = Future()
        finish(work, future)
        return future

    def close(self, patience: float | None = None) -> bool:
        """Accept no more jobs."""
        self._closed = True
        return True

    def at_end(self, work: Callable[[], object]) -> None:
        """Call ``work``: no job is running."""
        work()


def closed_error() -> InputError:
    """The error for using a closed session."""
    return InputError("session", "is closed", remedy="Open it again.")


def finish(work: Callable[[], Result], future: Future[Result]) -> None:
    """Run a job and set its future, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
