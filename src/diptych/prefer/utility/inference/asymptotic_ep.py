"""Variances of the statements' cavities where there are too many to match moments: how uncertain each is when all
others are known.

Of random latents of d numbers, n statements of precision w leave the part c of a latent's utility open, by the fixed
point

    c = 1 / (1 + n / d  s^2 w / (1 + s^2 w c))

(large n and d: Tulino and Verdu, Random Matrix Theory and Wireless Communications, 2004, section 2.4). What is proposed
is not random: it lies near what is liked, which is known best. That lowers all variances by about one factor, which the
first statements tell.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.utility.gp.covariance import Prior, Widths
from diptych.prefer.utility.inference.ep import cavity_precisions
from diptych.prefer.utility.inference.laplace import Mode

Array = NDArray[np.float64]

VARIANCE = 1.5
"""Usual variance of utility and threshold, sigma^2, that decides how much a rating tells."""

LEAST, MOST = 0.05, 2.0
"""Limits of the factor."""


def openness(count: int, dimension: int, scale: float) -> float:
    """C: the part of a random latent's utility that ``count`` statements about others of as many numbers as
    ``dimension`` leave open.
    """
    strength = scale**2 * 0.25 / math.sqrt(1 + math.pi / 4 * scale**2 * VARIANCE)
    known = strength * count / dimension
    # The positive root of strength c^2 + (1 + known - strength) c - 1 = 0.
    half = (1 + known - strength) / 2
    return (math.sqrt(half**2 + strength) - half) / strength


def narrowness(prior: Prior, mode: Mode, dimension: int) -> float:
    """The factor by which cavities are narrower than of random latents: the median over these statements.

    Parameters
    ----------
    prior : Prior
        The m statements and their covariance.
    mode : Mode
        By :func:`~diptych.prefer.utility.inference.ep.match_moments`.
    dimension : int
        Of the latents.
    """
    single = prior.given.choice < 0
    if mode.sites is None or not single.any():
        return Widths().narrow
    cavity = 1 / cavity_precisions(prior, mode)[1]
    usual = prior.spreads() * openness(len(cavity), dimension, prior.widths.scale)
    return float(np.clip(np.median((cavity / usual)[single]), LEAST, MOST))


def cavities(prior: Prior, dimension: int) -> Array:
    """Variances (m,) of the cavities of many statements, logits^2."""
    return prior.spreads() * prior.widths.narrow * openness(len(prior.given), dimension, prior.widths.scale)
