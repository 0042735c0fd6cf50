"""A simulated person with a linear taste, to try a session without anybody."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Candidate

REMEMBERED = 16
NOISE = 0.3
"""Scale of the logistic noise of an answer, sigma."""


class LinearPerson:
    """Likes one random direction; calls good what is above the mean of the last 16 images, with some noise.

    Parameters
    ----------
    dimension : int
        d.
    seed : int
        Of taste and luck.
    usual : (k, d) array, optional
        Random latents, over which utility is standardised; normal ones are so by themselves.
    """

    def __init__(self, dimension: int, seed: int = 0, usual: NDArray[np.float64] | None = None) -> None:
        self._rng = np.random.default_rng([seed, dimension])
        taste = self._rng.standard_normal(dimension)
        self._taste = taste / np.linalg.norm(taste)
        values = np.zeros(0) if usual is None else usual @ self._taste
        self._level, self._spread = (float(values.mean()), float(values.std())) if len(values) else (0.0, 1.0)
        self._seen: deque[float] = deque(maxlen=REMEMBERED)

    def utility(self, candidate: Candidate) -> float:
        """True utility; over random latents its mean is 0 and its spread 1 (sigma)."""
        return (float(candidate.latent @ self._taste) - self._level) / self._spread

    def rate(self, candidate: Candidate) -> bool:
        """Whether it is called good; it counts for the next answers."""
        utility = self.utility(candidate)
        level = float(np.mean(self._seen)) if self._seen else 0.0
        self._seen.append(utility)
        return bool(utility - level + NOISE * self._rng.logistic() > 0)
