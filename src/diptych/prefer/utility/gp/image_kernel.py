"""Judged points of a cube and the prior covariance of utilities there: by settings, and by pictures where there are
some.

A point with a picture has a part of the utility that depends on what it looks like: hills among pictures, exp(-|p -
q|^2 / 2 length^2), less their mean over the pictures that were judged first, and, as much, a plane along how unlike
those it is: whatever fails is odd in a way of its own, and all that is odd may be bad alike. Both are scaled to spread
1 over the pictures judged first. A point without a picture is believed to be liked as its settings let expect from all
that have one (kriging), and what that leaves open is as uncertain as in a cube of settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky

from diptych.prefer.spaces.cube import Cube, settings, settled
from diptych.prefer.spaces.image_features import Gallery, Pictures
from diptych.prefer.utility.gp.covariance import Contrasted
from diptych.prefer.utility.gp.settings_kernel import Shape, relief, variance
from diptych.prefer.utility.inference.observations import Predictors

Array = NDArray[np.float64]

FIRST = 16
"""Judged pictures, the first ones, that say how unlike pictures usually are."""

ODD = 8.0
"""Most that a picture can be unlike the usual ones, in units of their spread."""

RANDOM = 0.05
"""Variance, sigma^2, of what pictures do that their settings do not foretell."""


class Places:
    """Judged points, settled, and their prior covariance.

    Parameters
    ----------
    latents : (n, d)
    cube : Cube
    gallery : Gallery, optional
        What pictures look like; without it settings alone count.

    Attributes
    ----------
    points : (n, d) float64
    marks : (n, d) float32
        By which points are known again.
    settings : tuple of slice
    """

    def __init__(self, latents: ArrayLike, cube: Cube, gallery: Gallery | None = None) -> None:
        self.cube, self._gallery = cube, gallery
        self.points = settled(latents, cube)
        self.marks = self.points.astype(np.float32)
        self.settings = settings(self.points.shape[1], cube)
        self._usual = np.zeros(0, np.int64)
        if gallery is not None:
            judged = gallery.places(self.points)
            self._usual = judged[judged >= 0][:FIRST]

    @cached_property
    def unit(self) -> float:
        """Usual length of a hill among pictures; 0 where there are none, or all look the same."""
        pictures = None if self._gallery is None else self._gallery.pictures
        if pictures is None or len(self._usual) < 2:
            return 0.0
        apart = pictures.apart[np.ix_(self._usual, self._usual)][np.triu_indices(len(self._usual), 1)]
        return float(np.sqrt(np.median(apart)) or np.sqrt(apart.max()))

    @property
    def looked(self) -> Array:
        """Points (m, d) of which there are pictures, judged or not."""
        pictures = None if self._gallery is None else self._gallery.pictures
        return self.points[:0] if pictures is None else pictures.points

    def kernel(self, first: Array, second: Array, shape: Shape) -> Array:
        """Prior covariance (k, l) of the utilities of settled points, in units of s^2."""
        if not shape.sight or not self.unit:
            return relief(first, second, self.settings, shape)
        seen = self._seen(shape)
        one, other = seen.told(first), seen.told(second)
        return seen.kernel(one, other)

    def variance(self, points: Array, shape: Shape) -> Array:
        """Its diagonal (k,) for settled points (k, d)."""
        if not shape.sight or not self.unit:
            return variance(points, self.settings, shape)
        seen = self._seen(shape)
        return seen.variance(seen.told(points))

    def contrasted(self, given: Predictors, shape: Shape) -> Contrasted:
        """That of the predictors."""
        return Contrasted(_Matrix(self.kernel(self.points, self.points, shape)), given)

    def _seen(self, shape: Shape) -> _Seen:
        assert self._gallery is not None
        assert self._gallery.pictures is not None
        return _Seen(self._gallery, self._gallery.pictures, self._usual, self.unit, self.settings, shape)


@dataclass(frozen=True, eq=False)
class _Told:
    """Points by what pictures tell of them.

    Attributes
    ----------
    points : (k, d)
    place : (k,)
        Each one's picture; -1 where there is none.
    weights : (u, m)
        Of the points without one: what all that have one count.
    """

    points: Array
    place: NDArray[np.int64]
    weights: Array

    @property
    def unseen(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.place < 0)


class _Seen:
    """The covariance with the pictures of one moment."""

    def __init__(
        self,
        gallery: Gallery,
        pictures: Pictures,
        usual: NDArray[np.int64],
        unit: float,
        settings: tuple[slice, ...],
        shape: Shape,
    ) -> None:
        self._gallery, self._pictures, self._settings, self._shape = gallery, pictures, settings, shape
        self._usual, self._unit = usual, unit
        self._plain = Shape(lengths=(1.0,) * len(settings))

    def told(self, points: Array) -> _Told:
        place = self._gallery.places(points)
        place[place >= len(self._pictures.points)] = -1
        unseen = points[place < 0]
        weights = np.zeros((0, len(self._pictures.points)))
        if len(unseen):
            weights = cho_solve(self._factor, relief(self._pictures.points, unseen, self._settings, self._plain)).T
        return _Told(points, place, weights)

    def kernel(self, one: _Told, other: _Told) -> Array:
        found = np.empty((len(one.points), len(other.points)))
        a, b = np.flatnonzero(one.place >= 0), np.flatnonzero(other.place >= 0)
        found[np.ix_(a, b)] = self._between(one.place[a], other.place[b])
        every = np.arange(len(self._pictures.points))
        if len(u := one.unseen):
            found[np.ix_(u, b)] = one.weights @ self._between(every, other.place[b])
        if len(v := other.unseen):
            found[np.ix_(a, v)] = self._between(one.place[a], every) @ other.weights.T
        if len(u) and len(v):
            open_ = relief(one.points[u], other.points[v], self._settings, self._plain)
            open_ -= one.weights @ relief(self._pictures.points, other.points[v], self._settings, self._plain)
            found[np.ix_(u, v)] = open_ + one.weights @ self._between(every, every) @ other.weights.T
        return found

    def variance(self, told: _Told) -> Array:
        found = np.empty(len(told.points))
        known, unseen = np.flatnonzero(told.place >= 0), told.unseen
        place = told.place[known]
        own = variance(self._pictures.points[place], self._settings, self._shape)
        mean, whole = self._mean
        hills = (1 - 2 * mean[place] + whole) / (1 - whole)
        found[known] = (1 - self._share) * own + self._share * (hills + self._oddness[place] ** 2) / 2
        if len(unseen):
            every = np.arange(len(self._pictures.points))
            left = variance(told.points[unseen], self._settings, self._plain)
            left -= np.einsum(
                "um,mu->u",
                told.weights,
                relief(self._pictures.points, told.points[unseen], self._settings, self._plain),
            )
            found[unseen] = left + np.einsum(
                "um,mn,un->u", told.weights, self._between(every, every), told.weights, optimize=True
            )
        return found

    @property
    def _share(self) -> float:
        return self._shape.sight / (1 + self._shape.bend + self._shape.sight)

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        inner = relief(self._pictures.points, self._pictures.points, self._settings, self._plain)
        inner[np.diag_indices_from(inner)] += RANDOM
        return cholesky(inner, lower=True, check_finite=False), True

    @cached_property
    def _mean(self) -> tuple[Array, float]:
        """Mean likeness (m,) of each picture to the usual ones, and the mean of that over those."""
        mean = self._likeness(np.arange(len(self._pictures.points)), self._usual).mean(axis=1)
        return mean, float(mean[self._usual].mean())

    @cached_property
    def _oddness(self) -> Array:
        """How unlike the usual pictures each (m,) is, with mean 0 and spread 1 over those."""
        mean = self._mean[0]
        spread = float(mean[self._usual].std())
        return np.clip((mean[self._usual].mean() - mean) / spread, -ODD, ODD) if spread > 0 else np.zeros(len(mean))

    def _likeness(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        return np.asarray(
            np.exp(-0.5 * self._pictures.apart[np.ix_(first, second)] / (self._shape.focus * self._unit) ** 2)
        )

    def _between(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        """Prior covariance (k, l) of the utilities of two sets of pictures."""
        points = self._pictures.points
        by_settings = relief(points[first], points[second], self._settings, self._shape)
        mean, whole = self._mean
        hills = (self._likeness(first, second) - mean[first][:, None] - mean[second] + whole) / (1 - whole)
        odd = np.outer(self._oddness[first], self._oddness[second])
        return np.asarray((1 - self._share) * by_settings + self._share * (hills + odd) / 2)


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A covariance of points as the inference takes it."""

    matrix: Array

    def dense(self, rows: int | None = None) -> Array:
        return self.matrix[:rows, :rows]

    def some(self, places: NDArray[np.int64], count: int) -> Array:
        return self.matrix[places, :count]

    def times(self, vectors: Array) -> Array:
        return self.matrix @ vectors
