"""Moments of a normal density times a likelihood of one number.

All likelihoods here are log-concave, and so are the products: each is summed about its mode on nodes that lie close
there and far apart in the tails, so that a step of one logit and a normal density twenty times as wide are both
resolved.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Array = NDArray[np.float64]

_PLACES = np.linspace(-1.0, 1.0, 49)
_STEP = float(_PLACES[1]) - float(_PLACES[0])

TAIL = 8.0
"""Standard deviations of the normal density to which sums go."""

HALVINGS = 40
"""Of the bracket of a mode: what is left would make sums jitter, and sweeps with them."""

CLIMBS = 16


def within(mean: Array, variance: Array, low: Array, high: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Log of the integral, mean and variance (m,) of N(mean, variance) times P(low < . < high)^weight of a logistic
    variable.

    Parameters
    ----------
    mean, variance, low, high, weight : (m,)
        Limits may be infinite.
    """
    # The mode, where the likelihood's slope, which is no steeper than its weight, outweighs the pull of the mean.
    left, right = mean - weight * variance, mean + weight * variance
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        rises = weight * (expit(high - middle) + expit(low - middle) - 1) > (middle - mean) / variance
        left, right = np.where(rises, middle, left), np.where(rises, right, middle)
    mode = (left + right) / 2
    above, below = expit(high - mode), expit(low - mode)
    bend = weight * (above * (1 - above) + below * (1 - below))

    def logarithm(x: Array) -> Array:
        over, under = high[:, None] - x, low[:, None] - x
        tail = np.log1p(-np.exp(np.minimum(low - high, 0.0)))[:, None]
        return np.asarray(weight[:, None] * (log_expit(over) + log_expit(-under) + tail))

    return _summed(mean, variance, mode, bend, logarithm)


def outdone(mean: Array, variance: Array) -> tuple[Array, Array, Array]:
    """The same of N(mean, variance) times exp(-exp(-x)), the probability that a Gumbel variable stays below x."""
    # The slope of the logarithm is convex: Newton's method climbs to its root from the left, and does not overshoot.
    mode = np.maximum(mean, -np.log(np.maximum(-mean / variance, 1.0)))
    for _ in range(CLIMBS):
        odds = np.exp(-mode)
        mode = mode + (odds - (mode - mean) / variance) / (odds + 1 / variance)
    return _summed(mean, variance, mode, np.exp(-mode), lambda x: -np.exp(np.minimum(-x, 700.0)))


def _summed(
    mean: Array, variance: Array, mode: Array, bend: Array, logarithm: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    width = 1 / np.sqrt(bend + 1 / variance)
    reach = np.arcsinh(TAIL * np.sqrt(variance) / width)[:, None]
    x = mode[:, None] + width[:, None] * np.sinh(reach * _PLACES)
    logs = logarithm(x) - 0.5 * (x - mean[:, None]) ** 2 / variance[:, None] + np.log(np.cosh(reach * _PLACES))
    top = logs.max(axis=1, keepdims=True)
    parts = np.exp(logs - top)
    total = parts.sum(axis=1)
    parts /= total[:, None]
    centre = (parts * x).sum(axis=1)
    size = np.log(total * reach[:, 0] * width * _STEP / np.sqrt(2 * math.pi * variance))
    return top[:, 0] + size, centre, (parts * (x - centre[:, None]) ** 2).sum(axis=1)
