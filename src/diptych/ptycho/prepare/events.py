"""Cosmic rays and other events: bright single pixels of single frames, dark in other frames and around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.prepare.frames import ranges, valid_counts
from diptych.ptycho.scan import Scan

RATIO = 20.0
"""An event exceeds this multiple of the pixel's mean over the other frames, scaled to the frame's total, and of the
pixels around it. No count of 36 simulated clean scans (four kinds of object, three probes, 1e2 to 1e6 photons) did
both."""

LEAST = 12.0
"""Counts by which it must exceed them as well."""


@dataclass(frozen=True, eq=False)
class Events:
    """Frame, y and x of each event, (number, 3)."""

    where: NDArray[np.int64]

    def __bool__(self) -> bool:
        return len(self.where) > 0

    def valid(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The mask (M, N, N): False at the events."""
        good = np.ones(shape, bool)
        good[tuple(self.where.T)] = False
        return good

    def frames(self) -> list[int]:
        """Numbers of the frames that hold events."""
        return [int(i) for i in np.unique(self.where[:, 0])]

    def sentence(self, numbers: NDArray[np.int64]) -> str:
        """What was found; ``numbers`` (M,) are the frames' numbers in the file."""
        frames = [int(numbers[i]) for i in self.frames()]
        return f"{len(self.where)} counts at single pixels of {len(frames)} frames (cosmic rays?): {ranges(frames)}"


def find_events(scan: Scan) -> Events:
    """Events of a scan of at least 8 patterns without bad frames.

    A speckle is broader than a pixel, so the ring of 16 pixels at distance 2 says what light there is; a track of a few
    pixels does not fill it.
    """
    found: list[NDArray[np.int64]] = []
    if len(scan) < 8:
        return Events(np.empty((0, 3), np.int64))
    whole = np.zeros(scan.counts.shape[1:])
    totals = np.zeros(len(scan))
    for part, frames in valid_counts(scan):
        whole += frames.sum(0)
        totals[part] = frames.sum((1, 2))
    totals = np.maximum(totals, 1.0)
    # Frames in which a pixel is masked say nothing of its mean.
    mask = scan.mask if scan.mask is not None and scan.mask.ndim == 3 else None
    seen = totals.sum() if mask is None else np.tensordot(totals, mask, 1)
    least = 1e-9 * totals.sum()
    # No count up to this is an event in any frame: the test below for the frame with the smallest total.
    scale = RATIO * totals.min() / np.maximum(seen, least)
    bound = (scale * whole + LEAST) / (1 + scale)
    for part, frames in valid_counts(scan):
        i, y, x = np.nonzero(frames > bound)
        # The pixel's mean over the other frames, scaled to this one's total.
        rest = (seen if mask is None else seen[y, x]) - totals[part][i]
        others = RATIO * (whole[y, x] - frames[i, y, x]) * totals[part][i] / np.maximum(rest, least)
        high = (frames[i, y, x] > others + LEAST) & (rest > least)
        if not high.any():
            continue
        i, y, x = i[high], y[high], x[high]
        bright = frames[i, y, x]
        if scan.mask is not None:
            # A masked pixel may hold any light: the ring around a judged one must be mostly valid.
            frames[~np.broadcast_to(scan.mask if scan.mask.ndim == 2 else scan.mask[part], frames.shape)] = np.inf
        alone = bright > RATIO * _ring(frames, i, y, x) + LEAST
        found.append(np.stack([i + part.start, y, x], 1)[alone])
    return Events(np.concatenate(found) if found else np.empty((0, 3), np.int64))


def _ring(
    frames: NDArray[np.float64], i: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The fifth-brightest of the 16 pixels at distance 2 from each of some pixels, as far as the frame reaches."""
    size = frames.shape[-1]
    dy, dx = (d.ravel() for d in np.mgrid[-2:3, -2:3])
    ring = np.maximum(np.abs(dy), np.abs(dx)) == 2
    ys, xs = (np.clip(c[:, None] + d[ring], 0, size - 1) for c, d in ((y, dy), (x, dx)))
    return np.sort(frames[i[:, None], ys, xs], axis=1)[:, -5]
