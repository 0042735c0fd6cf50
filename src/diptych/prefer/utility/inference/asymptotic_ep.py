"""Cavity variances in the limit of many observations and dimensions, where expectation propagation is too slow.

For random latents of d coordinates, n observations of precision w reduce the variance of the utility of a latent to the
fraction c of its prior value, which solves

    c = 1 / (1 + n / d  s^2 w / (1 + s^2 w c))

for large n and d (Tulino and Verdu, Random Matrix Theory and Wireless Communications, 2004, section 2.4). Proposed
latents are not random: they lie near the posterior mean, where the utility is known best. That lowers all cavity
variances by about the same factor, which is estimated from the first observations.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.utility.gp.covariance import Hyperparameters, Prior
from diptych.prefer.utility.inference.ep import cavity_precisions
from diptych.prefer.utility.inference.laplace import GaussianApproximation

Array = NDArray[np.float64]

TYPICAL_VARIANCE = 1.5
"""Typical variance of utility and threshold, sigma^2, at which the precision of a rating is evaluated."""

MIN_FACTOR, MAX_FACTOR = 0.05, 2.0
"""Bounds of the cavity factor."""


def posterior_fraction(count: int, dimension: int, scale: float) -> float:
    """Ratio c of posterior to prior variance of the utility of a random latent.

    Parameters
    ----------
    count : int
        Number of observations of other random latents.
    dimension : int
        Length d of a latent.
    scale : float
        s, logits.
    """
    strength = scale**2 * 0.25 / math.sqrt(1 + math.pi / 4 * scale**2 * TYPICAL_VARIANCE)
    known = strength * count / dimension
    # The positive root of strength c^2 + (1 + known - strength) c - 1 = 0.
    half = (1 + known - strength) / 2
    return (math.sqrt(half**2 + strength) - half) / strength


def fit_cavity_factor(prior: Prior, approximation: GaussianApproximation, dimension: int) -> float:
    """Median ratio of the cavity variances to those for random latents.

    Parameters
    ----------
    prior : Prior
        Prior of the m predictors.
    approximation : GaussianApproximation
        By :func:`~diptych.prefer.utility.inference.ep.expectation_propagation`; for other approximations the result is
        the default.
    dimension : int
        Length d of a latent.
    """
    single = prior.design.choice < 0
    if approximation.sites is None or not single.any():
        return Hyperparameters().cavity_factor
    cavity = 1 / cavity_precisions(prior, approximation)[1]
    usual = prior.prior_variances() * posterior_fraction(len(cavity), dimension, prior.hyperparameters.scale)
    return float(np.clip(np.median((cavity / usual)[single]), MIN_FACTOR, MAX_FACTOR))


def cavity_variances(prior: Prior, dimension: int) -> Array:
    """Cavity variances (m,) of many observations, logits^2."""
    hyperparameters = prior.hyperparameters
    fraction = posterior_fraction(len(prior.design), dimension, hyperparameters.scale)
    return prior.prior_variances() * hyperparameters.cavity_factor * fraction
