"""Nearness to what was liked, by a power of the distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.baselines.kernels import Pulls
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.learner import Learner, marks

Array = NDArray[np.float64]


class Distance(Learner):
    """Sum of marks x exp(-(distance / s)^p), s the median distance between judged latents: those of noise are all about
    sqrt(2 d) apart.

    Parameters
    ----------
    exponent : float
        p.
    """

    name = "distance"

    def __init__(self, exponent: float = 2.0) -> None:
        super().__init__()
        self.exponent = exponent
        self._gram = Gram()

    def _forget(self) -> None:
        super()._forget()
        self._gram = Gram()

    def _learn(self, observations: Observations) -> Pulls | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone give no distance to anything liked; rate an image or choose between two"
        self._gram.update(observations.latents)
        inner = self._gram.dense()
        length = np.sqrt(np.diag(inner))
        apart = np.maximum(2 - 2 * inner / np.outer(length, length), 0.0)
        upper = apart[np.triu_indices(len(apart), 1)]
        # Squared distance in units of d; a lone latent has no neighbours, and noise would lie at 2.
        usual = float(np.median(upper)) if len(upper) else 2.0
        power = self.exponent / 2

        def pull(cosine: Array) -> Array:
            return np.exp(-((np.maximum(2 - 2 * cosine, 1e-9) / usual) ** power))

        def slope(cosine: Array) -> Array:
            squared = np.maximum(2 - 2 * cosine, 1e-9) / usual
            return np.exp(-(squared**power)) * power * squared ** (power - 1) * 2 / usual

        return Pulls(observations.latents, rows, pull, slope)
