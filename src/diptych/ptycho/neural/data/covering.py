"""Groups for inference: few compact groups that contain every pattern."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.neural.data.neighbours import (
    Groups,
    Indices,
    at_least,
    check_enough,
    group_size,
    log_groups,
    nearest_neighbours,
    neighbour_count,
)


def cover_groups(
    positions: NDArray[np.float64],
    *,
    gridsize: int,
    neighbours: int | None = None,
    redundancy: int = 1,
    seed: int | np.random.Generator = 0,
) -> Groups:
    """Form few compact groups that contain every pattern, for inference.

    Greedy: the uncovered pattern with the fewest uncovered neighbours is the next seed and is grouped with the nearest
    of them; if these are too few, the nearest covered ones fill the group. (Otherwise isolated patterns would be left
    to the end, without uncovered neighbours, and each would need a group of its own.)

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x), object pixels. Positions may coincide.
    gridsize : {1, 2, 3}
        A group has C = gridsize^2 members.
    neighbours : int, optional
        Members of a group are among this many nearest neighbours of its seed, at least C - 1; by default 2 C.
    redundancy : int
        Every pattern is in at least this many groups; no two groups have the same members.
    seed : int or numpy.random.Generator
        Chooses among equally good seeds.

    Returns
    -------
    Groups
        Of the whole scan.

    Raises
    ------
    InputError
        If a number is out of range, there are fewer patterns than C, or too few neighbours for the redundancy.
    """
    count, size = len(positions), group_size(gridsize)
    near = neighbour_count(neighbours, size, default=2 * size)
    check_enough(count, size)
    table = nearest_neighbours(positions, near)
    redundancy = at_least(redundancy, 1, "redundancy", "--redundancy")
    if redundancy > (most := comb(table.shape[1], size - 1)):
        raise InputError(
            "redundancy",
            f"is {redundancy}, but a pattern with {table.shape[1]} neighbours has only {most} groups of {size}",
            f"at most {most} (--redundancy)",
        )
    cover = _GreedyCover(table, size, np.random.default_rng(seed))
    for level in range(1, redundancy + 1):
        cover.fill(level)
    groups = Groups(np.array(cover.groups, np.int64).reshape(-1, size), np.arange(count))
    log_groups(groups, count)
    return groups


class _GreedyCover:
    """Groups that cover patterns, formed one by one.

    Parameters
    ----------
    table : (M, K) int64 array
        The nearest neighbours of every pattern, nearest first.
    size : int
        C.
    rng : numpy.random.Generator
        Chooses among equally good seeds.
    """

    def __init__(self, table: Indices, size: int, rng: np.random.Generator) -> None:
        self.groups: list[tuple[int, ...]] = []
        self._known: set[frozenset[int]] = set()
        self._size, self._rng = size, rng
        self._near: list[list[int]] = table.tolist()
        self._times = [0] * len(table)
        # The patterns that have a pattern among their neighbours.
        self._back: list[list[int]] = [[] for _ in self._near]
        for i, row in enumerate(self._near):
            for j in row:
                self._back[j].append(i)

    def fill(self, level: int) -> None:
        """Add groups until every pattern is in at least ``level``."""
        times, rank = self._times, self._rng.permutation(len(self._near)).tolist()
        free = [sum(times[j] < level for j in row) for row in self._near]
        queue = [(free[i], rank[i], i) for i in range(len(free)) if times[i] < level]
        heapify(queue)
        while queue:
            left, _, i = heappop(queue)
            # An outdated entry has been replaced by a newer one.
            if times[i] >= level or left != free[i]:
                continue
            group = next(group for group in self._candidates(i, level) if frozenset(group) not in self._known)
            self.groups.append(group)
            self._known.add(frozenset(group))
            for j in group:
                times[j] += 1
                if times[j] == level:
                    for k in self._back[j]:
                        free[k] -= 1
                        if times[k] < level:
                            heappush(queue, (free[k], rank[k], k))

    def _candidates(self, seed: int, level: int) -> Iterator[tuple[int, ...]]:
        """Groups of a seed in order of preference: uncovered neighbours before covered ones, nearest first."""
        row = sorted(self._near[seed], key=lambda j: self._times[j] >= level)
        for others in combinations(row, self._size - 1):
            yield (seed, *others)
