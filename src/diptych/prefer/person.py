"""A simulated person with a linear utility, for trying a session without a user."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Candidate

REMEMBERED = 16
"""Number of recent images that set the threshold between good and bad."""

NOISE = 0.3
"""Scale of the logistic noise of a rating, sigma."""


class LinearPerson:
    """Has the utility w.z for one random direction w, and rates an image good if its utility plus noise exceeds the
    mean utility of the last 16 images.

    Parameters
    ----------
    dimension : int
        Length d of a latent.
    seed : int
        Seed of the direction and of the noise.
    usual : (k, d) array, optional
        Random latents over which the utility is standardised; not needed for standard normal ones.
    """

    def __init__(self, dimension: int, seed: int = 0, usual: NDArray[np.float64] | None = None) -> None:
        self._rng = np.random.default_rng([seed, dimension])
        taste = self._rng.standard_normal(dimension)
        self._taste = taste / np.linalg.norm(taste)
        values = np.zeros(0) if usual is None else usual @ self._taste
        self._level, self._scale = (float(values.mean()), float(values.std())) if len(values) else (0.0, 1.0)
        self._seen: deque[float] = deque(maxlen=REMEMBERED)

    def utility(self, candidate: Candidate) -> float:
        """True utility, sigma: over random latents its mean is 0 and its standard deviation 1."""
        return (float(candidate.latent @ self._taste) - self._level) / self._scale

    def rate(self, candidate: Candidate) -> bool:
        """Whether the image is rated good; its utility enters the threshold of later ratings."""
        utility = self.utility(candidate)
        level = float(np.mean(self._seen)) if self._seen else 0.0
        self._seen.append(utility)
        return bool(utility - level + NOISE * self._rng.logistic() > 0)
