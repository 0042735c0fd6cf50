"""Quadrature: moments of a normal density times a likelihood of one variable.

All likelihoods are log-concave, and so are the products. Nodes are dense about the mode and sparse in the tails, so
that both a likelihood that changes within one logit and a much wider normal density are resolved.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Array = NDArray[np.float64]

_NODES = np.linspace(-1.0, 1.0, 49)
_STEP = float(_NODES[1]) - float(_NODES[0])

TAIL = 8.0
"""Standard deviations of the normal density that are integrated over."""

BISECTIONS = 40
"""Bisections of the bracket of a mode; fewer would leave noise that keeps EP from converging."""

NEWTON_STEPS = 16


def interval_moments(
    mean: Array, variance: Array, low: Array, high: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """Log integral, mean and variance (m,) of N(mean, variance) times P(low < x < high)^weight for a logistic variable
    x.

    Parameters
    ----------
    mean, variance, low, high, weight : (m,)
        Limits may be infinite.
    """
    # Bisection for the mode; the gradient of the log-likelihood is bounded by its weight.
    left, right = mean - weight * variance, mean + weight * variance
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        rises = weight * (expit(high - middle) + expit(low - middle) - 1) > (middle - mean) / variance
        left, right = np.where(rises, middle, left), np.where(rises, right, middle)
    mode = (left + right) / 2
    above, below = expit(high - mode), expit(low - mode)
    curvature = weight * (above * (1 - above) + below * (1 - below))

    def logarithm(x: Array) -> Array:
        over, solve_transposed = high[:, None] - x, low[:, None] - x
        tail = np.log1p(-np.exp(np.minimum(low - high, 0.0)))[:, None]
        return np.asarray(weight[:, None] * (log_expit(over) + log_expit(-solve_transposed) + tail))

    return _integrate(mean, variance, mode, curvature, logarithm)


def gumbel_moments(mean: Array, variance: Array) -> tuple[Array, Array, Array]:
    """The same for N(mean, variance) times exp(-exp(-x)), the Gumbel cumulative distribution function."""
    # The gradient of the logarithm is convex, so Newton's method converges monotonically from the left.
    mode = np.maximum(mean, -np.log(np.maximum(-mean / variance, 1.0)))
    for _ in range(NEWTON_STEPS):
        odds = np.exp(-mode)
        mode = mode + (odds - (mode - mean) / variance) / (odds + 1 / variance)
    return _integrate(mean, variance, mode, np.exp(-mode), lambda x: -np.exp(np.minimum(-x, 700.0)))


def _integrate(
    mean: Array, variance: Array, mode: Array, curvature: Array, logarithm: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    width = 1 / np.sqrt(curvature + 1 / variance)
    reach = np.arcsinh(TAIL * np.sqrt(variance) / width)[:, None]
    x = mode[:, None] + width[:, None] * np.sinh(reach * _NODES)
    logs = logarithm(x) - 0.5 * (x - mean[:, None]) ** 2 / variance[:, None] + np.log(np.cosh(reach * _NODES))
    top = logs.max(axis=1, keepdims=True)
    parts = np.exp(logs - top)
    total = parts.sum(axis=1)
    parts /= total[:, None]
    centre = (parts * x).sum(axis=1)
    size = np.log(total * reach[:, 0] * width * _STEP / np.sqrt(2 * math.pi * variance))
    return top[:, 0] + size, centre, (parts * (x - centre[:, None]) ** 2).sum(axis=1)
