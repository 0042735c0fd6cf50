"""Prior of the predictors: a linear utility, and a threshold that drifts from screen to screen.

The predictors eta (m,) are the latent Gaussian variables of the observations, see
:mod:`~diptych.prefer.utility.inference.observations`. Their prior covariance is

    K = s^2 (A G A' + T)

with G the Gram matrix of the latents, A the design matrix, and T the covariance of the thresholds of the screens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from diptych.prefer.utility.inference.observations import Design

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the prior and of the likelihood; their values maximize the evidence.

    Attributes
    ----------
    scale : float
        s: prior standard deviation of the utility over random latents, logits.
    walk : float
        Variance that the threshold gains per screen (random walk), in units of s^2.
    offset : float
        Variance of the independent part of each screen's threshold, in units of s^2.
    adaptation : float
        Fraction, 0 to 1, of the mean utility of the last images by which the threshold follows it.
    star_width, tie_width : float
        Width of the interval of a star and of a tie, in units of s.
    calibration : float
        Factor of predicted logits (see :mod:`~diptych.prefer.utility.gp.calibration`); the fit does not depend on it.
    cavity_factor : float
        Ratio of cavity variances to those for random latents (see
        :mod:`~diptych.prefer.utility.inference.asymptotic_ep`); only fits to many observations depend on it.
    """

    scale: float = 3.0
    walk: float = 0.01
    offset: float = 0.01
    adaptation: float = 1.0
    star_width: float = 0.7
    tie_width: float = 0.3
    calibration: float = field(default=0.8, compare=False)
    cavity_factor: float = field(default=1.0, compare=False)

    def scaled(self, **factors: float) -> Self:
        """A copy with some values multiplied by factors."""
        return replace(self, **{name: getattr(self, name) * factor for name, factor in factors.items()})

    def log_prior(self) -> float:
        """Log density of the hyperprior: log-normal about the defaults, with standard deviations of the logarithm
        between 0.5 and 1.5.
        """
        start = Hyperparameters()
        deviations = {"scale": 0.5, "walk": 1.5, "offset": 1.5, "star_width": 0.8, "tie_width": 0.8}
        return float(
            -0.5
            * sum(
                (np.log(getattr(self, name) / getattr(start, name)) / deviation) ** 2
                for name, deviation in deviations.items()
            )
        )


INITIAL_VARIANCE = 2.0
"""Variance of the threshold at the first screen, in units of s^2."""


class GramMatrix(Protocol):
    """The Gram matrix (n, n) of latents, which need not be formed."""

    def dense(self, rows: int | None = None) -> Array:
        """The block of the first rows and columns; all if None."""
        ...

    def some(self, places: NDArray[np.int64], count: int) -> Array:
        """Selected rows (k, count), up to a column."""
        ...

    def times(self, vectors: Array) -> Array:
        """Its product with (m,) or (m, k)."""
        ...


class ObservationGram:
    """A G A' (m, m): the utilities' part of the covariance of the predictors, in units of s^2.

    Parameters
    ----------
    gram : GramMatrix
        G (n, n).
    design : Design
        The observations; A = contrast - adaptation x recent.
    before : ObservationGram, optional
        That of an earlier fit, to find what is unchanged.
    kept : int
        Number of leading rows of G that are unchanged since then.

    Attributes
    ----------
    unchanged : int
        Number of leading observations that are unchanged since then.
    """

    def __init__(self, gram: GramMatrix, design: Design, before: ObservationGram | None = None, kept: int = 0) -> None:
        self._gram, self._design = gram, design
        self._dense: dict[float, Array] = {}
        self._weights: dict[float, csr_array] = {}
        self.unchanged = 0
        if before is not None:
            self.unchanged = design.common(before._design, kept)

    def weights(self, adaptation: float) -> csr_array:
        """A (m, n)."""
        if adaptation not in self._weights:
            self._weights[adaptation] = self._design.contrast - adaptation * self._design.recent
        return self._weights[adaptation]

    def dense(self, adaptation: float) -> Array:
        """The whole matrix."""
        if adaptation not in self._dense:
            part = self.weights(adaptation)[:, : self._rows]
            self._dense[adaptation] = part @ np.ascontiguousarray((part @ self._gram.dense(self._rows)).T)
        return self._dense[adaptation]

    def last(self, adaptation: float, first: int) -> Array:
        """Its rows from ``first`` on (m - first, m), without computing the others."""
        if first == 0:
            return self.dense(adaptation)
        part = self.weights(adaptation)[:, : self._rows]
        new = part[first:].tocsc()
        rows_used = np.flatnonzero(np.diff(new.indptr))
        half = new[:, rows_used] @ self._gram.some(rows_used, self._rows)
        return np.ascontiguousarray((part @ np.ascontiguousarray(half.T)).T)

    @property
    def _rows(self) -> int:
        """Number of leading latents that the observations refer to."""
        return int(max(self._design.contrast.indices.max(initial=-1), self._design.recent.indices.max(initial=-1))) + 1

    def times(self, vectors: Array, adaptation: float) -> Array:
        """Its product with (m,) or (m, k)."""
        weights = self.weights(adaptation)
        return np.asarray(weights @ self._gram.times(weights.T @ vectors))


class Prior:
    """Prior covariance K = s^2 (A G A' + T) of the predictors.

    Parameters
    ----------
    inner : ObservationGram
        A G A' (m, m).
    design : Design
        The observations.
    hyperparameters : Hyperparameters
    before : Prior, optional
        That of the earlier fit that ``inner`` was compared with: the common part of K is reused.

    Attributes
    ----------
    kept : int
        Size of the reused part.
    """

    def __init__(
        self, inner: ObservationGram, design: Design, hyperparameters: Hyperparameters, before: Prior | None = None
    ) -> None:
        self.design, self.hyperparameters, self._inner = design, hyperparameters, inner
        self.rated = np.flatnonzero(design.screen >= 0)
        self.screens = design.screen[self.rated]
        self._known = np.zeros((0, 0))
        if before is not None and before.hyperparameters == hyperparameters:
            differs = np.flatnonzero(design.screen[: inner.unchanged] != before.design.screen[: inner.unchanged])
            unchanged = int(differs[0]) if len(differs) else inner.unchanged
            self._known = before._known[:unchanged, :unchanged]
        self.kept = len(self._known)

    def limits(self) -> tuple[Array, Array]:
        """Lower and upper limits (m,) of the observations, logits."""
        return self.design.limits(
            self.hyperparameters.star_width * self.hyperparameters.scale,
            self.hyperparameters.tie_width * self.hyperparameters.scale,
        )

    @property
    def weights(self) -> csr_array:
        """A (m, n)."""
        return self._inner.weights(self.hyperparameters.adaptation)

    def dense(self) -> Array:
        """K (m, m)."""
        have, count = len(self._known), len(self.design)
        if have < count:
            full = np.empty((count, count))
            full[:have, :have] = self._known
            full[have:] = (
                self._inner.last(self.hyperparameters.adaptation, have) + self.threshold(have)
            ) * self.hyperparameters.scale**2
            full[:have, have:] = full[have:, :have].T
            self._known = full
        return self._known

    def threshold(self, first: int = 0) -> Array:
        """T, in units of s^2: its rows from ``first`` on (m - first, m)."""
        kernel = np.zeros((len(self.design) - first, len(self.design)))
        after = int(np.searchsorted(self.rated, first))
        kernel[np.ix_(self.rated[after:] - first, self.rated)] = self.threshold_between(
            self.screens[after:], self.screens
        )
        return kernel

    def threshold_between(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        """Covariance (k, l) of the thresholds of screens (k,) and (l,), in units of s^2."""
        a, b = first[:, None], second[None, :]
        return np.asarray(
            INITIAL_VARIANCE + self.hyperparameters.walk * np.minimum(a, b) + self.hyperparameters.offset * (a == b)
        )

    def prior_variances(self) -> Array:
        """Variance (m,) of the utilities' part of each predictor for orthogonal latents, logits^2."""
        weights = self.weights
        return np.asarray(self.hyperparameters.scale**2 * np.asarray(weights.multiply(weights).sum(axis=1)).ravel())

    def utility_product(self, vectors: Array) -> Array:
        """Product of the utilities' part of K with (m,) or (m, k)."""
        return np.asarray(self._inner.times(vectors, self.hyperparameters.adaptation) * self.hyperparameters.scale**2)

    def times(self, vectors: Array) -> Array:
        """Product of K with (m,) or (m, k), without forming K."""
        result = self._inner.times(vectors, self.hyperparameters.adaptation)
        inside = vectors[self.rated]
        count = int(self.screens.max(initial=-1)) + 1
        sums = np.zeros((count, *vectors.shape[1:]))
        np.add.at(sums, self.screens, inside)
        # min(a, b) counts the random-walk steps that two screens share: sum over later screens, then cumulate.
        beyond = np.cumsum(sums[::-1], axis=0)[::-1]
        shared = np.cumsum(beyond, axis=0) - beyond[:1] if count else beyond
        result[self.rated] += (
            INITIAL_VARIANCE * inside.sum(axis=0)
            + self.hyperparameters.walk * shared
            + self.hyperparameters.offset * sums
        )[self.screens]
        return np.asarray(result * self.hyperparameters.scale**2)

    def draw_threshold(self, rng: np.random.Generator, count: int) -> Array:
        """Draws (m, count) of the threshold at each observation, 0 for comparisons, in units of s."""
        screens = int(self.screens.max(initial=-1)) + 1
        steps = rng.standard_normal((screens, count)) * np.sqrt(self.hyperparameters.walk)
        steps[:1] = rng.standard_normal((min(screens, 1), count)) * np.sqrt(INITIAL_VARIANCE)
        level = np.cumsum(steps, axis=0) + rng.standard_normal((screens, count)) * np.sqrt(self.hyperparameters.offset)
        drawn = np.zeros((len(self.design), count))
        drawn[self.rated] = level[self.screens]
        return drawn
