"""Geometry of settings: points of [0, 1]^d whose numbers are quantiles, some of them together the choice of one category.

A category of C values has C numbers, of which the largest chooses (the first of equals). Points that mean the same settings are brought
to one: 1 for the choice, 0 for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

Array = NDArray[np.float64]
Categories = Sequence[slice]

STEPS = (0.03, 0.1, 0.3)
"""Standard deviations of moves in a setting."""


def settled(points: ArrayLike, categories: Categories = ()) -> Array:
    """The points (..., d) with 1 for the chosen value of each category and 0 for its others; a copy."""
    found = np.array(points, dtype=np.float64)
    for part in categories:
        block = found[..., part]
        found[..., part] = np.arange(block.shape[-1]) == block.argmax(axis=-1)[..., None]
    return found


def numbers(dimension: int, categories: Categories = ()) -> NDArray[np.int64]:
    """Coordinates that belong to no category."""
    free = np.ones(dimension, dtype=bool)
    for part in categories:
        free[part] = False
    return np.flatnonzero(free)


def settings(dimension: int, categories: Categories = ()) -> tuple[slice, ...]:
    """The coordinates of each setting: first the numbers, then the categories."""
    return (*(slice(int(one), int(one) + 1) for one in numbers(dimension, categories)), *categories)


def sobol(count: int, dimension: int, categories: Categories, rng: np.random.Generator) -> Array:
    """The first ``count`` points (count, d) of a scrambled Sobol sequence over the settings; a category takes one of its dimensions."""
    free = numbers(dimension, categories)
    drawn = qmc.Sobol(len(free) + len(categories), seed=rng).random_base2(max(count - 1, 0).bit_length())[:count]
    points = np.zeros((count, dimension))
    points[:, free] = drawn[:, : len(free)]
    for part, column in zip(categories, drawn[:, len(free) :].T, strict=True):
        width = part.stop - part.start
        points[np.arange(count), part.start + np.minimum((column * width).astype(int), width - 1)] = 1
    return points


def nearby(place: Array, count: int, categories: Categories, rng: np.random.Generator) -> Array:
    """Points (count, d) about one (d,): each setting moves, by a small step or a larger one and up to its walls, with probability 1/2."""
    free = numbers(len(place), categories)
    size = rng.choice(STEPS, size=(count, 1)) * rng.standard_normal((count, len(free)))
    points = np.repeat(place[None], count, axis=0)
    points[:, free] = np.clip(points[:, free] + size * (rng.random((count, len(free))) < 0.5), 0, 1)
    for part in categories:
        width = part.stop - part.start
        other = np.eye(width)[rng.integers(width, size=count)]
        points[:, part] = np.where(rng.random((count, 1)) < 0.5, points[:, part], other)
    return points
