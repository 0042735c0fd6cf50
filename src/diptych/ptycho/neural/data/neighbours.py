"""Groups as data, the nearest neighbours they are made of, and checks of the numbers that define them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.validation import whole

log = logging.getLogger("diptych")

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of neighbouring patterns.

    Parameters
    ----------
    members : (G, C) int64 array
        Indices into the scan's patterns. The seed pattern comes first, and the members of a group are distinct.
    sample : (S,) int64 array
        Sorted indices of the patterns that the groups were formed from.
    """

    members: Indices
    sample: Indices

    @property
    def covered(self) -> Indices:
        """Sorted indices of the patterns in at least one group."""
        return np.unique(self.members)

    def offsets(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of the members relative to the centre of their group: r_i - mean(r), (G, C, 2), object pixels.

        Parameters
        ----------
        positions : (M, 2) float64
            Of all patterns of the scan, (y, x), object pixels.
        """
        own = positions[self.members]
        return np.asarray(own - own.mean(axis=1, keepdims=True))


def group_size(gridsize: int) -> int:
    """C, the number of members of a group."""
    expected = "1, 2 or 3 (--gridsize), for groups of 1, 4 or 9 patterns"
    if (side := whole(gridsize, "gridsize", expected)) not in (1, 2, 3):
        raise InputError("gridsize", f"is {gridsize}", expected)
    return side**2


def at_least(value: int, least: int, name: str, flag: str) -> int:
    """``value`` as int; raises InputError if it is not a whole number of at least ``least``."""
    expected = f"a whole number of at least {least} ({flag})"
    if (number := whole(value, name, expected)) < least:
        raise InputError(name, f"is {value}", expected)
    return number


def neighbour_count(neighbours: int | None, size: int, default: int) -> int:
    """K, the number of nearest neighbours; raises InputError if it is too small for a group of ``size``."""
    near = default if neighbours is None else at_least(neighbours, 0, "neighbours", "--neighbours")
    if near < size - 1:
        raise InputError(
            "neighbours",
            f"is {near}, too few for groups of {size} patterns",
            f"at least {size - 1} (--neighbours)",
        )
    return near


def check_enough(count: int, size: int) -> None:
    """Raise InputError if there are fewer patterns than members of a group."""
    if count < size:
        raise InputError(
            "groups",
            f"{count} patterns are too few for groups of {size}",
            f"at least {size} patterns, or a smaller gridsize (--gridsize)",
        )


def nearest_neighbours(positions: NDArray[np.float64], near: int) -> Indices:
    """The ``near`` nearest other positions of each one (fewer if there are no more), nearest first: (M, K) int64."""
    from scipy.spatial import cKDTree

    count = len(positions)
    near = min(near, count - 1)
    if near == 0:
        return np.empty((count, 0), np.int64)
    found = cKDTree(positions).query(positions, k=near + 1)[1]
    own = found == np.arange(count)[:, None]
    # With coinciding positions a pattern may not be among its own neighbours; then the last one is dropped.
    own[~own.any(axis=1), -1] = True
    return np.asarray(found[~own].reshape(count, near), np.int64)


def log_groups(groups: Groups, count: int) -> None:
    """Log the numbers of groups and patterns."""
    number, size = groups.members.shape
    log.info(
        f"{number:,} groups of {size} pattern{'s' if size > 1 else ''}: {number * size:,} patterns used, "
        f"{len(groups.covered):,} distinct of {count:,}"
    )
