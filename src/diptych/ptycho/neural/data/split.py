"""The split of a scan into training and validation patterns that share no illuminated part of the object."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

log = logging.getLogger("diptych")

Indices = NDArray[np.int64]

_TOLERANCE = 0.01
"""The seed chooses among blocks that lose at most this fraction of the scan more than the best one."""


def split_by_blocks(
    positions: NDArray[np.float64], *, fraction: float, gap: float, seed: int | np.random.Generator
) -> tuple[Indices, Indices]:
    """Split patterns into a training set and a compact validation block at a distance from it.

    The block is a strip along one side of the scan or a quarter disc in one of its corners, whichever loses fewer
    patterns: those within ``gap`` of a validation pattern are in neither set, because they illuminate the same part of
    the object. (Corners lose less for small fractions of a square scan, strips for large fractions and long scans.)

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x) in object pixels.
    fraction : float
        Fraction of the patterns in the validation set, 0 to 0.5; at least one pattern if it is not 0.
    gap : float
        Smallest distance between a training and a validation pattern, object pixels; for instance the diameter of the
        probe.
    seed : int or numpy.random.Generator
        Chooses among equally good blocks.

    Returns
    -------
    (train, validation) : int64 arrays
        Sorted indices. If less than half of the patterns would be left for training, all are used for training,
        ``validation`` is empty, and a warning is logged.

    Raises
    ------
    InputError
        If the fraction or the gap is out of its range.
    """
    if not 0 <= fraction <= 0.5:
        raise InputError("validation fraction", f"is {fraction}", "0 to 0.5 (--validation)")
    if not (gap >= 0 and np.isfinite(gap)):
        raise InputError(
            "gap between training and validation patterns", f"is {gap}", "a finite number of object pixels, 0 or more"
        )
    everything, nothing = np.arange(len(positions)), np.empty(0, np.int64)
    if fraction == 0:
        return everything, nothing
    wanted = max(1, round(fraction * len(positions)))
    blocks = [np.sort(order[:wanted]) for order in _orders(positions)]
    rests = [_beyond(positions, block, gap) for block in blocks]
    left = np.array([len(rest) for rest in rests])
    if 2 * (most := int(left.max())) < len(positions):
        log.warning(
            f"no validation set: {wanted:,} of {len(positions):,} patterns for validation and a gap of {gap:.1f} px "
            f"around them leave only {most:,} for training, less than half. Use a smaller fraction (--validation) or a "
            f"larger scan."
        )
        return everything, nothing
    good = np.flatnonzero(left >= max(most - _TOLERANCE * len(positions), len(positions) / 2))
    chosen = int(np.random.default_rng(seed).choice(good))
    return rests[chosen], blocks[chosen]


def _orders(positions: NDArray[np.float64]) -> Iterator[Indices]:
    """Orders of the patterns by distance from each of the four sides and the four corners of the scan."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    for axis in (0, 1):
        for sign in (1, -1):
            # Ties are broken by the other coordinate, so that a part of a raster line is contiguous.
            yield np.lexsort((positions[:, 1 - axis], sign * positions[:, axis]))
    for y in (low[0], high[0]):
        for x in (low[1], high[1]):
            yield np.argsort(np.hypot(positions[:, 0] - y, positions[:, 1] - x), kind="stable")


def _beyond(positions: NDArray[np.float64], block: Indices, gap: float) -> Indices:
    """Sorted indices of the patterns whose distance from the block is at least ``gap``."""
    from scipy.spatial import cKDTree

    outside = np.setdiff1d(np.arange(len(positions)), block)
    distance, _ = cKDTree(positions[block]).query(positions[outside])
    return np.asarray(outside[distance >= gap])
