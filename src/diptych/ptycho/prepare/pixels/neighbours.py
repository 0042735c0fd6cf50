"""How far a detector pixel exceeds the pixels around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 16
"""Frames that are compared with their neighbours at a time: they stay in the processor's cache."""

EXCESS = 2.0
"""A hot pixel holds more than this multiple of its third-brightest neighbour. The speckles and disc edges of 48
simulated clean scans do so at one place in at most 0.67 of the frames."""

LEAST_NEIGHBOURS = 6
"""Valid neighbours (of 8, those beyond the border counted) without which a pixel is not judged: beside a gap the rest
says little."""

RING = 5
"""A pixel of a hot cluster exceeds the pixel of this rank in the ring of 16 at a distance of 2: a streak of light one
or two pixels wide fills four of them. In 72 simulated clean scans light does so at one place in at most 0.31 of the
frames."""

LEAST_IN_RING = 12
"""Valid pixels of the ring that are not dark (those beyond the border counted). Where there are fewer, as beside the
shadow of a beam stop, a hot pixel must exceed the brightest of them."""

CLUSTER = 4
"""Pixels of the least cluster: each of fewer adjacent ones exceeds its third-brightest neighbour."""

MOST_CLUSTERS = 0.01
"""Where more than this share of the pixels exceeds its ring, light does so."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def third_neighbour(frames: NDArray[Any], good: Mask) -> NDArray[np.float32]:
    """The third-brightest of the valid neighbours of each pixel (m, N, N); infinite at edges, where fewer than
    :data:`LEAST_NEIGHBOURS` are valid.
    """
    size = frames.shape[-1]
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    padded = np.full((len(frames), size + 2, size + 2), -1.0, np.float32)
    np.copyto(padded[:, 1:-1, 1:-1], frames, where=good, casting="same_kind")
    first, second, third, low = np.full((4, *frames.shape), -1.0, np.float32)
    for y, x in shifts:
        new = padded[:, y : y + size, x : x + size]
        np.maximum(third, np.minimum(second, new, out=low), out=third)
        np.maximum(second, np.minimum(first, new, out=low), out=second)
        np.maximum(first, new, out=first)
    known = np.pad(good.astype(int), 1, constant_values=1)
    count = sum(known[y : y + size, x : x + size] for y, x in shifts)
    third[(third < 0) | (np.asarray(count) < LEAST_NEIGHBOURS)] = np.inf
    return np.asarray(third)


def excessive(frames: NDArray[np.float32], lit: Mask) -> Floats:
    """Share of the frames in which each pixel (N, N) exceeds its neighbours as a hot one does."""
    number = np.zeros(lit.shape)
    for start in range(0, len(frames), GROUP):
        some = frames[start : start + GROUP]
        number += _exceeds(some, third_neighbour(some, lit)).sum(0)
    return number / len(frames)


def above_ring(frames: NDArray[np.float32], good: Mask, nearly_all: float) -> Mask:
    """Pixels (N, N) that exceed the ring around them in ``nearly_all`` of the frames (m, N, N): clusters of hot ones.

    The mean frame tells which pixels may; only these are compared frame by frame.
    """
    from scipy.ndimage import label

    found = np.zeros(good.shape, bool)
    mean = frames.mean(0, keepdims=True)
    may = good & _exceeds(mean, in_ring(mean, good, np.argwhere(np.ones_like(good))).reshape(mean.shape))[0]
    if 0 < may.sum() <= MOST_CLUSTERS * may.size:
        number = _exceeds(frames[:, may], in_ring(frames, good, np.argwhere(may))).sum(0)
        found[may] = number >= nearly_all * len(frames)
    numbers, _ = label(found, np.ones((3, 3)))
    return np.asarray(found & (np.bincount(numbers.ravel()) >= CLUSTER)[numbers])


def in_ring(frames: NDArray[Any], good: Mask, where: NDArray[np.int64]) -> NDArray[np.float32]:
    """The pixel of rank :data:`RING` in the ring at a distance of 2 around the pixels ``where`` (C, 2), in each of the
    frames (m, N, N): (m, C). The brightest one where few are lit (:data:`LEAST_IN_RING`); infinite without any.
    """
    ring = np.array([(y, x) for y in range(5) for x in range(5) if max(abs(y - 2), abs(x - 2)) == 2])
    padded = np.pad(np.where(good, frames, -1), ((0, 0), (2, 2), (2, 2)), constant_values=-1)
    known = np.pad(good & (frames > 0).any(0), 2, constant_values=True)
    y, x = (where[:, None] + ring).transpose(2, 0, 1)
    values = padded[:, y, x]
    level = np.partition(values, -RING, axis=-1)[..., -RING].astype(np.float32)
    few = known[y, x].sum(-1) < LEAST_IN_RING
    level[:, few] = values[:, few].max(-1)
    level[level < 0] = np.inf
    return level


def _exceeds(counts: NDArray[Any], around: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether counts exceed those around them by more than light and shot noise make them."""
    return np.asarray(counts > EXCESS * around + 3 * np.sqrt(around + 1) + 1)
