"""Bad frames: empty ones, and those whose total or shape no sample explains.

A frame is compared with the other frames of the scan (its total, and how much its photons prefer the mean pattern to a
flat one) by the median and the median deviation, which a minority of bad frames does not move. A total far from the
median is a fault only where it jumps: frames that overlap see nearly the same part of the sample, so the totals over an
absorbing region change gradually from position to position, those of a lost beam do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.convert import chunks
from diptych.ptycho.prepare.positions import isolated
from diptych.ptycho.scan import Scan

FAR = 3.0
"""A total counts as far from the median beyond this factor. Of 36 simulated clean scans (four kinds of object, 1e2 to
1e6 photons) the totals stayed within a factor 2.4."""

SPREADS = 4.0
"""A total must also be this many robust standard deviations from the median, on a logarithmic scale: where the totals
of a scan vary much altogether, a factor says little."""

SIGMAS = 8.0
"""Robust standard deviations by which a shape must differ. In the same clean scans the lowest shape
lay 5.5 of them below the median; frames of uniform light, or of stray light at 60 pixels, lay 19 and more below."""

NEIGHBOURS = 6
"""Nearest positions with which the total of a frame is compared."""

EMPTY = 0.01
"""Frames below this share of the median total are called empty."""

FLOOR = 0.02
"""Share of uniform light mixed into the mean pattern, so that photons at pixels that are otherwise dark weigh a finite
amount."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BadFrames:
    """Numbers of the frames at fault, each in one list only, and the totals of all.

    Parameters
    ----------
    isolated, empty, bright, dark, shape : tuple of int
        At positions that overlap no other; nearly without photons; far more and far fewer photons than the
        overlapping frames; another shape than the scan's patterns.
    """

    isolated: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    bright: tuple[int, ...] = ()
    dark: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """All of them, sorted."""
        return sorted({*self.isolated, *self.empty, *self.bright, *self.dark, *self.shape})

    def sentences(self) -> list[str]:
        """What was found, with the numbers of the frames."""
        kinds = (
            (self.isolated, "at positions that overlap no other frame"),
            (self.empty, "without photons (or nearly)"),
            (self.bright, "with far more photons than the frames around them"),
            (self.dark, "with far fewer photons than the frames around them"),
            (self.shape, "with another shape than the patterns of the scan (flat, or scattered light)"),
        )
        return [f"{len(some)} frames {what}: {ranges(some)}" for some, what in kinds if some]


def find_bad_frames(scan: Scan) -> BadFrames:
    """Compare the frames of a scan with each other; see the module's text.

    Scans of fewer than 8 patterns are returned without a fault: there is nothing to compare with.
    """
    if len(scan) < 8:
        return BadFrames()
    totals = frame_totals(scan)
    alone = isolated(scan)
    if not (totals > 0).any():
        return BadFrames(alone)
    middle = float(np.median(totals[totals > 0]))
    far = _far(totals, middle)
    jump = far & _jumps(scan.positions, np.maximum(totals, 1e-3 * middle), far)
    empty = (totals < EMPTY * middle) & (jump | (totals <= 0)) & (middle >= 50)
    shape = _misshapen(scan, totals, usual=~far & ~empty) & ~empty & ~jump
    wrong = (empty, jump & (totals > middle) & ~empty, jump & (totals < middle) & ~empty, shape)
    kinds = (tuple(int(i) for i in np.flatnonzero(some) if i not in alone) for some in wrong)
    return BadFrames(alone, *kinds)


def _far(totals: Floats, middle: float) -> Mask:
    """Totals (M,) beyond :data:`FAR` and :data:`SPREADS` from the median, by more than shot noise."""
    logs = np.log(np.maximum(totals, 1e-3 * middle) / middle)
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    factor = np.exp(max(np.log(FAR), SPREADS * spread))
    low = totals + 3 * np.sqrt(middle / factor) < middle / factor
    high = totals - 3 * np.sqrt(middle * factor) > middle * factor
    return np.asarray(low | high)


def _jumps(positions: Floats, totals: Floats, far: Mask) -> Mask:
    """For far totals: whether the group of adjacent far frames differs from the frames around it by a jump."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not far.any() or far.all():
        return far
    count = min(NEIGHBOURS + 1, len(totals))
    near = cKDTree(positions).query(positions, k=count)[1]
    rows, columns = np.repeat(np.arange(len(totals)), count), near.ravel()
    same_side = (totals[rows] > np.median(totals)) == (totals[columns] > np.median(totals))
    inside = far[rows] & far[columns] & same_side
    graph = coo_array((np.ones(inside.sum()), (rows[inside], columns[inside])), shape=(len(totals),) * 2)
    label = connected_components(graph, directed=False)[1]
    steps = np.abs(np.log(totals[rows] / totals[columns]))
    edge = far[rows] & ~far[columns]
    jump = np.zeros(len(totals), bool)
    for group in np.unique(label[far]):
        between = steps[edge & (label[rows] == group)]
        jump[label == group] = len(between) > 0 and float(np.median(between)) > np.log(FAR)
    return jump & far


def _misshapen(scan: Scan, totals: Floats, usual: Mask) -> Mask:
    """Frames whose photons prefer the mean pattern to a flat one far less than those of the other frames.

    Per photon, the log-likelihood ratio of the two shapes; for it a frame of the scan has the spread of the sample's
    patterns plus shot noise.
    """
    if usual.sum() < 8:
        return np.zeros(len(scan), bool)
    wrong = np.zeros(len(scan), bool)
    for _ in range(2):
        weight = _log_ratio(scan, totals, usual & ~wrong)
        score, noise = np.zeros(len(scan)), np.zeros(len(scan))
        powers = np.stack([weight.ravel(), weight.ravel() ** 2], 1)
        for part, counts in valid_counts(scan):
            some = np.maximum(totals[part], 1.0)
            mean, square = (counts.reshape(len(some), -1) @ powers / some[:, None]).T
            score[part], noise[part] = mean, (square - mean**2) / some
        middle = float(np.median(score[usual & ~wrong]))
        spread = 1.4826 * float(np.median(np.abs(score[usual & ~wrong] - middle)))
        typical = float(np.median(noise[usual]))
        extra = np.maximum(noise, typical) - typical
        # A flat frame scores below 0 as soon as the mean pattern has any shape.
        wrong = (score < middle - SIGMAS * np.sqrt(spread**2 + extra)) & (score < 0.25 * middle) & usual
    return wrong


def _log_ratio(scan: Scan, totals: Floats, usual: Mask) -> Floats:
    """Logarithm of the mean pattern's share at each pixel over a uniform one's, (N, N)."""
    mean = np.zeros(scan.counts.shape[1:])
    for part, counts in valid_counts(scan):
        mean += np.tensordot(usual[part] / np.maximum(totals[part], 1.0), counts, 1)
    mean /= mean.sum()
    return np.asarray(np.log((1 - FLOOR) * mean * mean.size + FLOOR))


def valid_counts(scan: Scan) -> Iterator[tuple[slice, Floats]]:
    """Frames in double precision, 0 at masked pixels, in parts."""
    for part in chunks(scan.counts):
        counts = scan.counts[part].astype(np.float64)
        if scan.mask is not None:
            counts = np.where(scan.mask if scan.mask.ndim == 2 else scan.mask[part], counts, 0.0)
        yield part, counts


def frame_totals(scan: Scan) -> Floats:
    """Photons (M,) on the valid pixels of each frame, less the known background."""
    totals = np.concatenate([counts.sum((1, 2)) for _, counts in valid_counts(scan)])
    if scan.background is None:
        return totals
    shown = scan.background.astype(np.float64)
    mask = np.ones_like(shown, bool) if scan.mask is None else scan.mask
    return np.asarray(totals - (shown * mask).sum((-2, -1)))


def ranges(numbers: Sequence[int]) -> str:
    """Numbers with runs joined, for instance "3, 7-9"; at most 12 parts."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    text = ["-".join(map(str, part)) for part in parts]
    return ", ".join(text[:12]) + (f" and {len(text) - 12} more" if len(text) > 12 else "")


def parse_ranges(text: str, patterns: int, where: str = "drop") -> list[int]:
    """Frame numbers from text such as "3,7-9" (both ends included, counted from 0).

    Raises
    ------
    InputError
        If a part is no number or range, or names a frame that the scan does not have.
    """
    numbers: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdigit() for end in ends):
            raise InputError(where, f"found {part!r}", "frame numbers and ranges, such as 3,7-9")
        first, last = int(ends[0]), int(ends[-1])
        if first > last or last >= patterns:
            raise InputError(where, f"found {part!r}", f"frames 0 to {patterns - 1}, the lower number first")
        numbers.update(range(first, last + 1))
    return sorted(numbers)
