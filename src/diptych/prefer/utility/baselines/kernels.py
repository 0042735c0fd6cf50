"""Utilities that are sums of kernels centred on the judged latents; nothing is optimized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from diptych.prefer.spaces.sphere import on_sphere
from diptych.prefer.utility.base import Agreement
from diptych.prefer.utility.baselines.linear import noisy
from diptych.prefer.utility.baselines.marks import Marks, sign_agreement
from diptych.prefer.utility.gp.gram import cross, spread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KernelSum:
    """Sum of weight x mark x f(cosine with the marked latent), for latents of length sqrt(d).

    Attributes
    ----------
    latents : (n, d) float32
        Judged latents.
    rows : Marks
        Their marks.
    kernel, slope : callable
        f and its derivative, as functions of cosines.
    """

    latents: NDArray[np.float32]
    rows: Marks
    kernel: Callable[[Array], Array]
    slope: Callable[[Array], Array]

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        return int(self.latents.shape[1])

    @property
    def reach(self) -> float:
        """NaN, because the scale is unknown; 0 if the gradient vanishes."""
        return float("nan") if np.linalg.norm(self._gradient()) > 1e-12 else 0.0

    @property
    def train(self) -> Agreement:
        """Agreement of the signs of the score and the marks."""
        index, which = np.unique(self.rows.index, return_inverse=True)
        return sign_agreement(self.rows.mark, self.score(self.latents[index])[0][which])

    def direction(self) -> Array:
        """Unit vector (d,) along the gradient at the mean of the good latents."""
        gradient = self._gradient()
        return gradient / np.linalg.norm(gradient)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """The sum (k,) for latents (k, d), and NaN."""
        values = self.kernel(self._cosines(np.atleast_2d(np.asarray(latents, dtype=np.float64)))) @ (
            self.rows.mark * self.rows.weight
        )
        return values, np.full(len(values), np.nan)

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """Logistic function of the score (k,); not calibrated."""
        return np.asarray(expit(self.score(latents)[0]))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """The direction plus noise N(0, 1 / d), (count, d)."""
        return noisy(self.direction(), rng, count)

    def _cosines(self, latents: Array) -> Array:
        index, which = np.unique(self.rows.index, return_inverse=True)
        return cross(on_sphere(latents), np.asarray(on_sphere(self.latents[index]), dtype=np.float32))[:, which]

    def _gradient(self) -> Array:
        weighted = self.rows.mark * self.rows.weight
        middle = self._summed(np.maximum(weighted, 0.0))
        middle = middle if np.any(middle) else -self._summed(weighted)
        if not np.any(middle):
            return middle
        return self._summed(weighted * self.slope(self._cosines(middle[None])[0]))

    def _summed(self, weights: Array) -> Array:
        total = np.asarray(np.bincount(self.rows.index, weights, len(self.latents)), dtype=np.float64)
        return np.asarray(spread(total[None], self.latents)[0])
