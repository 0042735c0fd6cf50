"""Logistic regression with a constant threshold: the default model without drift, adaptation or uncertainty."""

from __future__ import annotations

import numpy as np

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.diagnostics.agreement import train_agreement
from diptych.prefer.utility.gp.covariance import Contrasted, Prior, Widths
from diptych.prefer.utility.gp.gram import Gram, spread
from diptych.prefer.utility.inference.laplace import Plain, find_mode
from diptych.prefer.utility.inference.observations import predictors
from diptych.prefer.utility.learner import Learner, Linear

DENSE = 1200


class Logistic(Learner):
    """Most probable weights for a prior N(0, s^2 / d) of each, all kinds of judgement included.

    Parameters
    ----------
    scale : float
        s, logits.
    """

    name = "logistic"

    def __init__(self, scale: float = 3.0) -> None:
        super().__init__()
        self._widths = Widths(scale=scale, walk=0.0, offset=0.0, adaptation=0.0)
        self._gram = Gram()

    def _forget(self) -> None:
        super()._forget()
        self._gram = Gram()

    def _learn(self, observations: Observations) -> Linear:
        given = predictors(observations)
        self._gram.update(observations.latents)
        prior = Prior(Contrasted(self._gram, given), given, self._widths)
        limits = prior.limits()
        mode = find_mode(prior, Plain(given, *limits), np.zeros(len(given)), iterative=len(given) > DENSE)
        scale, dimension = self._widths.scale, observations.latents.shape[1]
        weights = spread((prior.weights.T @ mode.alpha)[None] * (scale**2 / dimension), observations.latents)[0]
        threshold = prior.threshold_between(np.zeros(1, np.int64), prior.screens)[0] * scale**2
        return Linear(weights, float(threshold @ mode.alpha[prior.rated]), train_agreement(mode.eta, given, *limits))
