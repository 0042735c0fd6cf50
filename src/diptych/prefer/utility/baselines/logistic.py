"""Logistic regression: the default model with a constant threshold and without adaptation or uncertainty."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.baselines.linear import Linear
from diptych.prefer.utility.diagnostics.agreement import train_agreement
from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram, spread
from diptych.prefer.utility.inference.laplace import ObservationLikelihood, find_mode
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.options import Options

MAX_DENSE = 1200
"""Number of observations above which conjugate gradients are used."""


class LogisticOptions(Options):
    """Options of logistic regression."""

    scale: float = Field(3.0, gt=0, description="Prior standard deviation s of the utility, logits")


class Logistic(Learner):
    """Maximum a posteriori weights with a prior N(0, s^2 / d) for each; all kinds of judgement are used."""

    name = "logistic"

    def __init__(self, options: LogisticOptions | None = None) -> None:
        super().__init__()
        self.options = options or LogisticOptions()
        self._hyperparameters = Hyperparameters(scale=self.options.scale, walk=0.0, offset=0.0, adaptation=0.0)
        self._gram = Gram()

    def _reset(self) -> None:
        super()._reset()
        self._gram = Gram()

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> Linear:
        design = build_design(observations)
        self._gram.update(observations.latents)
        prior = Prior(ObservationGram(self._gram, design), design, self._hyperparameters)
        limits = prior.limits()
        likelihood = ObservationLikelihood(design, *limits)
        mode = find_mode(prior, likelihood, np.zeros(len(design)), iterative=len(design) > MAX_DENSE)
        scale, dimension = self._hyperparameters.scale, observations.latents.shape[1]
        weights = spread((prior.weights.T @ mode.alpha)[None] * (scale**2 / dimension), observations.latents)[0]
        threshold = prior.threshold_between(np.zeros(1, np.int64), prior.screens)[0] * scale**2
        agreement = train_agreement(mode.eta, design, *limits)
        return Linear(weights, float(threshold @ mode.alpha[prior.rated]), agreement)


def _build(options: LogisticOptions, cube: Cube) -> Logistic:
    return Logistic(options)


MODEL = UtilityModel(
    "logistic", "Logistic regression with a constant threshold", LogisticOptions, space="sphere", build=_build
)
