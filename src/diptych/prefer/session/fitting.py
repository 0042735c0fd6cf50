"""Fits in the background: asked for after every judgement, one at a time, swapped in whole."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, UnavailableError
from diptych.prefer.judgement import Frame, Observations
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.session.worker import AtOnce, Worker
from diptych.prefer.spaces.image_features import ImageFeatures as Gallery
from diptych.prefer.utility import OK, TRAINING, UNTRAINED, Fitted, Utility, expected
from diptych.runtime.logging import LOGGER
from diptych.runtime.parallel import one_blas_thread
from diptych.runtime.provenance import utc_now

LIKED = 64
"""Liked latents that proposals may start from: the last ones."""

MANY = 1500
"""Judgements above which a fit takes all cores."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What was learned, all of one moment.

    Attributes
    ----------
    fitted : Fitted or None
        None unless the status is ``ok``.
    observations : Observations
        What it was learned from.
    status : str
        ``untrained``, ``ok`` or ``unavailable: why``.
    liked : (k, d)
        Latents judged good or chosen, the one furthest along the direction thought best first.
    seconds : float
        That the fit took.
    time : str
        When it ended, UTC.
    """

    fitted: Fitted | None
    observations: Observations
    status: str = UNTRAINED
    liked: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    seconds: float = 0.0
    time: str = ""

    @property
    def position(self) -> int:
        """Position in the ledger up to which judgements were learned from; 0 before the first fit."""
        return self.observations.position


class Learning:
    """Keeps what is learned up with the ledger.

    Parameters
    ----------
    ledger : Ledger
    utility : Utility
    frame : Frame
    dimension : int
    worker : Worker
        Where fits run. With :class:`AtOnce` they run when :attr:`current` is asked for, and only then.
    use_legacy : bool
        Let imported rows in.
    interval : float
        Least time between the starts of two fits, s.
    gallery : Gallery, optional
        Of settings: what pictures look like; those that were judged before, or by other processes, are read from the
        ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        utility: Utility,
        frame: Frame,
        dimension: int,
        worker: Worker,
        *,
        use_legacy: bool,
        interval: float,
        gallery: Gallery | None = None,
    ) -> None:
        self._ledger, self._utility, self._worker, self._interval = ledger, utility, worker, interval
        self._gallery = gallery
        self._what = frame, dimension, use_legacy
        nothing = Observations(np.zeros((0, dimension), np.float32), np.zeros(0, np.int64), [])
        self._snapshot = Snapshot(None, nothing)
        self._looked = 0
        self._began = -np.inf
        self._changed = threading.Condition()
        self._wanted, self._pending, self._delayed = 0, False, False
        self._stop, self._resumed = threading.Event(), threading.Event()
        self._resumed.set()
        self._problem: BaseException | None = None

    @property
    def current(self) -> Snapshot:
        """What is known now; where nothing runs in the background, of the ledger as it stands."""
        if isinstance(self._worker, AtOnce) and self._news():
            self._snapshot = self._fit()
        return self._snapshot

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (the first fit is under way), ``ok`` or ``unavailable: why``."""
        known = self.current.status
        return TRAINING if self._pending and known == UNTRAINED else known

    @property
    def delayed(self) -> bool:
        """Whether the next fit waits for the least time between fits."""
        return self._delayed

    def resume(self) -> None:
        """Have earlier judgements learned from; :meth:`known_at_first` waits for that."""
        if isinstance(self._worker, AtOnce):
            return
        self._resumed.clear()
        self.request()

    def known_at_first(self) -> Snapshot:
        """What is known, once what had been said before the session was resumed is learned from (or that failed)."""
        self._resumed.wait()
        return self.current

    def request(self) -> None:
        """Have the judgements learned from, soon; a fit under way is not started twice, but followed by another."""
        if isinstance(self._worker, AtOnce):
            return
        with self._changed:
            self._wanted += 1
            if not self._pending:
                self._pending = True
                self._worker.submit("fit", self._learn)

    def refresh(self) -> None:
        """Request a fit where another process has judged since the last one."""
        if not isinstance(self._worker, AtOnce) and self._news():
            self.request()

    def wait(self, timeout: float | None = None) -> None:
        """Until every judgement made so far is learned from.

        Raises
        ------
        UnavailableError
            The last fit failed, or the time is over.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, timeout):
                raise UnavailableError(f"the fit is still under way after {timeout:g} s; wait longer.")
        problem = self._problem
        if isinstance(problem, DiptychError):
            raise problem
        if problem is not None:
            raise UnavailableError(
                f"the fit of the utility model failed ({type(problem).__name__}: {problem})."
            ) from problem

    def close(self) -> None:
        """Start no fit that still waits for its time, and let nobody wait for one."""
        self._stop.set()
        self._resumed.set()

    def _news(self) -> bool:
        """Whether anything was said, or taken back, since the last fit."""
        after = max(self._looked, self._snapshot.position)
        events = list(self._ledger.events(after))
        if any(event.kind != "screen" for event in events):
            return True
        self._looked = events[-1].position if events else after
        return False

    def _learn(self) -> None:
        """One fit on the worker's thread, and another after it where judgements came in meanwhile."""
        wanted = 0
        try:
            self._delayed = True
            self._stop.wait(max(0.0, self._began + self._interval - time.monotonic()))
            self._delayed = False
            self._began = time.monotonic()
            with self._changed:
                wanted = self._wanted
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
                self._pending = self._wanted > wanted and not self._stop.is_set()
                if self._pending:
                    self._worker.submit("fit", self._learn)
                self._changed.notify_all()

    def _fit(self) -> Snapshot:
        frame, dimension, use_legacy = self._what
        observations = self._ledger.observations(frame, dimension, use_legacy=use_legacy)
        if self._gallery is not None:
            self._look(observations, self._gallery)
        began = time.perf_counter()
        LOGGER.debug("[train] start: %s, %s", self._utility.name, observations.report)
        with one_blas_thread(len(observations.terms) <= MANY):
            known = () if self._gallery is None else (self._gallery.snapshot(),)
            status = self._utility.add(observations, *known)
            fitted = self._utility.fitted if status == OK else None
            liked = liked_latents(observations, fitted)
        seconds = time.perf_counter() - began
        LOGGER.info(
            "[train-summary] %s rows=%d ms=%.0f status=%s",
            self._utility.name,
            len(observations.terms),
            1000 * seconds,
            status,
        )
        return Snapshot(fitted, observations, status, liked, seconds, utc_now())

    def _look(self, observations: Observations, gallery: Gallery) -> None:
        """Have the pictures known that were judged."""
        for name, latent in zip(observations.ids, observations.latents, strict=True):
            if latent not in gallery and (image := self._ledger.candidate(name).image) is not None:
                gallery.keep(latent, image)


def liked_latents(observations: Observations, fitted: Fitted | None) -> NDArray[np.float32]:
    """The last :data:`LIKED` latents (k, d) that were judged good, given four stars or more, or chosen; the best or
    latest first.
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
    # Scores come with deviations, which take longer than a new judgement may take to be learned.
    return latents[np.argsort(-expected(fitted, latents), kind="stable")]
