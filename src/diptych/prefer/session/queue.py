"""Images decoded ahead and shown one at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from diptych.errors import UnavailableError
from diptych.prefer.judgement import Candidate
from diptych.prefer.session.worker import AHEAD, SynchronousWorker, Worker, closed_error
from diptych.runtime.logging import LOGGER


class Queue:
    """Keeps up to ``size`` images ready while it is in use. Each is proposed when its decode starts, from the last fit
    at that time.

    Parameters
    ----------
    size : int
    make : callable
        Propose and decode one candidate; called on the worker.
    show : callable
        Record the candidate as shown.
    worker : Worker
        The worker that decodes. With a :class:`SynchronousWorker` nothing is decoded ahead.
    """

    def __init__(
        self, size: int, make: Callable[[], Candidate], show: Callable[[Candidate], Candidate], worker: Worker
    ) -> None:
        self.size = size
        self._make, self._show, self._worker = make, show, worker
        self._ready: deque[Candidate] = deque()
        self._changed = threading.Condition()
        self._coming = 0
        self._problem: BaseException | None = None

    @property
    def ready(self) -> int:
        """Number of images that are ready to be shown."""
        return len(self._ready)

    @property
    def coming(self) -> int:
        """Number of images that are being decoded, or waiting for it."""
        return self._coming

    def fill(self) -> None:
        """Request the missing images, in the background."""
        if isinstance(self._worker, SynchronousWorker):
            return
        with self._changed:
            missing = self.size - len(self._ready) - self._coming
            self._coming += max(missing, 0)
        for _ in range(missing):
            self._worker.submit("decode ahead", self._add, AHEAD).add_done_callback(self._ended)

    def take(self, timeout: float | None = None) -> Candidate:
        """The next image, recorded as a screen of its own; the queue is filled up in the background.

        Parameters
        ----------
        timeout : float, optional
            Longest time to wait for a decode, s; 0 does not wait, None waits without limit.

        Raises
        ------
        UnavailableError
            If no image is ready in time.
        InputError
            If the session is closed. Errors of a decode are raised here, too.
        """
        if isinstance(self._worker, SynchronousWorker):
            return self._show(self._worker.submit("decode", self._make).result())
        self.fill()
        with self._changed:
            if not self._changed.wait_for(lambda: self._ready or self._problem is not None, timeout):
                raise UnavailableError(
                    f"no image is ready after {timeout:g} s; {self._coming} are being decoded. Ask again."
                )
            if not self._ready:
                problem, self._problem = self._problem, None
                assert problem is not None
                raise problem
            candidate = self._ready.popleft()
        self.fill()
        LOGGER.info("[queue] taken, %d ready", self.ready)
        return self._show(candidate)

    def _add(self) -> None:
        made, problem = None, None
        try:
            made = self._make()
        except Exception as error:
            problem = error
        with self._changed:
            self._coming -= 1
            if made is not None:
                self._ready.append(made)
            self._problem = problem
            self._changed.notify_all()

    def _ended(self, job: Future[None]) -> None:
        if not job.cancelled():
            return
        with self._changed:
            self._coming -= 1
            self._problem = closed_error()
            self._changed.notify_all()
