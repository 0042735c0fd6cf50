"""Flags about patterns that the result does not explain: a wrong reading of the scan, varying intensity, or less."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from torch import Tensor

from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import INTENSITY, MISREAD, NO_READING, NOT_NOISE, POOR_FIT, UNDECIDED, Flag
from diptych.ptycho.engines.flags.data import LEAST_PHOTONS, MOST_USED
from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.faint import FAINT, Found, compare_readings
from diptych.ptycho.engines.flags.readings import AS_GIVEN, frame_orders, orientations
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.frame_factors import beam_varies
from diptych.ptycho.scan import Scan
from diptych.runtime.cpu.parallel import Workers

log = logging.getLogger("diptych")

Tried = Callable[[], trials.Verdict]
"""Trials of the readings of a scan."""

Held = Callable[[Scan], Found]
"""What held-out pixels say of the readings of a faint scan."""

FAIR_FIT = 1.5
"""Above this level something other than photon noise limits the result, even where the excess is small."""

UNCERTAIN = 0.2
"""Where more than this share of what was measured went into fitting noise, the level that a right reading reaches is
simulated: the correction of first order is exact enough below (clean scans of 1e4 to 1e6 photons: 0.09 to 0.15)."""

BY_FRAME = 0.2
"""The intensity is blamed where one factor for each pattern explains more than this share of the excess, and varies by
more than counting noise makes it. Measured at 1e5 photons: 0.57 where the intensity varies by +-30 %, 0.000 where
frames are late."""

POOR_FIT_LEVEL = 3.0
"""Level above which a run that did not converge is flagged."""

CHECK = "Run `diptych check` on the scan: a wrong orientation, position sign or centring is the most common cause."

UNRANKED = 20.0
"""Level above which a better fit says nothing about which of two readings, or sets of positions, is right."""

NO_ADVICE = (
    "no other orientation of the patterns, and no order of frames that was tried, explains them. Check the order of "
    "frames, a lost frame, the units of the positions, the mask and the initial probe. Positions that are wrong by "
    "several pixels can look like this too: correct_positions='on' (--correct-positions on) searches them longer than "
    "the default does."
)
"""What is said where no reading fits."""

NO_RANKING = (
    " Fits so far above 1 do not rank readings or positions: something else dominates, and a smaller one is not "
    "evidence for either."
)


def misfit_flags(
    scan: Scan,
    problem: Problem,
    state: tuple[Tensor, Tensor],
    evidence: Evidence,
    unfinished: str = "",
    tried: Tried | None = None,
    held: Held = compare_readings,
    converged: bool = False,
) -> list[Flag]:
    """Flags of a result whose patterns are not explained; empty where photon noise explains what is left.

    Parameters
    ----------
    scan : Scan
        As given.
    problem : Problem
        Its counts and forward model.
    state : object (H, W), or slices (S, H, W), and probe modes (P, N, N)
        The result.
    evidence : Evidence
        Of the result.
    unfinished : str
        Why the run is not expected to have converged; no reading is tried then.
    tried : callable, optional
        Trials of the readings of ``scan``, where they may have been made already.
    held : callable
        What held-out pixels say of them where the scan is faint.
    converged : bool
        Whether the result comes from maximum likelihood that has converged.
    """
    if not math.isfinite(evidence.level):
        return [Flag(POOR_FIT, f"the fit is not finite ({evidence.fit:g}): the engine diverged. {CHECK}")]
    if evidence.used > MOST_USED or len(problem) < 2:
        return []
    if unfinished:
        return _unfinished(evidence, unfinished)
    if state[0].ndim == 3:
        return _of_slices(evidence)
    standard = 1.0
    if evidence.used > UNCERTAIN and trials.unexplained(evidence):
        standard = max(trials.right_level(problem, *state), 1.0)
        log.info("a right reading reaches a level of %.3f at this dose; this result %.3f", standard, evidence.level)
    poor = trials.poor(evidence, standard)
    polished = None
    if trials.unexplained(evidence, standard):
        polished = trials.polish(problem, *state, converged)
        if polished and evidence.photons >= FAINT * evidence.unknowns and not trials.unexplained(polished):
            return [_unconverged(evidence, standard)] if poor or _above_noise(evidence, standard) else []
        # The totals of an engine that has not converged may be off without any fault of the beam.
        if intensity_varies(evidence) and (polished is None or intensity_varies(polished)):
            return [_intensity(evidence)]
    tried = tried or (lambda: try_readings(scan))
    if poor:
        return [_reading(tried, evidence, standard, len(state[1]), polished is not None)]
    doubtful = trials.suspect(evidence, standard) or _factors_by_evidence(problem)
    if doubtful and (wrong := _wrong_reading(tried, evidence, standard)):
        return [wrong]
    if LEAST_PHOTONS <= evidence.photons / max(evidence.unknowns, 1) < FAINT and (faint := _faint(held(scan))):
        return [faint]
    return [_not_noise(evidence, len(state[1]))] if _above_noise(evidence, standard) else []


def intensity_varies(evidence: Evidence) -> bool:
    """Whether a factor for each pattern's intensity explains much of the misfit."""
    noise = math.sqrt(evidence.patterns / max(evidence.photons, 1.0))
    return evidence.by_frame > BY_FRAME and beam_varies(evidence.spread, noise)


def levels(evidence: Evidence, standard: float = 1.0) -> str:
    """How well the patterns are explained, against what a right reading reaches."""
    return (
        f"fit {evidence.fit:.2f}, held out {evidence.held_out:.2f} (mean {evidence.level:.2f}; a right reading reaches "
        f"{standard:.2f} at this dose)."
    )


def _above_noise(evidence: Evidence, standard: float) -> bool:
    return evidence.level > max(FAIR_FIT, 1.2 * standard)


def _factors_by_evidence(problem: Problem) -> bool:
    """Whether factors of the frames were switched on by the engine: with lines at 1e4 photons, factors that vary by 9 %
    explained transposed patterns to a level of 1.00.
    """
    factors = problem.forward.factors
    return factors is not None and factors.fitted and math.isfinite(factors.fit_before)


def try_readings(scan: Scan, workers: Workers | None = None) -> trials.Verdict:
    """Which reading fits best in short trials, and whether a longer one explains the patterns."""
    readings = [AS_GIVEN, *orientations(), *frame_orders(scan)]
    fits = trials.rank(scan, readings, trials.PATTERNS, workers=workers)
    verdict = trials.settle(scan, readings, fits, workers)
    log.info("of %d readings, '%s' fits best", len(readings), verdict.best.name)
    return verdict


def _reading(tried: Tried, evidence: Evidence, standard: float, modes: int, poor_at_centre: bool) -> Flag:
    """The flag of a result that is poor: which reading is the right one, if any."""
    verdict = tried()
    found = levels(evidence, standard)
    if verdict.best is not AS_GIVEN and (verdict.right or verdict.distinct):
        return _misread(verdict, found)
    if verdict.right and poor_at_centre:
        return _unconverged(evidence, standard)
    if verdict.right or verdict.distinct:
        more = f"more probe modes than {modes} (--modes {modes + 2})" if modes < 8 else "a background"
        return Flag(
            POOR_FIT,
            f"{found} No other orientation or order of frames comes near, so the reading is right and something else "
            f"is missing: try {more}, check the initial probe, the positions and the mask, and look for bad frames.",
        )
    return _no_reading(evidence, found)


def _wrong_reading(tried: Tried, evidence: Evidence, standard: float) -> Flag | None:
    """The flag of a result that is not poor, where another reading fits far better, or all fit alike."""
    verdict = tried()
    if verdict.best is not AS_GIVEN and verdict.distinct:
        return _misread(verdict, levels(evidence, standard))
    found = levels(evidence, standard)
    if evidence.level <= standard:
        found += " But this takes a factor for each frame's intensity, and all readings fit alike."
    return _no_reading(evidence, found) if verdict.alike else None


def _misread(verdict: trials.Verdict, found: str) -> Flag:
    much = "are explained" if verdict.right else "fit far better"
    text = f"{found} Read with '{verdict.best.name}' the patterns {much}: {verdict.best.remedy}. "
    return Flag(MISREAD, f"{text}`diptych check` lists all readings.")


def _faint(found: Found) -> Flag | None:
    """The flag of a faint scan whose held-out pixels prefer another reading, or do not tell."""
    log.info("held-out pixels prefer the scan as given to other readings by %.1f standard errors", -found.errors)
    if found.reading is None:
        return Flag(UNDECIDED, _UNDECIDED) if found.undecided else None
    better = f"by {found.errors:.1f} standard errors in trials of equal effort"
    if not found.part:
        text = (
            f"pixels that were held out fit better read with '{found.reading.name}', {better}: {found.reading.remedy}."
        )
        return Flag(MISREAD, f"{text} `diptych check` lists all readings.")
    text = f"in the {found.part} third of the frames, pixels that were held out fit better read with "
    return Flag(
        MISREAD,
        f"{text}'{found.reading.name}', {better}, and not in the others: a frame was lost or doubled during the scan. "
        "Find it in the log of the scan, and leave its position out, or the doubled frame.",
    )


_UNDECIDED = (
    "at so few photons the scan as given explains held-out pixels hardly better than with frames one position early "
    "or late. If the image is not what you expect, check the order of frames and the orientation on a scan with more "
    "light."
)


def _no_reading(evidence: Evidence, found: str) -> Flag:
    text = f"{found} Run `diptych check` on the scan: {NO_ADVICE}"
    return Flag(NO_READING, text + (NO_RANKING if evidence.level > UNRANKED else ""))


def _unfinished(evidence: Evidence, why: str) -> list[Flag]:
    if not evidence.level > POOR_FIT_LEVEL:
        return []
    text = f"fit {evidence.fit:.2f}, held out {evidence.held_out:.2f}, {why}. More epochs may help. {CHECK}"
    return [Flag(POOR_FIT, text)]


def _of_slices(evidence: Evidence) -> list[Flag]:
    """Flags of slices; no other reading is tried, since the trials know one slice only."""
    if not evidence.level > FAIR_FIT:
        return []
    text = f"{levels(evidence)} Check the distance between the slices, and try more of them (--slices). {CHECK}"
    return [Flag(POOR_FIT if trials.poor(evidence) else NOT_NOISE, text)]


def _unconverged(evidence: Evidence, standard: float) -> Flag:
    return Flag(
        POOR_FIT,
        f"{levels(evidence, standard)} The engine has not converged: a short run of maximum likelihood explains the "
        "patterns at the centre of the scan, so they are read the right way. Use the engine auto or ml, or more "
        "epochs.",
    )


def _intensity(evidence: Evidence) -> Flag:
    return Flag(
        INTENSITY,
        f"the totals of the patterns vary by {evidence.spread:.0%} (rms) about the predicted ones, which explains "
        f"{min(evidence.by_frame, 1):.0%} of the misfit; {levels(evidence)} The beam was not stable, or exposures "
        "differ: divide the patterns by a monitor's signal, or fit a factor for each. More probe modes do not help.",
    )


def _not_noise(evidence: Evidence, modes: int) -> Flag:
    more = (
        f"More probe modes than {modes} (--modes {modes + 2}) often explain"
        if modes < 8
        else "Positions or background may explain"
    )
    text = f"the fit is {evidence.level:.2f} times what noise explains. {more} the rest."
    return Flag(NOT_NOISE, text + (NO_RANKING if evidence.level > UNRANKED else ""))
