"""Geometry of settings: points of [0, 1]^d whose numbers are quantiles, some of them together the choice of one
category.

A category of C values has C numbers, of which the largest chooses (the first of equals). Points that mean the same
settings are brought to one: 1 for the choice, 0 for the others; and one quantile for all that mean the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

Array = NDArray[np.float64]

STEPS = (0.03, 0.1, 0.3)
"""Standard deviations of moves in a setting."""


@dataclass(frozen=True)
class Flat:
    """Stretches of one coordinate, in order, of which each means one and the same value, such as a whole number.

    Attributes
    ----------
    index : int
        Of the coordinate.
    low, high, at : tuple of float
        Where each begins and ends, and which quantile stands for it.
    """

    index: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    at: tuple[float, ...]

    def level(self, values: Array) -> Array:
        """The values, of each stretch the one that stands for it."""
        place = np.searchsorted(self.low, values, side="right") - 1
        inside = (place >= 0) & (values <= np.asarray(self.high)[place])
        return np.where(inside, np.asarray(self.at)[place], values)


@dataclass(frozen=True)
class Cube:
    """Which points of a cube mean the same settings.

    Attributes
    ----------
    categories : tuple of slice
        The coordinates that are together the choice of one setting.
    flats : tuple of Flat
    """

    categories: tuple[slice, ...] = ()
    flats: tuple[Flat, ...] = ()


PLAIN = Cube()
"""Every point means settings of its own."""


def settled(points: ArrayLike, cube: Cube) -> Array:
    """The points (..., d) with 1 for the chosen value of each category and 0 for its others, and one quantile per
    number; a copy.
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
    """The coordinates of each setting: first the numbers, then the categories."""
    return (*(slice(int(one), int(one) + 1) for one in numbers(dimension, cube)), *cube.categories)


def sobol(count: int, dimension: int, cube: Cube, rng: np.random.Generator) -> Array:
    """The first ``count`` points (count, d) of a scrambled Sobol sequence over the settings; a category takes one of
    its dimensions.
    """
    free = numbers(dimension, cube)
    drawn = qmc.Sobol(len(free) + len(cube.categories), seed=rng).random_base2(max(count - 1, 0).bit_length())[:count]
    points = np.zeros((count, dimension))
    points[:, free] = drawn[:, : len(free)]
    for part, column in zip(cube.categories, drawn[:, len(free) :].T, strict=True):
        width = part.stop - part.start
        points[np.arange(count), part.start + np.minimum((column * width).astype(int), width - 1)] = 1
    return settled(points, cube)


def nearby(place: Array, count: int, cube: Cube, rng: np.random.Generator) -> Array:
    """Points (count, d) about one (d,): each setting moves, by a small step or a larger one and up to its walls, with
    probability 1/2.
    """
    free = numbers(len(place), cube)
    size = rng.choice(STEPS, size=(count, 1)) * rng.standard_normal((count, len(free)))
    points = np.repeat(place[None], count, axis=0)
    points[:, free] = np.clip(points[:, free] + size * (rng.random((count, len(free))) < 0.5), 0, 1)
    for part in cube.categories:
        width = part.stop - part.start
        other = np.eye(width)[rng.integers(width, size=count)]
        points[:, part] = np.where(rng.random((count, 1)) < 0.5, points[:, part], other)
    return settled(points, cube)
