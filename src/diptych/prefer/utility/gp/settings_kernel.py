"""The prior of a utility over settings: a plane and hills on the cube, in units of sigma.

A point of the cube has mean utility 0 and the utility spread 1 over all points drawn evenly, categories too: the prior
says nothing of a level, which no judgement tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from diptych.prefer.utility.gp.covariance import Widths

Array = NDArray[np.float64]
Settings = Sequence[slice]

LENGTH, UNLIKE = 0.5, 1.0
"""Usual length of a hill along a number, whose whole range is 1; and that of a category, exp(-1 / length^2) the
likeness of its values."""


SIGHT = 6.0
"""Usual variance of what pictures tell, over that of the plane."""


@dataclass(frozen=True)
class Shape(Widths):
    """Widths of a utility over settings.

    Experts tell reconstructions apart more surely than people do what they like: ``scale`` starts higher, and ``tie``
    lower.

    Attributes
    ----------
    bend : float
        Variance of the hills over that of the plane.
    sight, focus : float
        Variance of what pictures tell over that of the plane, 0 where there are none; and how unlike they are, in units
        of what is usual, when liked unalike.
    lengths : tuple of float
        Of the hills along each setting, in units of its usual one.
    """

    scale: float = 6.0
    tie: float = 0.05
    bend: float = 2.0
    sight: float = 0.0
    focus: float = 1.0
    lengths: tuple[float, ...] = ()

    def scaled(self, **factors: float) -> Self:
        """Some of the numbers multiplied; ``length3`` is the fourth length."""
        lengths = tuple(length * factors.pop(f"length{index}", 1.0) for index, length in enumerate(self.lengths))
        return replace(
            self, lengths=lengths, **{name: getattr(self, name) * factor for name, factor in factors.items()}
        )

    def log_prior(self) -> float:
        """Log density before any judgement: log-normal about the usual, by factors of e^0.7 (lengths) or e, as for
        images.
        """
        usual = Shape()
        own = [math.log(length) / 0.7 for length in self.lengths]
        own += [math.log(self.scale / usual.scale), math.log(self.bend / usual.bend), math.log(self.tie / usual.tie)]
        own += [math.log(self.sight / SIGHT), math.log(self.focus) / 0.7] if self.sight else []
        others = Widths(walk=self.walk, offset=self.offset, star=self.star).log_prior()
        return others - 0.5 * sum(one**2 for one in own)


def relief(first: Array, second: Array, settings: Settings, shape: Shape) -> Array:
    """Prior covariance (k, l) of the utilities of settled points (k, d) and (l, d).

    The hills are exp(-|x - y|^2 / 2 length^2), less their mean over the cube on either side; the plane is the inner
    product from the centre. Both are scaled to spread 1 over the cube and mixed by ``bend``.
    """
    hills, whole = _likeness(first, second, settings, shape), _whole(settings, shape)
    hills = (hills - _mean(first, settings, shape)[:, None] - _mean(second, settings, shape) + whole) / (1 - whole)
    share = shape.bend / (1 + shape.bend)
    return np.asarray(share * hills + (1 - share) * (plane(first, settings) @ plane(second, settings).T))


def variance(points: Array, settings: Settings, shape: Shape) -> Array:
    """Prior variance (k,) of the utilities of settled points (k, d): the diagonal of :func:`relief`."""
    whole, share = _whole(settings, shape), shape.bend / (1 + shape.bend)
    hills = (1 - 2 * _mean(points, settings, shape) + whole) / (1 - whole)
    return np.asarray(share * hills + (1 - share) * (plane(points, settings) ** 2).sum(axis=1))


def plane(points: Array, settings: Settings) -> Array:
    """Features (k, d) of which a plane is made: the points from the centre, each setting with the same spread, 1 in
    all.
    """
    centre, size = np.full(points.shape[1], 0.5), slopes(points.shape[1], settings)
    for part in settings:
        if (width := part.stop - part.start) > 1:
            centre[part] = 1 / width
    return np.asarray((points - centre) * size)


def slopes(dimension: int, settings: Settings) -> Array:
    """What the features of :func:`plane` gain per unit of each coordinate (d,)."""
    found = np.zeros(dimension)
    for part in settings:
        width = part.stop - part.start
        # Variances over the cube: 1 / 12 of a number; (C - 1) / C in all of the C numbers of a category.
        found[part] = math.sqrt((12 if width == 1 else width / (width - 1)) / len(settings))
    return found


def _likeness(first: Array, second: Array, settings: Settings, shape: Shape) -> Array:
    size = np.zeros(first.shape[1])
    for part, length in _lengths(settings, shape):
        size[part] = 1 / length
    a, b = first * size, second * size
    apart = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(apart, 0.0)))


def _mean(points: Array, settings: Settings, shape: Shape) -> Array:
    """Mean likeness (k,) of points (k, d) to all of the cube."""
    found = np.ones(len(points))
    for part, length in _lengths(settings, shape):
        width, root = part.stop - part.start, math.sqrt(2) * length
        if width == 1:
            place = points[:, part.start]
            found = found * (math.sqrt(math.pi) / 2 * root * (erf((1 - place) / root) + erf(place / root)))
        else:
            found = found * _even(width, length)
    return found


def _whole(settings: Settings, shape: Shape) -> float:
    """The mean of that over the cube."""
    found = 1.0
    for part, length in _lengths(settings, shape):
        width, root = part.stop - part.start, math.sqrt(2) * length
        number = math.sqrt(math.pi) * root * math.erf(1 / root) + root**2 * math.expm1(-1 / root**2)
        found *= number if width == 1 else _even(width, length)
    return found


def _even(width: int, length: float) -> float:
    """Mean likeness of a category's value to all of its ``width`` values."""
    return (1 + (width - 1) * math.exp(-1 / length**2)) / width


def _lengths(settings: Settings, shape: Shape) -> list[tuple[slice, float]]:
    """Each setting and its length, in the coordinates of the cube."""
    usual = [LENGTH if part.stop - part.start == 1 else UNLIKE for part in settings]
    return [(part, length * own) for part, length, own in zip(settings, shape.lengths, usual, strict=True)]
