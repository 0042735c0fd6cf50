"""How far the model's own probabilities can be believed, judged by what it would have said of each rating without it.

The utility is taken to be linear. For a person with a peak it is so near at hand alone, and the model is too sure of
what it extrapolates: its logits are too large by up to a factor of two. So they are multiplied by a number that the
ratings decide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diptych.prefer.utility.gp.covariance import Prior, Widths
from diptych.prefer.utility.inference.ep import cavity_precisions
from diptych.prefer.utility.inference.laplace import Mode

SPREAD = 0.25
"""Standard deviation of the trust before any rating, about that of
:class:`~diptych.prefer.utility.gp.covariance.Widths`."""


def trust(prior: Prior, mode: Mode) -> float:
    """The most probable t for P(good) = logistic(t x), with x what moments matched without each rating foretell of it.

    Parameters
    ----------
    prior : Prior
        The m statements and their covariance.
    mode : Mode
        By :func:`~diptych.prefer.utility.inference.ep.match_moments`.
    """
    given = prior.given
    good, bad = np.isposinf(given.high), np.isneginf(given.low)
    asked = (given.screen >= 0) & (good != bad)
    if mode.sites is None or not asked.any():
        return Widths().trust
    variance, cavity = cavity_precisions(prior, mode)
    shift = mode.sites[1][: len(given)]
    low, high = prior.limits()
    distance = (mode.eta / variance - shift) / cavity - np.where(good, low, high)
    logit = np.where(good, 1.0, -1.0) * distance / np.sqrt(1 + math.pi / 8 / cavity)
    return _shrunk(logit[asked], given.weight[asked])


def _shrunk(logit: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The mode of t, by Newton's method on a concave function; ``logit`` (k,) is that of the answer that came."""
    usual = Widths().trust
    found = usual
    for _ in range(50):
        wrong = expit(-found * logit)
        slope = float((weight * wrong * logit).sum()) - (found - usual) / SPREAD**2
        bend = float((weight * wrong * (1 - wrong) * logit**2).sum()) + 1 / SPREAD**2
        found += slope / bend
        if abs(slope / bend) < 1e-10:
            break
    return max(found, 0.0)
