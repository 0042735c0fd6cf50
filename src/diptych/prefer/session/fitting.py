"""Fits in the background: requested after every judgement, run one at a time, and replaced as a whole."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, UnavailableError
from diptych.prefer.judgement import Frame, Observations
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.session.changes import Changes
from diptych.prefer.session.previews import Previews, Rows
from diptych.prefer.session.worker import SynchronousWorker, Worker
from diptych.prefer.utility import OK, TRAINING, UNTRAINED, Fitted, Utility, expected
from diptych.runtime.cpu.parallel import one_blas_thread
from diptych.runtime.logging import LOGGER
from diptych.runtime.provenance import utc_now

LIKED = 64
"""Number of liked latents, the latest ones, that proposals may start from."""

MANY = 1500
"""Judgements above which a fit uses all cores."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The result of a fit.

    Attributes
    ----------
    fitted : Fitted or None
        None unless the status is ``ok``.
    observations : Observations
        What was fitted.
    status : str
        ``untrained``, ``ok`` or ``unavailable: reason``.
    liked : (k, d)
        Latents rated good or chosen, in decreasing order of expected utility.
    feature_rows : (m,) int
        Rows of the image features that the fit used; empty for image generators.
    seconds : float
        Duration of the fit.
    time : str
        When it ended, UTC.
    """

    fitted: Fitted | None
    observations: Observations
    status: str = UNTRAINED
    liked: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    feature_rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: float = 0.0
    time: str = ""

    @property
    def position(self) -> int:
        """Position in the ledger up to which judgements were fitted; 0 before the first fit."""
        return self.observations.position


class Fitting:
    """Fits a utility model whenever the judgements of the ledger change.

    Parameters
    ----------
    ledger : Ledger
    utility : Utility
    frame : Frame
    dimension : int
    worker : Worker
        Where fits run. With a :class:`SynchronousWorker` they run when :attr:`current` is read, and only then.
    changes : Changes
        Notified after each fit.
    use_legacy : bool
        Use imported rows.
    interval : float
        Shortest time between the starts of two fits, s.
    previews : Previews, optional
        Image features of settings.
    """

    def __init__(
        self,
        ledger: Ledger,
        utility: Utility,
        frame: Frame,
        dimension: int,
        worker: Worker,
        changes: Changes,
        *,
        use_legacy: bool,
        interval: float,
        previews: Previews | None = None,
    ) -> None:
        self._ledger, self._utility, self._worker, self._changes = ledger, utility, worker, changes
        self._interval, self._previews = interval, previews
        self._data = frame, dimension, use_legacy
        nothing = Observations(np.zeros((0, dimension), np.float32), np.zeros(0, np.int64), [])
        self._snapshot = Snapshot(None, nothing)
        self._checked = 0
        self._began = -np.inf
        self._changed = threading.Condition()
        self._requested, self._pending, self._delayed = 0, False, False
        self._stop, self._resumed = threading.Event(), threading.Event()
        self._resumed.set()
        self._problem: BaseException | None = None

    @property
    def current(self) -> Snapshot:
        """The last fit; in a synchronous session, the fit to the ledger as it is now."""
        if isinstance(self._worker, SynchronousWorker) and self._has_news():
            self._snapshot = self._fit()
            self._changes.notify("fit", self._snapshot.position)
        return self._snapshot

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (during the first fit), ``ok`` or ``unavailable: reason``."""
        known = self.current.status
        return TRAINING if self._pending and known == UNTRAINED else known

    @property
    def delayed(self) -> bool:
        """Whether the next fit waits for the shortest time between fits."""
        return self._delayed

    def resume(self) -> None:
        """Request a fit to earlier judgements; :meth:`first` waits for it."""
        if isinstance(self._worker, SynchronousWorker):
            return
        self._resumed.clear()
        self.request()

    def first(self) -> Snapshot:
        """The last fit, after waiting for the fit to the judgements before the session was resumed."""
        self._resumed.wait()
        return self.current

    def request(self) -> None:
        """Request a fit. If one is running, exactly one more follows it."""
        if isinstance(self._worker, SynchronousWorker):
            return
        with self._changed:
            self._requested += 1
            if not self._pending:
                self._pending = True
                self._worker.submit("fit", self._run)

    def refresh(self) -> None:
        """Request a fit if another process has added judgements since the last one."""
        if not isinstance(self._worker, SynchronousWorker) and self._has_news():
            self.request()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every judgement made so far is fitted.

        Raises
        ------
        UnavailableError
            If the last fit failed, or the time (s) is over.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, timeout):
                raise UnavailableError(f"the fit is still running after {timeout:g} s. Wait longer.")
        problem = self._problem
        if isinstance(problem, DiptychError):
            raise problem
        if problem is not None:
            raise UnavailableError(
                f"the fit of the utility model failed ({type(problem).__name__}: {problem})."
            ) from problem

    def close(self) -> None:
        """Start no fit that is delayed, and release those who wait for one."""
        self._stop.set()
        self._resumed.set()

    def _has_news(self) -> bool:
        """Whether there is a judgement or an undo after the last fit."""
        after = max(self._checked, self._snapshot.position)
        events = list(self._ledger.events(after))
        if any(event.kind in ("judgement", "undo") for event in events):
            return True
        self._checked = events[-1].position if events else after
        return False

    def _run(self) -> None:
        """One fit on the thread of the worker, followed by another if judgements were added meanwhile."""
        requested = 0
        try:
            self._delayed = True
            self._stop.wait(max(0.0, self._began + self._interval - time.monotonic()))
            self._delayed = False
            self._began = time.monotonic()
            with self._changed:
                requested = self._requested
            if not self._stop.is_set():
                self._snapshot = self._fit()
                self._problem = None
        except Exception as error:
            LOGGER.error("[train] failed: %s", error)
            self._problem = error
            self._snapshot = replace(self._snapshot, status=f"unavailable: {error}", fitted=None)
        finally:
            self._resumed.set()
            with self._changed:
                self._pending = self._requested > requested and not self._stop.is_set()
                if self._pending:
                    self._worker.submit("fit", self._run)
                self._changed.notify_all()
            self._changes.notify("fit", self._snapshot.position)

    def _fit(self) -> Snapshot:
        frame, dimension, use_legacy = self._data
        observations = self._ledger.observations(frame, dimension, use_legacy=use_legacy)
        rows = np.zeros(0, np.int64) if self._previews is None else self._previews.of_fit(observations)
        began = time.perf_counter()
        LOGGER.debug("[train] start: %s, %s", self._utility.name, observations.report)
        with one_blas_thread(len(observations.terms) <= MANY):
            if self._previews is None:
                status = self._utility.add(observations)
            else:
                status = self._utility.add(observations, self._previews.snapshot(rows))
            fitted = self._utility.fitted if status == OK else None
            liked = liked_latents(observations, fitted)
        seconds = time.perf_counter() - began
        log_fit(self._utility.name, fitted, observations, status, seconds)
        return Snapshot(fitted, observations, status, liked, rows, seconds, utc_now())


def log_fit(name: str, fitted: Fitted | None, observations: Observations, status: str, seconds: float) -> None:
    """Log the lines of a fit: one of the model, with the regularisation ``lam`` where it has one, and the duration."""
    tag, lam, rows = ("xgb" if name == "xgboost" else name), getattr(fitted, "lam", None), len(observations.terms)
    known = "" if lam is None else f" lam={lam:g}"
    LOGGER.info("[%s] fit rows=%d d=%d%s status=%s", tag, rows, observations.latents.shape[1], known, status)
    LOGGER.info("[train-summary] %s rows=%d%s ms=%.0f status=%s", tag, rows, known, 1000 * seconds, status)
    LOGGER.info("[perf] train %.3f s", seconds)


def liked_latents(observations: Observations, fitted: Fitted | None) -> NDArray[np.float32]:
    """The last :data:`LIKED` latents (k, d) that were rated good or with four stars or more, or chosen. They are in
    decreasing order of expected utility; before the first fit, the latest come first.
    """
    found: dict[int, None] = {}
    for term in reversed(observations.terms):
        good = (
            (term.kind == "rate" and term.value)
            or (term.kind == "stars" and term.value > 3)
            or term.kind in ("pair", "best")
        )
        if good:
            found.setdefault(term.rows[0])
        if len(found) == LIKED:
            break
    latents = np.asarray(observations.latents[list(found)])
    if fitted is None or not len(latents):
        return latents
    # Fitted.score would also compute standard deviations, which is too slow after every judgement.
    return latents[np.argsort(-expected(fitted, latents), kind="stable")]
