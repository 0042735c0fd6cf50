"""Kernel of a utility over settings: linear plus RBF on the cube, in units of sigma.

Over points drawn uniformly from the cube, categories included, the prior has mean 0 and variance 1. There is no
constant term, because no judgement depends on the level of the utility.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from diptych.prefer.utility.gp.covariance import Hyperparameters

Array = NDArray[np.float64]
Settings = Sequence[slice]

NUMBER_LENGTH, CATEGORY_LENGTH = 0.5, 1.0
"""Default length scales of a number, whose range is 1, and of a category, whose values have the correlation
exp(-1 / length^2)."""

IMAGE_VARIANCE = 6.0
"""Default variance of the part that depends on image features, relative to that of the linear part."""


@dataclass(frozen=True)
class SettingsHyperparameters(Hyperparameters):
    """Hyperparameters of a utility over settings.

    Defaults differ from those for images, because experts judge reconstructions more consistently than people state
    their taste: ``scale`` is larger and ``tie_width`` smaller.

    Attributes
    ----------
    nonlinearity : float
        Variance of the RBF part, relative to that of the linear part.
    image_variance : float
        Variance of the part that depends on image features, relative to that of the linear part; 0 without features.
    image_length : float
        Length scale of that part, in units of the median distance between images.
    length_scales : tuple of float
        Length scale of the RBF part along each setting, in units of the default.
    """

    scale: float = 6.0
    tie_width: float = 0.05
    nonlinearity: float = 2.0
    image_variance: float = 0.0
    image_length: float = 1.0
    length_scales: tuple[float, ...] = ()

    def scaled(self, **factors: float) -> Self:
        """A copy with some values multiplied by factors; ``length_scale3`` is the fourth length scale."""
        lengths = tuple(
            length * factors.pop(f"length_scale{index}", 1.0) for index, length in enumerate(self.length_scales)
        )
        changed = {name: getattr(self, name) * factor for name, factor in factors.items()}
        return replace(self, length_scales=lengths, **changed)

    def log_prior(self) -> float:
        """Log density of the hyperprior: log-normal about the defaults, with standard deviations of 0.7 (length scales)
        or 1 of the logarithm, and as for images where they are shared.
        """
        usual = SettingsHyperparameters()
        own = [math.log(length) / 0.7 for length in self.length_scales]
        own += [math.log(self.scale / usual.scale), math.log(self.nonlinearity / usual.nonlinearity)]
        own += [math.log(self.tie_width / usual.tie_width)]
        if self.image_variance:
            own += [math.log(self.image_variance / IMAGE_VARIANCE), math.log(self.image_length) / 0.7]
        others = Hyperparameters(walk=self.walk, offset=self.offset, star_width=self.star_width).log_prior()
        return others - 0.5 * sum(one**2 for one in own)


def settings_kernel(first: Array, second: Array, settings: Settings, hyperparameters: SettingsHyperparameters) -> Array:
    """Prior covariance (k, l) of the utilities of canonical points (k, d) and (l, d).

    The RBF part is exp(-|x - y|^2 / 2 length^2), centred so that its mean over the cube vanishes in either argument;
    the linear part is the inner product about the centre. Both are scaled to variance 1 over the cube and mixed by
    ``nonlinearity``.
    """
    rbf, whole = _rbf(first, second, settings, hyperparameters), _rbf_grand_mean(settings, hyperparameters)
    rows, columns = _rbf_mean(first, settings, hyperparameters), _rbf_mean(second, settings, hyperparameters)
    rbf = (rbf - rows[:, None] - columns + whole) / (1 - whole)
    share = hyperparameters.nonlinearity / (1 + hyperparameters.nonlinearity)
    linear = linear_features(first, settings) @ linear_features(second, settings).T
    return np.asarray(share * rbf + (1 - share) * linear)


def settings_variance(points: Array, settings: Settings, hyperparameters: SettingsHyperparameters) -> Array:
    """Prior variance (k,) of the utilities of canonical points (k, d): the diagonal of :func:`settings_kernel`."""
    whole = _rbf_grand_mean(settings, hyperparameters)
    share = hyperparameters.nonlinearity / (1 + hyperparameters.nonlinearity)
    rbf = (1 - 2 * _rbf_mean(points, settings, hyperparameters) + whole) / (1 - whole)
    return np.asarray(share * rbf + (1 - share) * (linear_features(points, settings) ** 2).sum(axis=1))


def linear_features(points: Array, settings: Settings) -> Array:
    """Features (k, d) of the linear part: points (k, d) about the centre, scaled so that every setting has the same
    variance over the cube and all together have variance 1.
    """
    centre = np.full(points.shape[1], 0.5)
    for part in settings:
        if (width := part.stop - part.start) > 1:
            centre[part] = 1 / width
    return np.asarray((points - centre) * linear_feature_scales(points.shape[1], settings))


def linear_feature_scales(dimension: int, settings: Settings) -> Array:
    """Derivative (d,) of each feature of :func:`linear_features` with respect to its coordinate."""
    found = np.zeros(dimension)
    for part in settings:
        width = part.stop - part.start
        # Variances over the cube: 1 / 12 of a number; (C - 1) / C in total of the C coordinates of a category.
        found[part] = math.sqrt((12 if width == 1 else width / (width - 1)) / len(settings))
    return found


def _rbf(first: Array, second: Array, settings: Settings, hyperparameters: SettingsHyperparameters) -> Array:
    scales = np.zeros(first.shape[1])
    for part, length in _lengths(settings, hyperparameters):
        scales[part] = 1 / length
    a, b = first * scales, second * scales
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(squared, 0.0)))


def _rbf_mean(points: Array, settings: Settings, hyperparameters: SettingsHyperparameters) -> Array:
    """Mean (k,) of the RBF kernel between points (k, d) and the whole cube."""
    found = np.ones(len(points))
    for part, length in _lengths(settings, hyperparameters):
        width, root = part.stop - part.start, math.sqrt(2) * length
        if width == 1:
            x = points[:, part.start]
            found = found * (math.sqrt(math.pi) / 2 * root * (erf((1 - x) / root) + erf(x / root)))
        else:
            found = found * _category_mean(width, length)
    return found


def _rbf_grand_mean(settings: Settings, hyperparameters: SettingsHyperparameters) -> float:
    """Mean of the RBF kernel over all pairs of points of the cube."""
    found = 1.0
    for part, length in _lengths(settings, hyperparameters):
        width, root = part.stop - part.start, math.sqrt(2) * length
        number = math.sqrt(math.pi) * root * math.erf(1 / root) + root**2 * math.expm1(-1 / root**2)
        found *= number if width == 1 else _category_mean(width, length)
    return found


def _category_mean(width: int, length: float) -> float:
    """Mean correlation of a value of a category with all its ``width`` values."""
    return (1 + (width - 1) * math.exp(-1 / length**2)) / width


def _lengths(settings: Settings, hyperparameters: SettingsHyperparameters) -> list[tuple[slice, float]]:
    """Coordinates and length scale of each setting."""
    usual = [NUMBER_LENGTH if part.stop - part.start == 1 else CATEGORY_LENGTH for part in settings]
    scales = hyperparameters.length_scales
    return [(part, length * own) for part, length, own in zip(settings, scales, usual, strict=True)]
