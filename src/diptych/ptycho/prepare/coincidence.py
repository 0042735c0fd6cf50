"""Coincidence loss of counting electron detectors: two electrons in one pixel of one frame are counted as one.

In counting mode a pixel of a frame holds 0 or 1. Of a rate of lambda electrons per pixel and frame, the share
p = 1 - exp(-lambda) is counted, so the rate behind a mean count p is -log(1 - p) (the zero-term of the Poisson
distribution; Li et al., Nature Methods 10, 584 (2013), measure it on a counting camera). Patterns that are sums of F
frames stop at F counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diptych.ptycho.io.convert import chunks
from diptych.ptycho.scan import Scan

LEAST_LOSS = 0.02
"""Share of all electrons from which a loss is named."""

MOST_FRAMES = 255
"""Largest count that is taken for a number of frames."""

REPEATS = 20
"""Counts at the largest value that are needed to see that it is a limit."""

ABRUPT = 0.25
"""Share of the counts one below the largest value that must be at it: counts without a limit end in single ones."""

SATURATED = 0.999
"""Counts per frame above which the rate is not known; it is taken as that of this value."""


@dataclass(frozen=True)
class Coincidence:
    """Loss of a counting detector.

    Parameters
    ----------
    frames : int
        Frames that each pattern sums.
    occupancy : float
        Mean counts per frame of the brightest pixel.
    loss, worst : float
        Share of the electrons that is not counted: of all, and in the brightest pixel.
    """

    frames: int
    occupancy: float
    loss: float
    worst: float

    def sentence(self) -> str:
        """What was found, and what to do."""
        what = "each pattern is one frame" if self.frames == 1 else f"patterns are sums of {self.frames} frames"
        return (
            f"coincidence loss: {what} in which a pixel counts one electron at most, and the brightest pixel counts "
            f"{self.occupancy:.2g} per frame: about {self.loss:.0%} of the electrons are not counted ({self.worst:.0%} "
            "there), and bright areas look too dark. Record at a lower dose rate, or with more frames per pattern"
        )


def find_coincidence(scan: Scan) -> Coincidence | None:
    """Coincidence loss of an electron scan in counting mode; None where there is none to name.

    Counting mode shows in whole counts that stop abruptly: at 1, or at a number that repeats nearly as often as the
    one below it. Counts that thin out towards their largest value have no such limit.
    """
    geometry = scan.geometry
    if geometry is None or geometry.particle != "electron" or scan.read_noise is not None:
        return None
    histogram = np.zeros(MOST_FRAMES + 1, np.int64)
    total, seen = np.zeros(scan.counts.shape[1:]), np.zeros(scan.counts.shape[1:])
    for part in chunks(scan.counts):
        counts = scan.counts[part]
        good = np.ones(counts.shape, bool)
        if scan.mask is not None:
            good &= scan.mask if scan.mask.ndim == 2 else scan.mask[part]
        values = counts[good]
        if not len(values):
            continue
        if values.max() > MOST_FRAMES or (values != np.rint(values)).any():
            return None
        histogram += np.bincount(values.astype(np.int64), minlength=len(histogram))
        total += np.where(good, counts, 0).sum(0, dtype=np.float64)
        seen += good.sum(0)
    frames = int(np.flatnonzero(histogram)[-1]) if histogram.any() else 0
    if frames < 1 or histogram[frames] < max(REPEATS, ABRUPT * histogram[frames - 1] * (frames > 1)):
        return None
    counted = np.clip(total[seen > 0] / seen[seen > 0] / frames, 0, SATURATED)
    rate = -np.log1p(-counted)
    loss, brightest = 1 - counted.sum() / rate.sum(), int(np.argmax(counted))
    if loss < LEAST_LOSS:
        return None
    worst = float(1 - counted[brightest] / rate[brightest])
    return Coincidence(frames, float(counted[brightest]), float(loss), worst)
