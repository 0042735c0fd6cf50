"""Ridge regression on marks of +1 and -1, in the dual, its penalty by leave-one-out error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.gp.gram import Gram, spread
from diptych.prefer.utility.learner import Learner, Linear, marked_right, marks

PENALTIES = np.logspace(-2, 3, 11)
"""Tried in units of the mean square of a latent's kernel, which is 1."""


class Ridge(Learner):
    """alpha = (K + penalty / weight)^-1 y with K = X X' / d + 1 (the constant), w = X' alpha / d."""

    name = "ridge"

    def __init__(self) -> None:
        super().__init__()
        self._gram = Gram()

    def _forget(self) -> None:
        super()._forget()
        self._gram = Gram()

    def _learn(self, observations: Observations) -> Linear | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone tell ridge regression nothing; rate an image or choose between two"
        self._gram.update(observations.latents)
        kernel = self._gram.dense()[np.ix_(rows.index, rows.index)] + 1
        alpha = _dual(kernel, rows.mark, rows.weight)
        total = np.bincount(rows.index, alpha, len(observations.latents))
        weights = spread(total[None] / observations.latents.shape[1], observations.latents)[0]
        return Linear(weights, float(alpha.sum()), marked_right(rows.mark, kernel @ alpha))


def _dual(kernel: NDArray[np.float64], mark: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Alpha of the penalty with the least weighted squared leave-one-out residuals alpha_i / [(K + penalty)^-1]_ii."""
    root = np.sqrt(weight)
    values, vectors = eigh(root[:, None] * kernel * root, check_finite=False)
    inner = vectors.T @ (root * mark)
    best, least = np.zeros(len(mark)), np.inf
    for penalty in PENALTIES:
        shrunk = 1 / (np.maximum(values, 0) + penalty)
        alpha = vectors @ (shrunk * inner)
        error = float(((alpha / (vectors**2 @ shrunk)) ** 2).sum())
        if error < least:
            best, least = root * alpha, error
    return best
