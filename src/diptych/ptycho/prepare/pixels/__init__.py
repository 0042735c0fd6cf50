"""Bad detector pixels and saturated counts, found by comparing each pixel with its neighbours in many frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.physics.probe import to_pupil
from diptych.ptycho.prepare.frames import ranges
from diptych.ptycho.prepare.pixels.neighbours import EXCESS, above_ring, excessive, in_ring, third_neighbour
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

MOST_FRAMES = 400
"""Frames, evenly spread over the scan, on which statistics of pixels are computed."""

NEARLY_ALL = 0.9
"""A hot pixel exceeds its neighbours in at least this share of the frames."""

EXPECTED = 25.0
"""Photons that its neighbours must hold over all frames where a pixel without any is called dead: chance leaves such a
pixel dark with probability exp(-25)."""

SINGLE = 4
"""Adjacent dark pixels that are still called single ones; more are an area, such as the shadow of a beam stop."""

WIDEST = 0.2
"""Widest gap of dark lines, as a share of N: gaps between detector modules are narrower; wider ones are margins."""

RIM = 2
"""Dark lines at a border up to which lines of the other axis, as far from the centre, tell that light falls there."""

AMONG = 0.8
"""Least share of the valid pixels around a dark one that must hold light: 0.75 in the zero of an Airy fringe."""

LEAST_AROUND = 3
"""Valid pixels around without which a dark one is not judged."""

THIN = 0.8
"""Least share of an area's dark pixels with light on both sides, from which it is no shadow but a part of a line."""

DISPERSION = 0.02
"""A stuck pixel's variance over the frames is below this multiple of its mean: photons vary by their mean or more."""

REPEATS = 10
"""Least number of pixels at the largest value of a scan that is called saturation."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Where = tuple[int, int]


@dataclass(frozen=True)
class BadPixels:
    """Pixels (y, x), rows and columns at fault."""

    hot: tuple[Where, ...] = ()
    dead: tuple[Where, ...] = ()
    stuck: tuple[Where, ...] = ()
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.hot or self.dead or self.stuck or self.rows or self.columns)

    def valid(self) -> Mask:
        """The proposed mask (N, N): True at pixels without a fault."""
        good = np.ones((self.size, self.size), bool)
        for y, x in (*self.hot, *self.dead, *self.stuck):
            good[y, x] = False
        good[list(self.rows)] = False
        good[:, list(self.columns)] = False
        return good

    def sentences(self) -> list[str]:
        """What was found, with the pixels."""
        kinds = (
            (self.hot, "hot pixels exceed their neighbours in nearly all frames"),
            (self.stuck, "stuck pixels hold the same value in all frames"),
            (self.dead, "dead pixels are zero in all frames, among bright neighbours"),
        )
        said = [f"{len(some)} {what}: {_places(some)}" for some, what in kinds if some]
        for lines, what in ((self.rows, "rows (y)"), (self.columns, "columns (x)")):
            if lines:
                said.append(f"{len(lines)} {what} are zero in all frames, beside bright ones: {ranges(lines)}")
        return said


def _places(pixels: tuple[Where, ...]) -> str:
    """The first pixels as text."""
    more = f" and {len(pixels) - 8} more" if len(pixels) > 8 else ""
    return ", ".join(f"(y {y}, x {x})" for y, x in pixels[:8]) + more


def find_bad_pixels(scan: Scan) -> BadPixels:
    """Hot, stuck and dead pixels, and lines of zeros, among the valid pixels of a scan.

    Notes
    -----
    Sharp features that light makes are no fault. A pixel is compared with its *third*-brightest neighbour, so edges
    and right-angled corners of a beam stop pass. Where the probe's own far field has a peak as sharp, and in the 3 x 3
    pixels of the direct beam, no pixel is called hot. Areas of zeros that are neither single pixels nor whole lines may
    be the shadow of a beam stop, and are left.
    """
    if len(scan) < 8:
        return BadPixels()
    frames, good = _sample(scan)
    mean = frames.mean(0)
    total = np.where(good, mean * len(frames), np.nan)
    zero = good & (total == 0)
    rows = _dark_lines(total, zero, good)
    columns = _dark_lines(total.T, zero.T, good.T)
    alone = zero.copy()
    alone[list(rows)] = False
    alone[:, list(columns)] = False
    lit = good.copy()
    lit[list(rows)] = False
    lit[:, list(columns)] = False
    lit &= ~_dark_pixels(alone, total, good)
    sharp, broad = _sharp_light(scan)
    hot = lit & (excessive(frames, lit) >= NEARLY_ALL) & ~sharp
    hot |= above_ring(frames, lit, NEARLY_ALL) & ~(sharp | broad)
    # Beside hot pixels, those that are dark because they are far from the light are no fault.
    dead = _dark_pixels(alone, np.where(hot, np.nan, total), good & ~hot)
    spread = frames.var(0) / np.maximum(mean, 1e-9)
    usual = float(np.median(spread[mean >= 5])) if (mean >= 5).any() else 1.0
    stuck = good & (mean >= 2) & (spread < DISPERSION * min(1.0, usual)) & ~_saturated(frames)
    hot &= ~stuck
    return BadPixels(_listed(hot), _listed(dead), _listed(stuck), rows, columns, scan.size)


def _saturated(frames: NDArray[np.float32]) -> Mask:
    """Pixels (N, N) at the largest count in most frames, where several reach it: saturated, not stuck."""
    at_top = frames >= frames.max() * (1 - 1e-6)
    several = int(at_top.any(0).sum()) > 1
    return np.asarray((at_top.mean(0) > 0.5) & several)


def _listed(found: Mask) -> tuple[Where, ...]:
    return tuple((int(y), int(x)) for y, x in np.argwhere(found))


def _sample(scan: Scan) -> tuple[NDArray[np.float32], Mask]:
    """Some frames (m, N, N), 0 at masked pixels, and the pixels that are valid in most of the scan."""
    chosen = np.unique(np.linspace(0, len(scan) - 1, min(len(scan), MOST_FRAMES)).astype(int))
    frames = scan.counts[chosen].astype(np.float32)
    if scan.mask is None:
        return frames, np.ones(frames.shape[1:], bool)
    if scan.mask.ndim == 2:
        return np.where(scan.mask, frames, 0), scan.mask
    return np.where(scan.mask[chosen], frames, 0), scan.mask[chosen].mean(0) > 0.5


def _sharp_light(scan: Scan) -> tuple[Mask, Mask]:
    """Where light alone can make a peak of one pixel, and of a few: the direct beam, peaks of the probe's far field."""
    sharp, broad = np.zeros((2, scan.size, scan.size), bool)
    middle = scan.size // 2
    sharp[middle - 1 : middle + 2, middle - 1 : middle + 2] = True
    broad[max(middle - 3, 0) : middle + 4, max(middle - 3, 0) : middle + 4] = True
    if scan.probe is not None:
        far = (np.abs(to_pupil(scan.probe)) ** 2).sum(0)
        all_good = np.ones_like(sharp)
        # Only peaks that hold a share of the light: ratios between numerical zeros mean nothing.
        bright = far > 1e-3 * far.max()
        central = np.hypot(*(np.indices(far.shape) - middle)) < 2
        sharp |= far > 0.5 * EXCESS * third_neighbour(far[None], all_good)[0]
        sharp &= bright | central
        around = in_ring(far[None], all_good, np.argwhere(all_good)).reshape(far.shape)
        broad |= bright & (far > 0.5 * EXCESS * around)
    return sharp, broad


def _dark_pixels(dark: Mask, total: Floats, good: Mask) -> Mask:
    """Dark pixels (N, N) among bright ones: single, or part of a line with light on both sides.

    Nearly all pixels around them must hold light: beside a steep edge, and in the zeros of a fringe, only some do.
    """
    from scipy.ndimage import label

    numbers, count = label(dark, np.ones((3, 3)))
    light = np.nan_to_num(total) >= EXPECTED
    around, bright = np.zeros((2, count + 1))
    size = dark.shape[-1]
    of, known, lit = (np.pad(some, 1) for some in (numbers, good, light & good))
    for y, x in ((y, x) for y in range(3) for x in range(3)):
        near = np.s_[y : y + size, x : x + size]
        beside = dark & known[near] & (of[near] != numbers)
        around += np.bincount(numbers.ravel(), beside.ravel(), count + 1)
        bright += np.bincount(numbers.ravel(), (beside & lit[near]).ravel(), count + 1)
    among = (bright >= AMONG * around) & (around >= LEAST_AROUND)
    thin = dark & (_between(light & good) | _between((light & good).T).T)
    number = np.bincount(numbers.ravel(), minlength=count + 1)
    line = np.bincount(numbers.ravel(), thin.ravel(), count + 1) >= THIN * number
    return np.asarray(dark & (among & ((number <= SINGLE) | line))[numbers])


def _between(light: Mask) -> Mask:
    """Pixels (N, N) with light above and below, at most three pixels apart."""
    padded = np.pad(light, ((2, 2), (0, 0)))
    above, below, far_above, far_below = padded[1:-3], padded[3:-1], padded[:-4], padded[4:]
    return np.asarray((above & below) | (above & far_below) | (far_above & below))


def _dark_lines(total: Floats, zero: Mask, good: Mask) -> tuple[int, ...]:
    """Rows of zeros (nowhere else) beside rows that hold photons.

    Photons of the rows on both sides of a run of such rows say what the rows would hold. A row at the border has light
    on one side only, and the margin of a padded detector looks the same: see :func:`_rim`.
    """
    dark = np.asarray((zero | ~good).all(1) & zero.any(1))
    light = np.nan_to_num(total).sum(1)
    found = []
    for y in np.flatnonzero(dark):
        above, below = np.flatnonzero(~dark[:y]), y + 1 + np.flatnonzero(~dark[y + 1 :])
        if len(above) and len(below):
            near = below[0] - above[-1] <= WIDEST * len(dark)
            if near and min(light[above[-1]], light[below[0]]) >= EXPECTED:
                found.append(int(y))
        elif len(above) or len(below):
            width, edge, inner = (below[0], below[0], 1) if len(below) else (len(dark) - 1 - above[-1], above[-1], -1)
            if width <= WIDEST * len(dark) / 2 and _rim(total, int(y), int(width), int(edge), inner):
                found.append(int(y))
    return tuple(found)


def _rim(total: Floats, y: int, width: int, edge: int, inner: int) -> bool:
    """Whether light falls on row ``y`` of ``width`` dark rows at a border, beside the row ``edge``.

    The light of the two rows inside, continued, says what they would hold; and rows at the other border, as far from
    the centre, must hold light. Of the outermost rows, columns as far from the centre may tell instead.
    """
    light, across = np.nan_to_num(total).sum(1), np.nan_to_num(total).sum(0)
    size = len(light)
    if not 0 <= edge + inner < size or light[edge] * min(1.0, light[edge] / max(light[edge + inner], 1.0)) < EXPECTED:
        return False
    # The centre of an even number of rows lies half a row off the middle of the detector: both mirrors count.
    others = [min(2 * (size // 2) - y, size - 1), size - 1 - y]
    beyond = light[others].min() >= EXPECTED
    return bool(beyond or (width <= RIM and max(across[y], across[others[0]]) >= EXPECTED))


def find_saturation(scan: Scan) -> float | None:
    """The value at which the detector saturates, where the counts show it; None where they do not.

    Counts of light thin out towards their largest value. Where the largest value repeats instead, far more often than
    the values just below it, the detector stopped counting there.
    """
    counts, mask = scan.counts, scan.mask
    top, at_top, below = 0.0, 0, 0
    for step in (0, 1):
        for start in range(0, len(counts), 64):
            frames = counts[start : start + 64]
            if mask is not None:
                frames = np.where(mask if mask.ndim == 2 else mask[start : start + 64], frames, 0)
            if step == 0:
                top = max(top, float(frames.max()))
            else:
                at_top += int((frames >= top * (1 - 1e-6)).sum())
                below += int(((frames >= 0.8 * top) & (frames < top * (1 - 1e-6))).sum())
    # Of the values between 0.8 and 1 of the largest, evenly filled, each holds this many.
    each = below / max(0.2 * top, 1.0)
    if top < 8 or at_top < REPEATS or at_top <= 2 * each + 5 * np.sqrt(each) + REPEATS * (below == 0 and top < 16):
        return None
    return top


def find_limit(scan: Scan) -> float | None:
    """The value at which masked counts of a scan saturated, where they show it; None where they do not.

    It is the largest count that pixels hold in the frames in which they are masked; it repeats, and no valid count
    exceeds it. Pixels that are masked in every frame say nothing.
    """
    counts, mask = scan.counts, scan.mask
    if mask is None or mask.ndim == 2:
        return None
    usable = mask.any(0)
    top, valid, repeats = 0.0, 0.0, 0
    for step in (0, 1):
        for start in range(0, len(counts), 64):
            frames, good = counts[start : start + 64], mask[start : start + 64]
            hidden = np.where(usable & ~good, frames, 0)
            if step == 0:
                top, valid = max(top, float(hidden.max())), max(valid, float(np.where(good, frames, 0).max()))
            else:
                repeats += int((hidden >= top * (1 - 1e-6)).sum())
        if top <= 0 or valid > top:
            return None
    return top if repeats >= REPEATS else None


def limit_of(scan: Scan, engine: str) -> float | None:
    """As :func:`find_limit`, and says in the log what this engine does with the saturated counts."""
    limit = find_limit(scan)
    if limit is None:
        log.warning("saturated='limit': the scan shows no saturated counts; nothing is used as a lower limit")
    elif engine not in ("auto", "ml"):
        log.warning("saturated='limit': engine %s masks saturated counts; auto and ml use them", engine)
    else:
        log.info("saturated='limit': counts of %g photons are lower limits in the maximum-likelihood stage", limit)
    return limit
