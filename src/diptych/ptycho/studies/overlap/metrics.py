"""Three measures of overlap between the illuminated discs of a scan, by closed formulas.

All take positions (M, 2) in object pixels and the probe's diameter D in pixels; two discs at distance d overlap by the
fraction :func:`disc_overlap` of their area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

Positions = NDArray[np.float64]

BOUND_LIMIT = 0.10
"""The geometry bound never exceeds this acceptance."""

EPSILON = 1e-6
"""The effective smallest acceptance is at least this."""

_ROWS = 256
"""Distances are computed for this many centres at a time: the memory does not grow with the square of their number."""


def disc_overlap(distance: ArrayLike, diameter: float) -> NDArray[np.float64]:
    """Common area of two discs of diameter D at distance d, as a fraction of one disc's area.

    With R = D / 2: (2 R^2 acos(d / 2R) - d sqrt(4R^2 - d^2) / 2) / (pi R^2), and 0 for d >= D.

    Examples
    --------
    >>> disc_overlap([0.0, 1.0, 2.0], 2.0).round(4).tolist()
    [1.0, 0.391, 0.0]
    """
    if not diameter > 0:
        raise InputError("overlap: probe diameter", f"is {diameter:g} px", "a positive number")
    ratio = np.clip(np.abs(np.asarray(distance, np.float64)) / diameter, 0, 1)
    return np.asarray(2 / np.pi * (np.arccos(ratio) - ratio * np.sqrt(1 - ratio**2)), np.float64)


def group_overlap(positions: Positions, members: NDArray[np.int64], diameter: float, neighbours: int) -> float:
    """Metric 1: mean overlap of each group's seed (its first member) with up to K nearest other members.

    Parameters
    ----------
    members : (G, C) int
        Indices of the members of each group, C > 1.
    neighbours : int
        K.
    """
    if members.shape[1] < 2:
        raise InputError("overlap: metric 1", "groups have a single member", "groups of g = 2")
    own = positions[members]
    distances = np.sort(np.linalg.norm(own[:, 1:] - own[:, :1], axis=-1), axis=1)[:, :neighbours]
    return float(disc_overlap(distances, diameter).mean(axis=1).mean())


def image_overlap(positions: Positions, diameter: float, neighbours: int) -> float:
    """Metric 2: mean overlap of each distinct position with its K nearest distinct positions; 0 for a single one."""
    from scipy.spatial import cKDTree

    unique = np.unique(positions, axis=0)
    if len(unique) < 2:
        return 0.0
    near = min(neighbours, len(unique) - 1)
    distances, _ = cKDTree(unique).query(unique, k=near + 1)
    return float(disc_overlap(distances[:, 1:], diameter).mean(axis=1).mean())


def centre_overlap(positions: Positions, members: NDArray[np.int64], diameter: float) -> float:
    """Metric 3: mean overlap of each group's centre of mass with those of all other groups closer than D.

    A group without such a neighbour counts 0.
    """
    centres = positions[members].mean(axis=1)
    total = 0.0
    for first in range(0, len(centres), _ROWS):
        part = centres[first : first + _ROWS]
        distances = np.linalg.norm(part[:, None] - centres[None], axis=-1)
        rows = np.arange(len(part))
        distances[rows, first + rows] = np.inf
        near = distances < diameter
        overlap = np.where(near, disc_overlap(np.minimum(distances, diameter), diameter), 0.0).sum(axis=1)
        total += float((overlap / np.maximum(near.sum(axis=1), 1)).sum())
    return total / len(centres)


def geometry_bound(positions: Positions, diameter: float) -> float:
    """min(area of the box of positions / (n pi (D / 2)^2), 0.10): recorded, and never a condition."""
    height, width = np.ptp(positions, axis=0)
    return float(min(height * width / (len(positions) * np.pi * (diameter / 2) ** 2), BOUND_LIMIT))
