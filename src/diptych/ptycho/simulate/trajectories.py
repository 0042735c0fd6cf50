"""Trajectories: positions of the patterns, (M, 2) float64 (y, x) in object pixels, centred on (0, 0)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.float64]

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""2.39996 rad."""


def make_trajectory(
    kind: str,
    step: float,
    rng: np.random.Generator,
    *,
    patterns: int = 256,
    field: tuple[float, float] | None = None,
    jitter: float | None = None,
) -> Positions:
    """A trajectory by name.

    Parameters
    ----------
    kind : {"raster", "jittered-raster", "fermat-spiral", "random"}
        See the function of that name.
    step : float
        Distance of neighbours, px; the spiral and the random scan have one pattern per step^2.
    rng : numpy Generator
        Random generator of the jitter, or of the random scan.
    patterns : int
        Number of patterns, without ``field``.
    field : (float, float), optional
        Height and width to fill, px, instead of a number of patterns.
    jitter : float, optional
        Largest displacement of a jittered raster, px. Default: step / 4.

    Returns
    -------
    (M, 2) float64
    """
    if kind == "fermat-spiral":
        return fermat_spiral(step, patterns, field)
    if kind == "random":
        return random(step, rng, patterns, field)
    positions = raster(step, patterns, field)
    if kind == "jittered-raster":
        reach = step / 4 if jitter is None else jitter
        positions = positions + rng.uniform(-reach, reach, size=positions.shape)
    return positions


def raster(step: float, patterns: int, field: tuple[float, float] | None = None) -> Positions:
    """A square grid, row by row. ``patterns`` points make it as square as possible (the last row may be shorter)."""
    if field is None:
        rows = math.ceil(math.sqrt(patterns))
        columns = math.ceil(patterns / rows)
        count = patterns
    else:
        # A field of exactly k steps has k + 1 points, whatever the rounding.
        rows, columns = (int(side / step + 1e-9) + 1 for side in field)
        count = rows * columns
    y, x = np.divmod(np.arange(count), columns)
    return np.stack([(y - (rows - 1) / 2) * step, (x - (columns - 1) / 2) * step], axis=1)


def fermat_spiral(step: float, patterns: int, field: tuple[float, float] | None = None) -> Positions:
    """A Fermat spiral r = c sqrt(n + 1/2), theta = n x golden angle: uniform density, no lattice (Huang et al., Opt.
    Express 22, 12634, 2014).

    pi c^2 = step^2, so that each pattern has an area of step^2. With ``field``, the points inside that rectangle (one
    in its middle, if it is too small for any).
    """
    scale = step / math.sqrt(math.pi)
    count = patterns if field is None else math.ceil((math.hypot(*field) / 2 / scale) ** 2) + 1
    n = np.arange(count)
    # With the half, the first point has a ring of the same area as every other.
    radius, angle = scale * np.sqrt(n + 0.5), n * GOLDEN_ANGLE
    positions = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    if field is None:
        return positions
    inside = (np.abs(positions) <= np.asarray(field) / 2).all(axis=1)
    return np.asarray(positions[inside], np.float64) if inside.any() else np.zeros((1, 2))


def random(step: float, rng: np.random.Generator, patterns: int, field: tuple[float, float] | None = None) -> Positions:
    """Independent points, uniform over ``field``, or over the square that gives each of ``patterns`` an area of
    step^2.
    """
    if field is None:
        height = width = step * math.sqrt(patterns)
    else:
        height, width = field
        patterns = max(1, round(height * width / step**2))
    return rng.uniform((-height / 2, -width / 2), (height / 2, width / 2), size=(patterns, 2))
