"""Prior covariance of the utilities of points of a cube: by settings and, where known, by features of their images.

The utility of a point with an image has a part that depends on the image features p: an RBF kernel
exp(-|p - q|^2 / 2 length^2), centred on the first judged images, plus, with the same weight, a linear kernel of one
feature, the atypicality: how far an image is from those first ones, because a failed reconstruction is far from all
others in whatever way it fails. Both are scaled to unit variance over the first judged images. The utility of a point
without an image is predicted from the settings of all points that have one (kriging), and the kriging variance is that
of the settings kernel.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky

from diptych.prefer.spaces.cube import Cube, settings, settled
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.gp.covariance import ObservationGram
from diptych.prefer.utility.gp.settings_kernel import SettingsHyperparameters, settings_kernel, settings_variance
from diptych.prefer.utility.inference.observations import Design

Array = NDArray[np.float64]

REFERENCES = 16
"""Number of judged images, the first ones, that set the scale of distances between images."""

MAX_ATYPICALITY = 8.0
"""Bound of the atypicality, in standard deviations over the reference images."""

RESIDUAL_VARIANCE = 0.05
"""Variance (sigma^2) of the part of an image's effect that its settings do not predict; the nugget of the kriging."""


class ImageKernel:
    """Judged points in canonical form, and their prior covariance.

    Parameters
    ----------
    latents : (n, d)
        Judged points.
    cube : Cube
        Which points mean the same settings.
    features : FeatureSnapshot, optional
        Image features; without them the settings alone count.

    Attributes
    ----------
    points : (n, d) float64
        Canonical points.
    row_keys : (n, d) float32
        The same, to recognize points from an earlier fit.
    settings : tuple of slice
        Coordinates of each setting.
    """

    def __init__(self, latents: ArrayLike, cube: Cube, features: FeatureSnapshot | None = None) -> None:
        self.cube, self._features = cube, features
        self.points = settled(latents, cube)
        self.row_keys = self.points.astype(np.float32)
        self.settings = settings(self.points.shape[1], cube)
        self._references = np.zeros(0, np.int64)
        if features is not None:
            judged = features.rows(self.points)
            self._references = judged[judged >= 0][:REFERENCES]

    @cached_property
    def length_unit(self) -> float:
        """Median distance between the reference images; 0 if there are fewer than two or all look the same."""
        if self._features is None or len(self._references) < 2:
            return 0.0
        distances = self._features.distances[np.ix_(self._references, self._references)]
        distances = distances[np.triu_indices(len(self._references), 1)]
        return float(np.sqrt(np.median(distances)) or np.sqrt(distances.max()))

    @property
    def imaged(self) -> Array:
        """Points (m, d) whose image features are known, judged or not."""
        known = None if self._features is None else self._features.points
        return self.points[:0] if known is None or not len(known) else known

    def with_features(self, features: FeatureSnapshot) -> Self:
        """The same kernel, with the same references, for more image features; those of this kernel must come first."""
        changed = copy.copy(self)
        changed.__dict__.update(length_unit=self.length_unit, _features=features)
        return changed

    def covariance(self, first: Array, second: Array, hyperparameters: SettingsHyperparameters) -> Array:
        """Prior covariance (k, l) of the utilities of canonical points (k, d) and (l, d), in units of s^2."""
        if not hyperparameters.image_variance or not self.length_unit:
            return settings_kernel(first, second, self.settings, hyperparameters)
        covariance = self._with_images(hyperparameters)
        return covariance.kernel(covariance.locate(first), covariance.locate(second))

    def variance(self, points: Array, hyperparameters: SettingsHyperparameters) -> Array:
        """Its diagonal (k,) for canonical points (k, d)."""
        if not hyperparameters.image_variance or not self.length_unit:
            return settings_variance(points, self.settings, hyperparameters)
        covariance = self._with_images(hyperparameters)
        return covariance.variance(covariance.locate(points))

    def gram(self, design: Design, hyperparameters: SettingsHyperparameters) -> ObservationGram:
        """Gram matrix of the observations on the judged points."""
        return ObservationGram(_Matrix(self.covariance(self.points, self.points, hyperparameters)), design)

    def _with_images(self, hyperparameters: SettingsHyperparameters) -> _ImageCovariance:
        assert self._features is not None
        return _ImageCovariance(self._features, self._references, self.length_unit, self.settings, hyperparameters)


@dataclass(frozen=True, eq=False)
class _Located:
    """Points and their relation to the points with known image features.

    Attributes
    ----------
    points : (k, d)
    row : (k,)
        Row in the snapshot; -1 if the image of the point is not known.
    weights : (u, m)
        Kriging weights of the u points without an image on the m with one.
    """

    points: Array
    row: NDArray[np.int64]
    weights: Array

    @property
    def without_image(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.row < 0)


class _ImageCovariance:
    """The covariance for one snapshot of image features and one set of hyperparameters."""

    def __init__(
        self,
        features: FeatureSnapshot,
        references: NDArray[np.int64],
        length_unit: float,
        settings: tuple[slice, ...],
        hyperparameters: SettingsHyperparameters,
    ) -> None:
        self._features, self._settings, self._hyperparameters = features, settings, hyperparameters
        self._references, self._length_unit = references, length_unit
        # Kriging uses the settings kernel with its default hyperparameters.
        self._kriging = SettingsHyperparameters(length_scales=(1.0,) * len(settings))

    def locate(self, points: Array) -> _Located:
        """Find the rows and the kriging weights of canonical points (k, d)."""
        row = self._features.rows(points)
        unknown = points[row < 0]
        weights = np.zeros((0, len(self._features.points)))
        if len(unknown):
            cross = settings_kernel(self._features.points, unknown, self._settings, self._kriging)
            weights = cho_solve(self._factor, cross).T
        return _Located(points, row, weights)

    def kernel(self, one: _Located, other: _Located) -> Array:
        """Covariance (k, l)."""
        found = np.empty((len(one.points), len(other.points)))
        a, b = np.flatnonzero(one.row >= 0), np.flatnonzero(other.row >= 0)
        found[np.ix_(a, b)] = self._between(one.row[a], other.row[b])
        every = np.arange(len(self._features.points))
        if len(u := one.without_image):
            found[np.ix_(u, b)] = one.weights @ self._between(every, other.row[b])
        if len(v := other.without_image):
            found[np.ix_(a, v)] = self._between(one.row[a], every) @ other.weights.T
        if len(u) and len(v):
            residual = settings_kernel(one.points[u], other.points[v], self._settings, self._kriging)
            residual -= one.weights @ settings_kernel(
                self._features.points, other.points[v], self._settings, self._kriging
            )
            found[np.ix_(u, v)] = residual + one.weights @ self._between(every, every) @ other.weights.T
        return found

    def variance(self, located: _Located) -> Array:
        """Variance (k,): the diagonal of :meth:`kernel`."""
        found = np.empty(len(located.points))
        known, unknown = np.flatnonzero(located.row >= 0), located.without_image
        row = located.row[known]
        by_settings = settings_variance(self._features.points[row], self._settings, self._hyperparameters)
        mean, whole = self._mean
        rbf = (1 - 2 * mean[row] + whole) / (1 - whole)
        found[known] = (1 - self._share) * by_settings + self._share * (rbf + self._atypicality[row] ** 2) / 2
        if len(unknown):
            every = np.arange(len(self._features.points))
            points = located.points[unknown]
            cross = settings_kernel(self._features.points, points, self._settings, self._kriging)
            residual = settings_variance(points, self._settings, self._kriging)
            residual -= np.einsum("um,mu->u", located.weights, cross)
            kriged = np.einsum(
                "um,mn,un->u", located.weights, self._between(every, every), located.weights, optimize=True
            )
            found[unknown] = residual + kriged
        return found

    @property
    def _share(self) -> float:
        """Fraction of the prior variance that the image features explain."""
        hyperparameters = self._hyperparameters
        return hyperparameters.image_variance / (1 + hyperparameters.nonlinearity + hyperparameters.image_variance)

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        points = self._features.points
        inner = settings_kernel(points, points, self._settings, self._kriging)
        inner[np.diag_indices_from(inner)] += RESIDUAL_VARIANCE
        return cholesky(inner, lower=True, check_finite=False), True

    @cached_property
    def _mean(self) -> tuple[Array, float]:
        """Mean similarity (m,) of each image to the references, and the mean of that over the references."""
        mean = self._similarity(np.arange(len(self._features.points)), self._references).mean(axis=1)
        return mean, float(mean[self._references].mean())

    @cached_property
    def _atypicality(self) -> Array:
        """Dissimilarity (m,) from the references, standardized over them and clipped."""
        mean = self._mean[0]
        deviation = float(mean[self._references].std())
        if not deviation > 0:
            return np.zeros(len(mean))
        standardized = (mean[self._references].mean() - mean) / deviation
        return np.asarray(np.clip(standardized, -MAX_ATYPICALITY, MAX_ATYPICALITY))

    def _similarity(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        length = self._hyperparameters.image_length * self._length_unit
        return np.asarray(np.exp(-0.5 * self._features.distances[np.ix_(first, second)] / length**2))

    def _between(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        """Prior covariance (k, l) of the utilities of two sets of points with images, given by rows."""
        points = self._features.points
        by_settings = settings_kernel(points[first], points[second], self._settings, self._hyperparameters)
        mean, whole = self._mean
        rbf = (self._similarity(first, second) - mean[first][:, None] - mean[second] + whole) / (1 - whole)
        linear = np.outer(self._atypicality[first], self._atypicality[second])
        return np.asarray((1 - self._share) * by_settings + self._share * (rbf + linear) / 2)


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A dense matrix as a :class:`~diptych.prefer.utility.gp.covariance.GramMatrix`."""

    matrix: Array

    def dense(self, rows: int | None = None) -> Array:
        return self.matrix[:rows, :rows]

    def some(self, places: NDArray[np.int64], count: int) -> Array:
        return self.matrix[places, :count]

    def times(self, vectors: Array) -> Array:
        return self.matrix @ vectors
