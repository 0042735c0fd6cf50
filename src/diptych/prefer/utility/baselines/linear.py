"""A linear utility without uncertainty: the result of ridge and logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from diptych.prefer.utility.base import Agreement

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linear:
    """A utility w.z + c with point estimates of w and c.

    Attributes
    ----------
    weights : (d,)
        w.
    constant : float
        c.
    train : Agreement
        Agreement with the judgements that it was fitted to.
    lam : float or None
        Penalty of the weights; None if it was not chosen by the fit.
    """

    weights: Array
    constant: float
    train: Agreement
    lam: float | None = None

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        return len(self.weights)

    @property
    def reach(self) -> float:
        """NaN, because the scale is unknown; 0 if all weights vanish."""
        return float("nan") if np.linalg.norm(self.weights) > 1e-12 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along the weights."""
        return self.weights / np.linalg.norm(self.weights)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Utility (k,) of latents (k, d), and NaN."""
        values = np.atleast_2d(np.asarray(latents, dtype=np.float64)) @ self.weights + self.constant
        return values, np.full(len(values), np.nan)

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """Logistic function of the utility (k,); not calibrated."""
        return np.asarray(expit(self.score(latents)[0]))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """The unit weights plus noise N(0, 1 / d), (count, d)."""
        return noisy(self.direction(), rng, count)


def noisy(direction: Array, rng: np.random.Generator, count: int) -> Array:
    """``count`` copies (count, d) of a unit vector (d,), each plus noise N(0, 1 / d)."""
    d = len(direction)
    return np.asarray(direction + rng.standard_normal((count, d)) / math.sqrt(d))
