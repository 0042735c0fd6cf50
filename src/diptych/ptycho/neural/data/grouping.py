"""Groups of neighbouring patterns to train on.

A group has C = gridsize^2 members, indices into the scan's patterns: the seed pattern first, then neighbours of it. The
groups of a whole scan are formed at once. Inference uses :func:`~diptych.ptycho.neural.data.covering.cover_groups`.
"""

from __future__ import annotations

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
    """Form groups to train on.

    With S patterns after the subsample, up to S groups have different seed patterns, each with C - 1 of its K nearest
    neighbours, drawn without replacement. With more groups, any two differ in their seed or in the set of neighbours,
    and seeds are used evenly: among the first n groups the numbers of uses of any two seeds differ by one at most.

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x), object pixels. Positions may coincide.
    gridsize : {1, 2, 3}
        A group has C = gridsize^2 members.
    n_groups : int, optional
        Number of groups; by default one per pattern.
    n_subsample : int, optional
        Number of patterns drawn first, uniformly and without replacement; groups are formed from these only. The draw
        depends on ``seed`` and not on the other arguments.
    neighbours : int, optional
        K, the number of nearest neighbours of a seed that its group is drawn from, at least C - 1. By default 4, and 16
        for gridsize 3. If there are fewer other patterns, all of them.
    pool : int, optional
        Replaces K if there are more groups than patterns; at least C. By default K.
    oversample : bool
        Allow more groups than patterns.
    sequential : bool
        Use the first patterns as seeds, each with its C - 1 nearest neighbours. Only the subsample is random.
    seed : int or numpy.random.Generator
        For all random draws.

    Returns
    -------
    Groups
        (n_groups, C) members.

    Raises
    ------
    InputError
        If a number is out of range, there are fewer patterns than C, or ``n_groups`` exceeds the number of possible
        groups, or the number of patterns without ``oversample``.
    """
    rng = np.random.default_rng(seed)
    count, size = len(positions), group_size(gridsize)
    near = neighbour_count(neighbours, size, default=4 if gridsize <= 2 else 2 * (size - 1))
    sample = _subsample(count, n_subsample, rng)
    check_enough(len(sample), size)
    total = len(sample) if n_groups is None else at_least(n_groups, 1, "n_groups", "--n-groups")
    if total > len(sample):
        near = _oversampling_pool(total, len(sample), size, near if pool is None else pool, oversample, sequential)
    table = nearest_neighbours(positions[sample], near)
    if sequential:
        seeds, picks = np.arange(total), np.tile(np.arange(size - 1), (total, 1))
    elif total > len(sample):
        seeds, picks = _oversampled(total, (len(sample), table.shape[1]), size - 1, rng)
    else:
        seeds = rng.permutation(len(sample))[:total]
        picks = rng.random((total, table.shape[1])).argsort(axis=1)[:, : size - 1]
    local = np.column_stack([seeds, np.take_along_axis(table[seeds], picks, axis=1)])
    groups = Groups(sample[local], sample)
    log_groups(groups, count)
    return groups


def _subsample(count: int, wanted: int | None, rng: np.random.Generator) -> Indices:
    """Sorted indices of the patterns that groups are formed from."""
    if wanted is None:
        return np.arange(count)
    wanted = at_least(wanted, 1, "n_subsample", "--n-subsample")
    if wanted > count:
        raise InputError(
            "n_subsample", f"is {wanted:,}, but the scan has {count:,} patterns", f"at most {count:,} (--n-subsample)"
        )
    return np.sort(rng.choice(count, wanted, replace=False))


def _oversampling_pool(total: int, count: int, size: int, pool: int, oversample: bool, sequential: bool) -> int:
    """Number of neighbours for more groups than patterns; raises InputError if there are not enough groups."""
    found, most_seeds = f"is {total:,}, but there are {count:,} patterns", f"at most {count:,} (--n-groups)"
    if size == 1 or sequential:
        why = "groups of one pattern" if size == 1 else "sequential groups"
        raise InputError("n_groups", f"{found}, and {why} differ in their seed only", most_seeds)
    if not oversample:
        raise InputError(
            "n_groups", found, most_seeds, "To form several groups per pattern, set oversample=True (--oversample)."
        )
    if at_least(pool, 1, "pool", "--pool") < size:
        raise InputError(
            "pool", f"is {pool}, too small for different groups of {size}", f"at least {size} neighbours (--pool)"
        )
    near = min(pool, count - 1)
    most = comb(near, size - 1)
    if most > np.iinfo(np.int64).max:
        raise InputError("pool", f"{near} neighbours have more than 2^63 combinations", "a smaller pool (--pool)")
    if total > count * most:
        raise InputError(
            "n_groups",
            f"is {total:,}, but {count:,} patterns with {near} neighbours each have {count * most:,} different groups "
            f"of {size}",
            "fewer groups (--n-groups) or a larger pool (--pool)",
        )
    return near


def _oversampled(total: int, shape: tuple[int, int], others: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Seeds (G,) and for each the columns (G, ``others``) of its neighbours in a table of this ``shape`` (S, K).

    Seeds are used in turn. For each seed the numbers of its combinations are drawn without replacement, so that none
    occurs twice and the combinations need not be listed.
    """
    count, near = shape
    rounds = -(-total // count)
    order = rng.permutation(count)
    most = comb(near, others)
    drawn = np.stack([rng.choice(most, rounds, replace=False) for _ in range(count)], axis=1)
    return np.tile(order, rounds)[:total], _combination(drawn.ravel()[:total], near, others)


def _combination(number: Indices, near: int, others: int) -> Indices:
    """Combinations by number, (G, others) indices below ``near``: combinatorial number system (Knuth, TAOCP 4A,
    7.2.1.3).
    """
    chosen = []
    for k in range(others, 0, -1):
        table = np.array([comb(c, k) for c in range(near)], np.int64)
        chosen.append(np.searchsorted(table, number, side="right") - 1)
        number = number - table[chosen[-1]]
    return np.stack(chosen, axis=1)
