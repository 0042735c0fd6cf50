"""Work behind the caller's back: one thread per kind of work, one job at a time, the most urgent first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from diptych.errors import InputError

Result = TypeVar("Result")

URGENT, AHEAD = 0, 1
"""Somebody waits for it; it is made ahead."""


class Worker(Protocol):
    """Does jobs in the order of urgency."""

    @property
    def running(self) -> str:
        """What is being done; empty when nothing is."""
        ...

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is still to be done, in order."""
        ...

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Have ``work`` done; the future holds what it returns or raises."""
        ...

    def close(self) -> None:
        """Finish the job at hand and cancel the others."""
        ...


class Background:
    """A thread of its own, started by the first job.

    Parameters
    ----------
    name : str
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: list[tuple[int, int, str, Callable[[], Any], Future[Any]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._running = ""

    @property
    def running(self) -> str:
        """What is being done; empty when nothing is."""
        return self._running

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is still to be done, in order."""
        with self._changed:
            return tuple(job[2] for job in sorted(self._jobs))

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Have ``work`` done; the future holds what it returns or raises.

        Raises
        ------
        InputError
            The worker is closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise InputError("the session is closed; open it again.")
            heapq.heappush(self._jobs, (urgency, next(self._order), name, work, future))
            if self._thread is None:
                # A daemon, so that a session left open keeps no program from ending.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Finish the job at hand and cancel the others."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job[4].cancel()
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = ""
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, self._running, work, future = heapq.heappop(self._jobs)
            finish(work, future)
            # Neither the work nor its result may live on here while the thread waits for the next.
            del work, future


class AtOnce:
    """Does every job in the caller, before :meth:`submit` returns."""

    running = ""
    waiting: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._closed = False

    def submit(self, name: str, work: Callable[[], Result], urgency: int = URGENT) -> Future[Result]:
        """Have ``work`` done; the future holds what it returned or raised."""
        if self._closed:
            raise InputError("the session is closed; open it again.")
        future: Future[Result] = Future()
        finish(work, future)
        return future

    def close(self) -> None:
        """Take no more jobs."""
        self._closed = True


def finish(work: Callable[[], Result], future: Future[Result]) -> None:
    """Do the work of a future that was not cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
