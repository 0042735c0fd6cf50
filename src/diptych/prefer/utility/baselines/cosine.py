"""Likeness in direction to what was liked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.baselines.kernels import Pulls
from diptych.prefer.utility.learner import Learner, marks

SHARPNESS = 5.0


class Cosine(Learner):
    """Sum of marks x logistic(5 cosine)."""

    name = "cosine"

    def _learn(self, observations: Observations) -> Pulls | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone give no likeness to anything liked; rate an image or choose between two"
        return Pulls(observations.latents, rows, _pull, _slope)


def _pull(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(expit(SHARPNESS * cosine))


def _slope(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    return SHARPNESS * _pull(cosine) * (1 - _pull(cosine))
