"""One job: its state, what it last reported, and who listens."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diptych.errors import DiptychError
from diptych.runtime.interrupts import Cancel
from diptych.runtime.jobs.context import Finished, JobContext
from diptych.runtime.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = Literal["queued", "running", "done", "failed", "cancelled"]
Listener = Callable[["Job"], None]

PREVIEW_SECONDS = 1.0
"""Shortest time between two previews of a job, s."""

PREVIEW_SHARE = 0.01
"""Largest share of the time of a job that previews take."""

ENDED = ("done", "failed", "cancelled")
log = logging.getLogger("diptych")


class Pace:
    """When the next preview is due: after :data:`PREVIEW_SECONDS`, and later where previews take long.

    Parameters
    ----------
    clock : callable
        Gives the time, s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._due = clock, float("-inf")

    @property
    def due(self) -> bool:
        """Whether a preview may be made now."""
        return self._clock() >= self._due

    @contextmanager
    def making(self) -> Iterator[None]:
        """Make a preview; the next one is due once what this took is :data:`PREVIEW_SHARE` of the time."""
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._due = began + max(PREVIEW_SECONDS, took / PREVIEW_SHARE)


class Job:
    """A call of a job function, made by :meth:`~diptych.runtime.jobs.queue.JobQueue.submit`.

    Attributes
    ----------
    id : str
        Unique name.
    title : str
        What a list of jobs shows.
    work : str
        ``"module:function"`` of the job function.
    arguments : dict
        Its keyword arguments, JSON values where it runs in a process.
    state : str
        ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``. A cancelled job that had a state to save has a
        result nevertheless.
    progress : Progress or None
        The last report.
    preview : dict of str to (h, w) float32 arrays
        The images of the last :class:`~diptych.runtime.progress.Preview` by name, renewed at most every second, and
        less often where making them takes more than 1 % of the time; empty where there are none.
    folder : Path or None
        The run directory, once it is open.
    result : dict or None
        What the function returned, as JSON values.
    error : str
        Why the job failed.
    """

    def __init__(self, work: str, arguments: Mapping[str, Any], title: str) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.work, self.arguments, self.title = work, dict(arguments), title
        self.state: State = "queued"
        self.progress: Progress | None = None
        self.preview: dict[str, NDArray[Any]] = {}
        self.folder: Path | None = None
        self.result: dict[str, Any] | None = None
        self.error = ""
        self._token, self._ended, self._lock = Cancel(), threading.Event(), threading.Lock()
        self._listeners: list[Listener] = []
        self._pace = Pace()

    @property
    def log(self) -> Path | None:
        """The log file in the run directory; None before there is one."""
        return None if self.folder is None else self.folder / "log.txt"

    def cancel(self) -> None:
        """Ask the job to stop. One that is queued is cancelled at once; a running one saves its best state first."""
        self._token.request()
        with self._lock:
            waiting = self.state == "queued"
            if waiting:
                self.state = "cancelled"
        if waiting:
            self._ended.set()
            self._tell()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended, at most ``timeout`` seconds; whether it has."""
        return self._ended.wait(timeout)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener(job)`` after every change, from the thread of the job; return a function that ends this.

        An exception in a listener is logged and does not affect the job.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def context(self) -> JobContext:
        """What the job function is given."""
        return JobContext(self.report, self._token, self.opened)

    # What the runners call, in the job's thread.

    def begin(self) -> bool:
        """Go from queued to running; False when the job was cancelled before."""
        with self._lock:
            if self.state != "queued":
                return False
            self.state = "running"
        self._tell()
        return True

    def report(self, progress: Progress, images: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Note progress, with a preview where one is due; ``images`` where it was computed in another process."""
        self.progress = progress
        if images:
            self.preview = dict(images)
        elif progress.preview is not None and self._pace.due:
            with self._pace.making():
                self.preview = preview_of(progress) or self.preview
        self._tell()

    def opened(self, folder: Path) -> None:
        """Note the run directory and write the job's record into it."""
        from diptych.runtime.jobs.records import write_record

        self.folder = folder
        write_record(self)
        self._tell()

    def log_traceback(self, text: str) -> None:
        """Append a traceback to the log in the run directory, where there is one."""
        if text and self.log is not None and self.log.is_file():
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(text.rstrip("\n") + "\n")

    def end(self, finished: Finished | None = None, error: str = "") -> None:
        """Note how the job ended: with a result, with an error, or (neither) cancelled without anything to save."""
        if finished is not None:
            self.result = dict(finished.data)
        self.error = error
        done = finished is not None and finished.status == "done"
        self.state = "failed" if error else "done" if done else "cancelled"
        self._ended.set()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            try:
                listener(self)
            except Exception:
                log.exception("a listener of job %s failed", self.id)


def preview_of(progress: Progress) -> dict[str, NDArray[Any]]:
    """The images of a report by name; computing them costs time, so callers ask only when a preview is due."""
    if progress.preview is None:
        return {}
    found = progress.preview()
    return {each.name: getattr(found, each.name) for each in fields(found)}


def explain(error: BaseException) -> str:
    """One line for the person: the message of an error that diptych raised on purpose, else its kind too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, DiptychError) else f"internal error: {type(error).__name__}: {text}"
