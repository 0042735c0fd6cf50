"""Image match: step by step towards a picture of the person, in the background."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Candidate
from diptych.prefer.match import Attempt, Match
from diptych.prefer.session.session import Session

AUTO = 5
"""Steps of "Auto"."""


class Matching:
    """A match of one target; every method may take as long as a decode: call it in a thread.

    Parameters
    ----------
    session : Session
    target : (H, W, 3) uint8
    """

    def __init__(self, session: Session, target: NDArray[np.uint8]) -> None:
        self._session, self._target = session, target
        self._lock = threading.Lock()
        self._match: Match | None = None

    def step(self, count: int = 1) -> Attempt:
        """Go on by some decodes; returns the last attempt."""
        with self._lock:
            match = self._begun()
            for _ in range(count):
                match.step()
            return match.last

    def reset(self) -> Attempt:
        """Start again from the anchor."""
        with self._lock:
            self._match = None
            return self._begun().last

    @property
    def best(self) -> Attempt | None:
        """The attempt of lowest error."""
        return None if self._match is None else self._match.best

    @property
    def last(self) -> NDArray[np.uint8]:
        """The picture of the last attempt; the target before the first."""
        return self._target if self._match is None else self._match.last.image

    @property
    def target(self) -> NDArray[np.uint8]:
        """The target in the size of the decoder."""
        return self._target if self._match is None else self._match.target

    @property
    def readout(self) -> str:
        """The mean squared errors, as the page shows them."""
        match = self._match
        if match is None:
            return "MSE: n/a"
        return f"MSE: {match.last.error:.1f} (best {match.best.error:.1f}, {len(match.errors)} decodes)"

    def candidate(self) -> Candidate:
        """The best attempt as a picture to judge."""
        with self._lock:
            best = self._begun().best
            about: dict[str, Any] = {"proposal": "match", "mse": round(best.error, 3)}
            return Candidate(best.latent, self._session.frame, best.image, provenance=about)

    def _begun(self) -> Match:
        if self._match is None:
            self._match = self._session.match(self._target)
        return self._match
