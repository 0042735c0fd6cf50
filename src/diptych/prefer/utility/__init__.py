"""Utility models: what a person likes, learned from judgements.

A :class:`Utility` is fitted to judgements; the result of a fit, :class:`Fitted`, is immutable, so it can be used from
any thread while the next fit runs. :data:`UTILITIES` lists the models:

* :mod:`~diptych.prefer.utility.linear_gp` (``contrastive``): Gaussian process with a linear kernel on the sphere;
default
  for images.
* :mod:`~diptych.prefer.utility.settings_gp` (``surface``): Gaussian process on the cube of reconstruction settings.
* :mod:`~diptych.prefer.utility.baselines`: ridge and logistic regression, boosted trees, kernel sums.
"""

from __future__ import annotations

from diptych.prefer.utility.base import (
    OK,
    TRAINING,
    UNTRAINED,
    Advice,
    Advises,
    Agreement,
    CrossValidates,
    Expects,
    Fitted,
    Utility,
    expected,
)
from diptych.prefer.utility.registry import UTILITIES, UtilityModel, make_utility

NAMES = UTILITIES.names()
"""Names of the models."""

OF_CUBES = ("surface",)
"""Names of the models of settings; all others are for latents on a sphere."""

__all__ = [
    "OK",
    "TRAINING",
    "UNTRAINED",
    "UTILITIES",
    "Advice",
    "Advises",
    "Agreement",
    "CrossValidates",
    "Expects",
    "Fitted",
    "Utility",
    "UtilityModel",
    "expected",
    "make_utility",
]
