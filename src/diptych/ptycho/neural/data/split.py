"""Which patterns of a scan train a network and which validate it, so that no training pattern saw what validation looks
at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.probe import probe_diameter as energy_diameter

__all__ = ["energy_diameter", "split_by_blocks"]

log = logging.getLogger("diptych")

Indices = NDArray[np.int64]

_AS_GOOD = 0.01
"""Blocks that lose at most this part of the scan more than the best one are as good; the seed decides between them."""


def split_by_blocks(
    positions: NDArray[np.float64], *, fraction: float, gap: float, seed: int | np.random.Generator
) -> tuple[Indices, Indices]:
    """Patterns to train on, and a compact block of others, at a distance, to validate with.

    The block is a strip along one side of the scan or a quarter of a disc in one of its corners, whichever loses fewer
    patterns: those within ``gap`` of a validation pattern are in neither set, because they saw parts of the same
    object. (Corners lose less for small fractions of a square scan, strips for large ones and for long scans.)

    Parameters
    ----------
    positions : (M, 2) float64
        (y, x) in object pixels.
    fraction : float
        Part of the patterns in the validation set, 0 to 0.5; at least one pattern where it is not 0.
    gap : float
        Least distance between a training and a validation pattern, object pixels; for instance the probe's
        :func:`energy_diameter`.
    seed : int or numpy.random.Generator
        Decides between blocks that are equally good.

    Returns
    -------
    (train, validation) : int64 arrays
        Sorted indices. Where less than half of the patterns would be left for training, all of them are, ``validation``
        is empty, and a warning is logged.

    Raises
    ------
    InputError
        If the fraction or the gap is out of its range.
    """
    if not 0 <= fraction <= 0.5:
        raise InputError(f"the validation fraction is {fraction}; expected 0 to 0.5 (--validation).")
    if not (gap >= 0 and np.isfinite(gap)):
        raise InputError(
            f"the gap between training and validation patterns is {gap}; expected a finite number of object pixels, "
            f"0 or more."
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
            f"about them leave only "
            f"{most:,} for training, less than half; a smaller fraction (--validation) or a larger scan would allow it"
        )
        return everything, nothing
    good = np.flatnonzero(left >= max(most - _AS_GOOD * len(positions), len(positions) / 2))
    chosen = int(np.random.default_rng(seed).choice(good))
    return rests[chosen], blocks[chosen]


def _orders(positions: NDArray[np.float64]) -> Iterator[Indices]:
    """The patterns from each of the four sides and the four corners of the scan inwards."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    for axis in (0, 1):
        for sign in (1, -1):
            # Ties go by the other coordinate, so that a part of a raster's line is in one piece.
            yield np.lexsort((positions[:, 1 - axis], sign * positions[:, axis]))
    for y in (low[0], high[0]):
        for x in (low[1], high[1]):
            yield np.argsort(np.hypot(positions[:, 0] - y, positions[:, 1] - x), kind="stable")


def _beyond(positions: NDArray[np.float64], block: Indices, gap: float) -> Indices:
    """Sorted indices of the patterns outside the block that are at least ``gap`` from all of it."""
    from scipy.spatial import cKDTree

    outside = np.setdiff1d(np.arange(len(positions)), block)
    distance, _ = cKDTree(positions[block]).query(positions[outside])
    return np.asarray(outside[distance >= gap])
