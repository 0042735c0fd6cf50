"""Groups of neighbouring patterns: which patterns a network sees together.

A group has C = gridsize^2 members, indices into the scan's patterns: its seed first, then neighbours of the seed.
Training draws groups (:func:`make_groups`); inference covers every pattern with few of them (:func:`cover_groups`).
Both find the groups of a whole scan at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import combinations
from math import comb

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
        Indices into the scan's patterns. The seed pattern is first in its row, and all members of a row are distinct.
    sample : (S,) int64 array
        Sorted indices of the patterns that the groups were made from.
    """

    members: Indices
    sample: Indices

    @property
    def covered(self) -> Indices:
        """Sorted indices of the patterns that appear in at least one group."""
        return np.unique(self.members)

    def offsets(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the members lie about the middle of their group: r_i - mean(r), (G, C, 2) object pixels (y, x).

        Parameters
        ----------
        positions : (M, 2) float64
            Of all patterns of the scan, object pixels (y, x).
        """
        places = positions[self.members]
        return np.asarray(places - places.mean(axis=1, keepdims=True))


def make_groups(
    positions: NDArray[np.float64],
    *,
    gridsize: int,
    n_groups: int | None = None,
    n_subsample: int | None = None,
    neighbours: int | None = None,
    pool: int | None = None,
    oversample: bool = False,
    sequential: bool = False,
    seed: int | np.random.Generator = 0,
) -> Groups:
    """Groups to train on.

    Up to S groups (S patterns, after the subsample) have a different seed pattern each, with C - 1 of its K nearest
    neighbours, drawn without replacement. More are groups that differ in their seed or in the set of its neighbours,
    spread evenly over the seeds: any part of the groups from the first on has every seed equally often, to within one.

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x) in object pixels. They may coincide.
    gridsize : {1, 2, 3}
        A group has C = gridsize^2 members.
    n_groups : int, optional
        How many; None makes one for each pattern.
    n_subsample : int, optional
        Patterns drawn first, uniformly and without replacement; groups are made of these alone. The same ``seed`` draws
        the same ones whatever the groups are.
    neighbours : int, optional
        K, the nearest neighbours of a seed that its group is drawn from, at least C - 1: by default 4, and 16 for
        gridsize 3. Where there are fewer other patterns, all of them.
    pool : int, optional
        Takes the place of K where there are more groups than patterns; at least C. By default K.
    oversample : bool
        Allow more groups than patterns.
    sequential : bool
        The first patterns are the seeds, each with its C - 1 nearest neighbours: nothing is drawn but the subsample.
    seed : int or numpy.random.Generator
        Decides every draw.

    Returns
    -------
    Groups
        (n_groups, C) members.

    Raises
    ------
    InputError
        When a number is out of its range, there are fewer patterns than C, or more groups are asked for than there are
        or than ``oversample`` allows.
    """
    rng = np.random.default_rng(seed)
    count, size = len(positions), _group_size(gridsize)
    near = _near(neighbours, size, default=4 if gridsize <= 2 else 2 * (size - 1))
    sample = _subsample(count, n_subsample, rng)
    _enough(len(sample), size)
    total = len(sample) if n_groups is None else _at_least(n_groups, 1, "n_groups", "--n-groups")
    if total > len(sample):
        near = _oversampling_pool(total, len(sample), size, near if pool is None else pool, oversample, sequential)
    table = _nearest(positions[sample], near)
    if sequential:
        seeds, picks = np.arange(total), np.tile(np.arange(size - 1), (total, 1))
    elif total > len(sample):
        seeds, picks = _oversampled(total, (len(sample), table.shape[1]), size - 1, rng)
    else:
        seeds = rng.permutation(len(sample))[:total]
        picks = rng.random((total, table.shape[1])).argsort(axis=1)[:, : size - 1]
    local = np.column_stack([seeds, np.take_along_axis(table[seeds], picks, axis=1)])
    groups = Groups(sample[local], sample)
    _say(groups, count)
    return groups


def cover_groups(
    positions: NDArray[np.float64],
    *,
    gridsize: int,
    neighbours: int | None = None,
    redundancy: int = 1,
    seed: int | np.random.Generator = 0,
) -> Groups:
    """Few compact groups that hold every pattern: what inference works through.

    Greedy: of the patterns not covered yet, the one with the fewest such neighbours becomes the next seed, and takes
    the nearest of them; where they are too few, the nearest covered ones fill the group. (A pattern that is left to the
    end has no such neighbours left, and would cost a group of its own.)

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x) in object pixels. They may coincide.
    gridsize : {1, 2, 3}
        A group has C = gridsize^2 members.
    neighbours : int, optional
        The members of a group are among this many nearest neighbours of its seed, at least C - 1; by default 2 C.
    redundancy : int
        Every pattern is in at least this many groups, no two of which have the same members.
    seed : int or numpy.random.Generator
        Decides between seeds that are equally good.

    Returns
    -------
    Groups
        Their ``sample`` is the whole scan.

    Raises
    ------
    InputError
        When a number is out of its range, there are fewer patterns than C, or the neighbours allow no such redundancy.
    """
    count, size = len(positions), _group_size(gridsize)
    near = _near(neighbours, size, default=2 * size)
    _enough(count, size)
    table = _nearest(positions, near)
    redundancy = _at_least(redundancy, 1, "redundancy", "--redundancy")
    if redundancy > (most := comb(table.shape[1], size - 1)):
        raise InputError(
            f"redundancy is {redundancy}, but groups of {size} around one pattern, of its {table.shape[1]} nearest "
            f"neighbours, are at most "
            f"{most}; expected at most {most} (--redundancy)."
        )
    cover = _Cover(table, size, np.random.default_rng(seed))
    for level in range(1, redundancy + 1):
        cover.fill(level)
    groups = Groups(np.array(cover.groups, np.int64).reshape(-1, size), np.arange(count))
    _say(groups, count)
    return groups


class _Cover:
    """Groups that cover patterns, made one by one.

    Parameters
    ----------
    table : (M, K) int64 array
        The nearest neighbours of every pattern, nearest first.
    size : int
        C.
    rng : numpy.random.Generator
        Decides between seeds that are equally good.
    """

    def __init__(self, table: Indices, size: int, rng: np.random.Generator) -> None:
        self.groups: list[tuple[int, ...]] = []
        self._known: set[frozenset[int]] = set()
        self._size, self._rng = size, rng
        self._near: list[list[int]] = table.tolist()
        self._times = [0] * len(table)
        # Whose neighbour a pattern is.
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
            # An entry that is no longer true has a newer one further up.
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
        """Groups of a seed, the best first: neighbours that are not covered before those that are, nearest first."""
        row = sorted(self._near[seed], key=lambda j: self._times[j] >= level)
        for others in combinations(row, self._size - 1):
            yield (seed, *others)


def _group_size(gridsize: int) -> int:
    """C, the members of a group."""
    expected = "1, 2 or 3 (--gridsize), for groups of 1, 4 or 9 patterns"
    if (side := whole(gridsize, "gridsize", expected)) not in (1, 2, 3):
        raise InputError(f"gridsize is {gridsize}; expected {expected}.")
    return side**2


def _at_least(value: int, least: int, name: str, flag: str) -> int:
    expected = f"a whole number of at least {least} ({flag})"
    if (number := whole(value, name, expected)) < least:
        raise InputError(f"{name} is {value}; expected {expected}.")
    return number


def _near(neighbours: int | None, size: int, default: int) -> int:
    """K, large enough for a group."""
    near = default if neighbours is None else _at_least(neighbours, 0, "neighbours", "--neighbours")
    if near < size - 1:
        raise InputError(
            f"neighbours is {near}, too few for groups of {size} patterns, a seed and {size - 1} of its neighbours; "
            f"expected at least {size - 1} (--neighbours)."
        )
    return near


def _subsample(count: int, wanted: int | None, rng: np.random.Generator) -> Indices:
    """Sorted indices of the patterns that groups are made of."""
    if wanted is None:
        return np.arange(count)
    wanted = _at_least(wanted, 1, "n_subsample", "--n-subsample")
    if wanted > count:
        raise InputError(
            f"n_subsample is {wanted:,}, but the scan has {count:,} patterns; expected at most {count:,} "
            f"(--n-subsample)."
        )
    return np.sort(rng.choice(count, wanted, replace=False))


def _enough(count: int, size: int) -> None:
    if count < size:
        raise InputError(
            f"{count} patterns make no group of {size}; expected at least {size} patterns, or a smaller gridsize "
            f"(--gridsize)."
        )


def _nearest(positions: NDArray[np.float64], near: int) -> Indices:
    """The ``near`` nearest others of every position (fewer where there are no more), nearest first: (M, K) int64."""
    from scipy.spatial import cKDTree

    count = len(positions)
    near = min(near, count - 1)
    if near == 0:
        return np.empty((count, 0), np.int64)
    found = cKDTree(positions).query(positions, k=near + 1)[1]
    own = found == np.arange(count)[:, None]
    # Where positions coincide a pattern need not be the first found, nor found at all; then the last one goes.
    own[~own.any(axis=1), -1] = True
    return np.asarray(found[~own].reshape(count, near), np.int64)


def _oversampling_pool(total: int, count: int, size: int, pool: int, oversample: bool, sequential: bool) -> int:
    """The neighbours that more groups than patterns are drawn from; raises InputError where there cannot be so many
    groups.
    """
    asked = f"n_groups is {total:,}, but there are {count:,} patterns"
    if size == 1 or sequential:
        why = "groups of one pattern" if size == 1 else "sequential groups"
        raise InputError(f"{asked}, and {why} differ in their seed alone; expected at most {count:,} (--n-groups).")
    if not oversample:
        raise InputError(
            f"{asked}; expected at most {count:,} (--n-groups), or oversample=True (--oversample) to draw several "
            f"groups for a pattern."
        )
    if _at_least(pool, 1, "pool", "--pool") < size:
        raise InputError(
            f"the pool of {pool} neighbours is too small for different groups of {size}; expected at least {size} "
            f"neighbours (--pool)."
        )
    near = min(pool, count - 1)
    most = comb(near, size - 1)
    if most > np.iinfo(np.int64).max:
        raise InputError(
            f"the pool of {near} neighbours has more groups than can be numbered; expected a smaller pool (--pool)."
        )
    if total > count * most:
        raise InputError(
            f"n_groups is {total:,}, but {count:,} patterns with {near} neighbours each make only {count * most:,} "
            f"different groups of "
            f"{size}; expected fewer groups (--n-groups) or a larger pool (--pool)."
        )
    return near


def _oversampled(total: int, shape: tuple[int, int], others: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Seeds (G,) in even rounds, and for each its ``others`` (G, C - 1) out of the neighbours in a table of this shape
    (S, K).

    No seed has the same ones twice: it draws the numbers of combinations without replacement, so that none need be
    listed.
    """
    count, near = shape
    rounds = -(-total // count)
    order = rng.permutation(count)
    most = comb(near, others)
    drawn = np.stack([rng.choice(most, rounds, replace=False) for _ in range(count)], axis=1)
    return np.tile(order, rounds)[:total], _combination(drawn.ravel()[:total], near, others)


def _combination(number: Indices, near: int, others: int) -> Indices:
    """Combinations by number, (G, others) indices below ``near`` (combinatorial number system: Knuth, TAOCP 4A,
    7.2.1.3).
    """
    chosen = []
    for k in range(others, 0, -1):
        table = np.array([comb(c, k) for c in range(near)], np.int64)
        chosen.append(np.searchsorted(table, number, side="right") - 1)
        number = number - table[chosen[-1]]
    return np.stack(chosen, axis=1)


def _say(groups: Groups, count: int) -> None:
    number, size = groups.members.shape
    log.info(
        f"{number:,} groups of {size} pattern{'s' if size > 1 else ''}: {number * size:,} patterns used, "
        f"{len(groups.covered):,} distinct of {count:,}"
    )
