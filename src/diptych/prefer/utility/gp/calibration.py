"""Calibration of predicted probabilities by leave-one-out predictions.

The model is linear, but a person's utility usually has a peak, so it is linear only locally and the model is
overconfident when it extrapolates: its logits are too large by up to a factor of two. They are multiplied by a factor
that is fitted to the ratings.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diptych.prefer.utility.gp.covariance import Hyperparameters, Prior
from diptych.prefer.utility.inference.ep import cavity_precisions
from diptych.prefer.utility.inference.laplace import GaussianApproximation

PRIOR_DEVIATION = 0.25
"""Standard deviation of the Gaussian prior of the factor about the default of
:class:`~diptych.prefer.utility.gp.covariance.Hyperparameters`."""


def calibration_factor(prior: Prior, approximation: GaussianApproximation) -> float:
    """The maximum a posteriori t for P(good) = logistic(t x), with x the leave-one-out logit of each rating.

    The leave-one-out predictor is the cavity distribution of its site (Rasmussen and Williams, 2006, section 3.6).

    Parameters
    ----------
    prior : Prior
        Prior of the m predictors.
    approximation : GaussianApproximation
        By :func:`~diptych.prefer.utility.inference.ep.expectation_propagation`; for other approximations and without
        ratings the result is the default.
    """
    design = prior.design
    good, bad = np.isposinf(design.high), np.isneginf(design.low)
    binary = (design.screen >= 0) & (good != bad)
    if approximation.sites is None or not binary.any():
        return Hyperparameters().calibration
    variance, cavity = cavity_precisions(prior, approximation)
    shift = approximation.sites[1][: len(design)]
    low, high = prior.limits()
    distance = (approximation.eta / variance - shift) / cavity - np.where(good, low, high)
    logit = np.where(good, 1.0, -1.0) * distance / np.sqrt(1 + math.pi / 8 / cavity)
    return _fit_factor(logit[binary], design.weight[binary])


def _fit_factor(logit: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The mode of t by Newton's method; ``logit`` (k,) is that of the observed answer. The objective is concave."""
    usual = Hyperparameters().calibration
    found = usual
    for _ in range(50):
        wrong = expit(-found * logit)
        gradient = float((weight * wrong * logit).sum()) - (found - usual) / PRIOR_DEVIATION**2
        curvature = float((weight * wrong * (1 - wrong) * logit**2).sum()) + 1 / PRIOR_DEVIATION**2
        found += gradient / curvature
        if abs(gradient / curvature) < 1e-10:
            break
    return max(found, 0.0)
