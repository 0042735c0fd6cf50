"""The prior of the predictors: a utility linear in the latent, and a threshold that drifts from screen to screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from diptych.prefer.utility.inference.observations import Predictors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Widths:
    """The few numbers that evidence decides.

    Attributes
    ----------
    scale : float
        s: standard deviation of the utility over latents drawn at random, logits.
    walk : float
        Variance that the threshold gains per screen, in units of s^2.
    offset : float
        Variance of each screen's own threshold, in units of s^2.
    adaptation : float
        a: part of the utility of what was just seen by which the threshold follows it, 0 to 1.
    star, tie : float
        Width of a star and of a tie, in units of s.
    trust : float
        By what to multiply the logits of what is foretold (see :mod:`trust`); the fit does not depend on it.
    narrow : float
        By what cavities are narrower than those of random latents (see :mod:`cavities`); only fits to many statements
        depend on it.
    """

    scale: float = 3.0
    walk: float = 0.01
    offset: float = 0.01
    adaptation: float = 1.0
    star: float = 0.7
    tie: float = 0.3
    trust: float = field(default=0.8, compare=False)
    narrow: float = field(default=1.0, compare=False)

    def scaled(self, **factors: float) -> Self:
        """Some of the numbers multiplied."""
        return replace(self, **{name: getattr(self, name) * factor for name, factor in factors.items()})

    def log_prior(self) -> float:
        """Log density of these widths before any judgement: log-normal about the defaults, by factors of e^0.5 (scale),
        e^0.8 or e^1.5.
        """
        start = Widths()
        spreads = {"scale": 0.5, "walk": 1.5, "offset": 1.5, "star": 0.8, "tie": 0.8}
        return float(
            -0.5
            * sum(
                (np.log(getattr(self, name) / getattr(start, name)) / spread) ** 2 for name, spread in spreads.items()
            )
        )


START = 2.0
"""Variance of the threshold at the first screen, in units of s^2."""


class Products(Protocol):
    """The Gram matrix (n, n) of latents, formed or not."""

    def dense(self, rows: int | None = None) -> Array:
        """The part of the first rows; all when None."""
        ...

    def some(self, places: NDArray[np.int64], count: int) -> Array:
        """Some of its rows (k, count), up to a column."""
        ...

    def times(self, vectors: Array) -> Array:
        """Its product with (m,) or (m, k)."""
        ...


class Contrasted:
    """A G A' (m, m) of the Gram matrix G (n, n) of the latents: what the predictors' utilities have in common, in units
    of s^2.

    A is what each statement takes of the utilities, less the adaptation times the mean of those seen before.

    Parameters
    ----------
    gram : Products
        G.
    given : Predictors
        The statements.
    before : Contrasted, optional
        That of an earlier fit, to be compared with.
    kept : int
        Leading rows of G that are still what they were then.

    Attributes
    ----------
    same : int
        Leading statements that are still what they were then.
    """

    def __init__(self, gram: Products, given: Predictors, before: Contrasted | None = None, kept: int = 0) -> None:
        self._gram, self._given = gram, given
        self._dense: dict[float, Array] = {}
        self._weights: dict[float, csr_array] = {}
        self.same = 0
        if before is not None:
            self.same = given.common(before._given, kept)

    def weights(self, adaptation: float) -> csr_array:
        """A (m, n)."""
        if adaptation not in self._weights:
            self._weights[adaptation] = self._given.contrast - adaptation * self._given.recent
        return self._weights[adaptation]

    def dense(self, adaptation: float) -> Array:
        """The whole matrix."""
        if adaptation not in self._dense:
            part = self.weights(adaptation)[:, : self._rows]
            self._dense[adaptation] = part @ np.ascontiguousarray((part @ self._gram.dense(self._rows)).T)
        return self._dense[adaptation]

    def last(self, adaptation: float, first: int) -> Array:
        """Its rows from ``first`` on (m - first, m), without the others."""
        if first == 0:
            return self.dense(adaptation)
        part = self.weights(adaptation)[:, : self._rows]
        new = part[first:].tocsc()
        places = np.flatnonzero(np.diff(new.indptr))
        half = new[:, places] @ self._gram.some(places, self._rows)
        return np.ascontiguousarray((part @ np.ascontiguousarray(half.T)).T)

    @property
    def _rows(self) -> int:
        """Latents up to the last one that a statement takes."""
        return int(max(self._given.contrast.indices.max(initial=-1), self._given.recent.indices.max(initial=-1))) + 1

    def times(self, vectors: Array, adaptation: float) -> Array:
        """Its product with (m,) or (m, k)."""
        weights = self.weights(adaptation)
        return np.asarray(weights @ self._gram.times(weights.T @ vectors))


class Prior:
    """K = s^2 (A G A' + threshold kernel) for predictors eta.

    Parameters
    ----------
    inner : Contrasted
        A G A' (m, m).
    given : Predictors
        The statements.
    widths : Widths
        Variances.
    before : Prior, optional
        That of the earlier fit from which ``inner`` was taken: the part of K that is common to both is taken, too.

    Attributes
    ----------
    kept : int
        Size of that part.
    """

    def __init__(self, inner: Contrasted, given: Predictors, widths: Widths, before: Prior | None = None) -> None:
        self.given, self.widths, self._inner = given, widths, inner
        self.rated = np.flatnonzero(given.screen >= 0)
        self.screens = given.screen[self.rated]
        self._known = np.zeros((0, 0))
        if before is not None and before.widths == widths:
            differs = np.flatnonzero(given.screen[: inner.same] != before.given.screen[: inner.same])
            same = int(differs[0]) if len(differs) else inner.same
            self._known = before._known[:same, :same]
        self.kept = len(self._known)

    def limits(self) -> tuple[Array, Array]:
        """Limits of the statements, logits."""
        return self.given.limits(self.widths.star * self.widths.scale, self.widths.tie * self.widths.scale)

    @property
    def weights(self) -> csr_array:
        """A (m, n)."""
        return self._inner.weights(self.widths.adaptation)

    def dense(self) -> Array:
        """K (m, m)."""
        have, count = len(self._known), len(self.given)
        if have < count:
            full = np.empty((count, count))
            full[:have, :have] = self._known
            full[have:] = (self._inner.last(self.widths.adaptation, have) + self.threshold(have)) * self.widths.scale**2
            full[:have, have:] = full[have:, :have].T
            self._known = full
        return self._known

    def threshold(self, first: int = 0) -> Array:
        """The threshold's part of K, in units of s^2: its rows from ``first`` on (m - first, m)."""
        kernel = np.zeros((len(self.given) - first, len(self.given)))
        after = int(np.searchsorted(self.rated, first))
        kernel[np.ix_(self.rated[after:] - first, self.rated)] = self.threshold_between(
            self.screens[after:], self.screens
        )
        return kernel

    def threshold_between(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        """Covariance of the thresholds of screens (k,) and (l,), in units of s^2."""
        a, b = first[:, None], second[None, :]
        return np.asarray(START + self.widths.walk * np.minimum(a, b) + self.widths.offset * (a == b))

    def spreads(self) -> Array:
        """Variance (m,) of the utilities that each predictor takes, logits^2, as it would be if all latents were
        orthogonal.
        """
        weights = self.weights
        return np.asarray(self.widths.scale**2 * np.asarray(weights.multiply(weights).sum(axis=1)).ravel())

    def utilities(self, vectors: Array) -> Array:
        """The utilities' part of K, without the threshold's, times (m,) or (m, k)."""
        return np.asarray(self._inner.times(vectors, self.widths.adaptation) * self.widths.scale**2)

    def times(self, vectors: Array) -> Array:
        """K v without forming K."""
        result = self._inner.times(vectors, self.widths.adaptation)
        inside = vectors[self.rated]
        count = int(self.screens.max(initial=-1)) + 1
        sums = np.zeros((count, *vectors.shape[1:]))
        np.add.at(sums, self.screens, inside)
        # min(a, b) = number of steps the two screens share: sums of what lies beyond each step, added up to the screen.
        beyond = np.cumsum(sums[::-1], axis=0)[::-1]
        shared = np.cumsum(beyond, axis=0) - beyond[:1] if count else beyond
        result[self.rated] += (START * inside.sum(axis=0) + self.widths.walk * shared + self.widths.offset * sums)[
            self.screens
        ]
        return np.asarray(result * self.widths.scale**2)

    def draw_threshold(self, rng: np.random.Generator, count: int) -> Array:
        """Draws (m, count) of the threshold at every statement, 0 at comparisons; in units of s."""
        screens = int(self.screens.max(initial=-1)) + 1
        steps = rng.standard_normal((screens, count)) * np.sqrt(self.widths.walk)
        steps[:1] = rng.standard_normal((min(screens, 1), count)) * np.sqrt(START)
        level = np.cumsum(steps, axis=0) + rng.standard_normal((screens, count)) * np.sqrt(self.widths.offset)
        drawn = np.zeros((len(self.given), count))
        drawn[self.rated] = level[self.screens]
        return drawn
