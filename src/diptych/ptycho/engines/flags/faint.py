"""Readings of faint scans, told apart by the likelihood of held-out pixels.

At few photons a wrong reading is fitted into the noise: ``lines`` at 1e4 photons for each pattern reach fit 0.84 and
held out 1.04 with frames late by one, 0.79 and 1.03 as they should be. No level says which is right, but readings that
are tried with equal effort differ frame by frame at the pixels that none of them was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.ptycho.engines.flags.readings import Reading, frames_moved, orientations
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import detect, in_order, make_problem, sweep_batch
from diptych.ptycho.engines.starts.estimate import estimate_probe
from diptych.ptycho.engines.starts.trial import SEED
from diptych.ptycho.physics.likelihood import deviance
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan

FAINT = 200.0
"""Photons for each unknown below which a scan counts as faint (64 x 64 px, 144 patterns: 40 at 1e4 photons for each
pattern). At more, the level of a wrong reading stands out by itself."""

FARTHEST = 3
"""Positions by which frames are tried to be early or late."""

PATTERNS = 100
"""Patterns at the centre of the scan, or of a third of its frames, that the trials use."""

LEAST_FRAMES = 16
"""Fewer frames than this are not tried."""

EPOCHS = 20
"""Epochs of each trial."""

HELD_OUT = 0.2
"""Fraction of the pixels held out in each trial."""

CLEAR = 4.0
"""Standard errors of the paired difference, over frames, from which a reading is better than another. Measured with
lines, the object that scatters least, at 1e4 photons: 6 to 13 for the right reading of frames late by one."""

CERTAIN = 7.0
"""Standard errors by which the scan as given must be better than with frames early or late, for nothing else to be
tried: where only some of the frames are late, it is hardly better. Measured with lines at 1e4 photons: 8 to 10 where
all are right, 0 to 4 where a third to two thirds are late."""

UNDECIDED_BELOW = 2.5
"""Standard errors by which the scan as given must be better than with frames early or late, to be called read right."""


@dataclass(frozen=True)
class Found:
    """What held-out pixels say of the readings of a scan.

    Parameters
    ----------
    reading : Reading or None
        A reading that they clearly prefer to the scan as given; None where there is none.
    errors : float
        By how many standard errors; the largest of the other readings, negative where all are worse.
    part : str
        The frames that say so: empty for all, or ``"first"`` or ``"last"`` third.
    undecided : bool
        Whether the scan as given is hardly better than with frames one position early or late.
    """

    reading: Reading | None
    errors: float
    part: str = ""
    undecided: bool = False


def compare_readings(scan: Scan) -> Found:
    """Which reading of a faint scan its held-out pixels prefer.

    Frames one position early and late come first, and farther ones on the side that is better. Where neither is, and
    the scan as given is not clearly better than both, other shifts and the orientations are tried as well. The first
    and last thirds of the frames are tried by themselves, since a frame that is lost or doubled during the scan moves
    only those after it.
    """
    frames = np.arange(FARTHEST, len(scan) - FARTHEST)
    if len(frames) < LEAST_FRAMES:
        return Found(None, 0.0)
    middle = _central(scan, frames)
    given = _held_out(scan, middle, 0)
    tried = _moved(scan, middle, given, (-1, 1))
    nearest = max(tried)[0]
    if nearest < -CERTAIN:
        return Found(None, nearest)
    if nearest > CLEAR:
        tried += _moved(scan, middle, given, [max(tried)[1] * by for by in range(2, FARTHEST + 1)])
    elif nearest > -CLEAR:
        tried += _moved(scan, middle, given, [sign * by for by in range(2, FARTHEST + 1) for sign in (-1, 1)])
        if (turned := _turned(scan, middle, given)).errors > max(CLEAR, max(tried)[0]):
            return turned
    errors, by = max(tried)
    if errors > CLEAR:
        return Found(frames_moved(by), errors)
    third = len(frames) // 3
    for part, some in (("last", frames[-third:]), ("first", frames[:third])):
        if len(some) >= LEAST_FRAMES:
            middle = _central(scan, some)
            part_errors, by = max(_moved(scan, middle, _held_out(scan, middle, 0), (-1, 1)))
            if part_errors > CLEAR:
                return Found(frames_moved(by), part_errors, part)
    return Found(None, errors, undecided=nearest > -UNDECIDED_BELOW)


def _moved(
    scan: Scan, frames: NDArray[np.int64], given: NDArray[np.float64], steps: Iterable[int]
) -> list[tuple[float, int]]:
    """By how many standard errors the scan is better with its frames moved, for each of ``steps``, and the step."""
    return [(_errors(given, _held_out(scan, frames, by)), by) for by in steps]


def _turned(scan: Scan, frames: NDArray[np.int64], given: NDArray[np.float64]) -> Found:
    """The best of the other orientations."""
    plain, turns = replace(scan, truth=None), orientations()
    errors = [_errors(given, _held_out(turn.apply(plain), frames, 0)) for turn in turns]
    best = int(np.argmax(errors))
    return Found(turns[best], errors[best])


def _central(scan: Scan, frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of ``frames`` nearest to their centre, in order."""
    positions = scan.positions[frames]
    distance = np.square(positions - np.median(positions, axis=0)).sum(1)
    return np.sort(frames[np.argsort(distance, kind="stable")[:PATTERNS]])


def _held_out(scan: Scan, frames: NDArray[np.int64], by: int) -> NDArray[np.float64]:
    """Deviance of the held-out pixels of each of ``frames`` (M,), where frame i is at position i + ``by``.

    The same frames and pixels are held out whatever ``by`` is, so that shot noise cancels in differences.
    """
    mask = scan.mask[frames] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    part = replace(scan, counts=scan.counts[frames], positions=scan.positions[frames + by], mask=mask, truth=None)
    probe = estimate_probe(part) if scan.probe is None else scan.probe
    sums = np.zeros(len(part))
    with torch.no_grad():
        problem = make_problem(
            part, device=torch.device("cpu"), double=False, subpixel=True, held_out=HELD_OUT, seed=SEED
        )
        if problem.forward.factors is not None:
            problem.forward.factors.fitted = True
        start = scaled_to(torch.from_numpy(probe.copy()), problem.power)
        settings = PieSettings(batch=int(np.clip(len(problem) // 16, 1, 64)))
        engine = Pie(problem, problem.flat_object(), start, settings, np.random.default_rng(SEED))
        for _ in range(EPOCHS):
            engine.epoch()
        for batch in in_order(len(problem), sweep_batch(problem)):
            views = problem.forward.views(engine.image, engine.probe, batch)
            _, expected = detect(problem, batch, views.exit_waves())
            found = deviance(problem.counts[views.rows], expected)
            if problem.invalid is not None:
                found.masked_fill_(problem.invalid if problem.invalid.ndim == 2 else problem.invalid[views.rows], 0.0)
            sums[batch] = found.flatten(1).gather(1, problem.held[batch]).double().sum(1).numpy()
    return sums


def _errors(given: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """By how many standard errors ``other`` is better than ``given``: deviances (M,) of the same frames."""
    gain = given - other
    if not np.isfinite(other).all():
        return -math.inf
    if not np.isfinite(given).all():
        return math.inf
    return float(gain.sum() / max(gain.std() * math.sqrt(len(gain)), 1e-12))
