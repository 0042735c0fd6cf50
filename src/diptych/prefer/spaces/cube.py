"""Geometry of settings: points of [0, 1]^d whose coordinates are quantiles of settings.

A categorical setting with C values has C coordinates, and the largest (the first of equals) selects the value. Points
that mean the same settings are mapped to one representative, the *settled* point: one-hot coordinates for a category,
and one quantile for all that mean the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

STEPS = (0.03, 0.1, 0.3)
"""Standard deviations of random moves of a coordinate."""


@dataclass(frozen=True)
class Flat:
    """Intervals of one coordinate on which the setting is constant, such as those of a whole number.

    Attributes
    ----------
    index : int
        The coordinate.
    low, high, at : tuple of float
        Start and end of each interval, in increasing order, and the quantile that represents it.
    """

    index: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    at: tuple[float, ...]

    def level(self, values: Array) -> Array:
        """The values, with those inside an interval replaced by its representative."""
        interval = np.searchsorted(self.low, values, side="right") - 1
        inside = (interval >= 0) & (values <= np.asarray(self.high)[interval])
        return np.where(inside, np.asarray(self.at)[interval], values)


@dataclass(frozen=True)
class Cube:
    """Which points of a cube mean the same settings.

    Attributes
    ----------
    categories : tuple of slice
        The coordinates of each categorical setting.
    flats : tuple of Flat
    """

    categories: tuple[slice, ...] = ()
    flats: tuple[Flat, ...] = ()


PLAIN = Cube()
"""No categories and no constant intervals: different points mean different settings."""


def settled(points: ArrayLike, cube: Cube) -> Array:
    """The representative of the settings of each point (..., d): one-hot categories, and one quantile per number.
    Returns a copy.
    """
    found = np.array(points, dtype=np.float64)
    for part in cube.categories:
        block = found[..., part]
        found[..., part] = np.arange(block.shape[-1]) == block.argmax(axis=-1)[..., None]
    for flat in cube.flats:
        found[..., flat.index] = flat.level(found[..., flat.index])
    return found


def numbers(dimension: int, cube: Cube) -> NDArray[np.int64]:
    """Coordinates that belong to no category."""
    free = np.ones(dimension, dtype=bool)
    for part in cube.categories:
        free[part] = False
    return np.flatnonzero(free)


def settings(dimension: int, cube: Cube) -> tuple[slice, ...]:
    """The coordinates of each setting: the numbers first, then the categories."""
    return (*(slice(int(one), int(one) + 1) for one in numbers(dimension, cube)), *cube.categories)


def sobol(count: int, dimension: int, cube: Cube, rng: np.random.Generator) -> Array:
    """The first ``count`` points (count, d) of a scrambled Sobol sequence over the settings, settled. A category uses
    one dimension of the sequence.
    """
    from scipy.stats import qmc

    free = numbers(dimension, cube)
    drawn = qmc.Sobol(len(free) + len(cube.categories), seed=rng).random_base2(max(count - 1, 0).bit_length())[:count]
    points = np.zeros((count, dimension))
    points[:, free] = drawn[:, : len(free)]
    for part, column in zip(cube.categories, drawn[:, len(free) :].T, strict=True):
        width = part.stop - part.start
        points[np.arange(count), part.start + np.minimum((column * width).astype(int), width - 1)] = 1
    return settled(points, cube)


def nearby(center: Array, count: int, cube: Cube, rng: np.random.Generator) -> Array:
    """Random points (count, d) around one (d,), settled. Each setting changes with probability 1/2: a number by a
    normal step of a random size in :data:`STEPS`, clipped to [0, 1], a category to a uniformly drawn value.
    """
    free = numbers(len(center), cube)
    size = rng.choice(STEPS, size=(count, 1)) * rng.standard_normal((count, len(free)))
    points = np.repeat(center[None], count, axis=0)
    points[:, free] = np.clip(points[:, free] + size * (rng.random((count, len(free))) < 0.5), 0, 1)
    for part in cube.categories:
        width = part.stop - part.start
        other = np.eye(width)[rng.integers(width, size=count)]
        points[:, part] = np.where(rng.random((count, 1)) < 0.5, points[:, part], other)
    return settled(points, cube)
