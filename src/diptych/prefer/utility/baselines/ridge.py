"""Kernel ridge regression on marks of +1 and -1, with the penalty that minimizes the leave-one-out error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.baselines.linear import Linear
from diptych.prefer.utility.baselines.marks import marks, sign_agreement
from diptych.prefer.utility.gp.gram import Gram, spread
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.registry import NoOptions

PENALTIES = np.logspace(-2, 3, 11)
"""Penalties tried, in units of the mean squared norm of a latent's features, which is 1."""


class Ridge(Learner):
    """alpha = (K + penalty / weight)^-1 y with K = X X' / d + 1 (the 1 for the constant), and w = X' alpha / d."""

    name = "ridge"

    def __init__(self) -> None:
        super().__init__()
        self._gram = Gram()

    def _reset(self) -> None:
        super()._reset()
        self._gram = Gram()

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> Linear | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone do not determine ridge regression; rate an image or choose between two"
        self._gram.update(observations.latents)
        kernel = self._gram.dense()[np.ix_(rows.index, rows.index)] + 1
        alpha, penalty = _solve(kernel, rows.mark, rows.weight)
        total = np.bincount(rows.index, alpha, len(observations.latents))
        weights = spread(total[None] / observations.latents.shape[1], observations.latents)[0]
        return Linear(weights, float(alpha.sum()), sign_agreement(rows.mark, kernel @ alpha), penalty)


def _solve(
    kernel: NDArray[np.float64], mark: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Alpha (m,) for the penalty with the smallest weighted sum of squared leave-one-out residuals, and that penalty.
    The residuals are alpha_i / [(K + penalty)^-1]_ii.
    """
    root = np.sqrt(weight)
    values, vectors = eigh(root[:, None] * kernel * root, check_finite=False)
    inner = vectors.T @ (root * mark)
    best, least, chosen = np.zeros(len(mark)), np.inf, float(PENALTIES[0])
    for penalty in PENALTIES:
        inverse = 1 / (np.maximum(values, 0) + penalty)
        alpha = vectors @ (inverse * inner)
        error = float(((alpha / (vectors**2 @ inverse)) ** 2).sum())
        if error < least:
            best, least, chosen = root * alpha, error, float(penalty)
    return best, chosen


def _build(options: NoOptions, cube: Cube) -> Ridge:
    return Ridge()


MODEL = UtilityModel("ridge", "Ridge regression on good and bad marks", NoOptions, space="sphere", build=_build)
