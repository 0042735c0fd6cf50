"""Which reading of a scan fits: short trials of all, and a longer reconstruction of the best one.

The standard is the same for a result, for a trial and for ``check``: the *excess*, the deviance per photon that noise
does not explain, corrected for over-fitting by the held-out pixels. It hardly depends on the dose. Measured (blocks and
natural, 1e4 and 1e6 photons, 64 x 64 px, 144 patterns, blind probe): right readings -0.009 to 3e-5; transposed
patterns, frames late by one, in random or file-name order, one frame lost, intensity varying by 30 %: 0.021 to 0.10.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.flags.evidence import Evidence, gather_evidence
from diptych.ptycho.engines.flags.readings import Reading
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, detect, make_problem, sweep_batch
from diptych.ptycho.engines.starts.estimate import estimate_probe
from diptych.ptycho.engines.starts.trial import SEED, central_part, central_patterns, try_out
from diptych.ptycho.physics.detector.read_noise import draw_shifted
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan
from diptych.runtime.cpu.parallel import Workers
from diptych.runtime.interrupts import stop_if_asked

POOR_EXCESS = 0.01
"""Excess above which no reading is believed."""

SIGNIFICANT = 4.0
"""Standard errors by which the level must exceed 1 before an excess counts."""

PATTERNS = 100
"""Patterns at the centre of the scan that trials and simulated repetitions use."""

EPOCHS = 10
"""Epochs of each short trial."""

GUESS, STEPS = 15, 45
"""Epochs of PIE and steps of maximum likelihood of a longer trial."""

CLEARLY_BETTER = 0.95
"""A reading is tried further when its short trial fits better than that of the scan as given by this factor."""

DISTINCT = 0.3
"""A reading stands out when the misfit (fit - 1) of its short trial is below this share of the median of all. Measured
with blocks: right readings 0.006 to 0.03; 0.55 and 0.7 with one frame lost, 0.42 and 0.66 where the intensity varies
by 30 %, 0.9 for frames in random order (1e6 and 1e4 photons)."""

FAINT = 0.2
"""Below this median misfit noise hides how the readings differ, and a reading stands out by its distance instead."""

OUTLYING = 5.0
"""Robust standard deviations of the other readings' fits by which a reading stands out where all fits are near 1.
Measured with lines at 1e4 photons (fits 0.829, others 0.881 to 0.913): right and transposed readings 8; 0.7 where the
frames are in random order."""

HIDDEN = 2.0
"""Robust standard deviations below which, there, the best reading counts as one of many."""

ALIKE = 0.6
"""No reading fits where the misfit of the best short trial is above this share of the median of all. Measured with
lines and Siemens stars at 1e5 photons: 0.000 to 0.007 where one of them is right, 0.96 and 0.97 in random order."""

SUSPECT = 0.05
"""Level above that of a right reading from which the readings are tried, where the excess alone does not condemn: fine
lines scatter few photons, and a wrong reading then leaves a level of 1.2 to 1.5 and an excess of 0.007."""

POLISH = (5, 5, 10)
"""Steps of maximum likelihood between looks at a result that may only not have converged. Measured at 1e6 photons:
blocks after 60 epochs of the difference map 4.2 -> 1.26, 1.15, 1.06; frames late by one 35 -> 21.7."""

HELD_OUT = 0.02
"""Fraction of the detector pixels held out in a longer trial."""


@dataclass(frozen=True)
class Verdict:
    """What the trials found.

    Parameters
    ----------
    best : Reading
        The reading with the best short trial; the scan as given unless another is clearly better.
    right : bool
        Whether it explains the patterns.
    distinct : bool
        Whether it fits better than the other readings by far. The reading is then right even where the patterns are
        not explained: something else is missing.
    evidence : Evidence
        Of the longer trial of ``best``.
    alike : bool
        Whether it fits no better than the other readings, although readings differ by more than noise.
    others : tuple of Reading
        The readings other than the scan as given, the best fit first.
    """

    best: Reading
    right: bool
    distinct: bool
    evidence: Evidence
    alike: bool = False
    others: tuple[Reading, ...] = ()


def poor(evidence: Evidence, standard: float = 1.0) -> bool:
    """Whether something other than photon noise and over-fitting is needed to explain the patterns.

    Parameters
    ----------
    standard : float
        Level that a right reading reaches; 1 except at few photons, see :func:`right_level`.
    """
    if not np.isfinite(evidence.level):
        return True
    beyond = evidence.level - standard
    return bool(
        _significant(evidence, standard) and beyond * evidence.expected > POOR_EXCESS * max(evidence.photons, 1.0)
    )


def suspect(evidence: Evidence, standard: float = 1.0) -> bool:
    """Whether a reading may be wrong although the excess is small; see :data:`SUSPECT`."""
    return _significant(evidence, standard) and evidence.level > standard + SUSPECT


def _significant(evidence: Evidence, standard: float) -> bool:
    return not evidence.level - standard <= SIGNIFICANT * float(np.nan_to_num(evidence.error))


def rank(
    scan: Scan,
    readings: list[Reading],
    patterns: int,
    report: Callable[[int, Reading, float], None] | None = None,
    workers: Workers | None = None,
) -> list[float]:
    """Fits of short trials, one for each reading, on the central ``patterns`` patterns; infinite where one diverged.

    ``workers`` run as many trials at a time as they are; each takes one thread.
    """

    def one(reading: Reading) -> float:
        part = central_part(reading.apply(scan), patterns)
        fit = float(try_out(part, probe_of(part), EPOCHS).fit)
        return fit if np.isfinite(fit) else np.inf

    workers, fits = workers or Workers(1), []
    for done in range(0, len(readings), workers.count):
        stop_if_asked()
        some = readings[done : done + workers.count]
        for reading, fit in zip(some, workers.map(one, some), strict=True):
            fits.append(fit)
            if report is not None:
                report(len(fits), reading, fit)
    return fits


def settle(scan: Scan, readings: list[Reading], fits: list[float], workers: Workers | None = None) -> Verdict:
    """The best of ``readings`` by the fits of their short trials, and whether a longer trial of it fits.

    ``readings`` begin with the scan as given.
    """
    best = int(np.argmin(fits))
    if not fits[best] < CLEARLY_BETTER * fits[0]:
        best = 0
    evidence = longer_trial(readings[best].apply(scan), workers=workers)
    # The middle value: the mean of two middle ones would be infinite where half of the trials diverged.
    middle = sorted(fits)[(len(fits) - 1) // 2]
    if middle - 1 < FAINT:
        others = np.nan_to_num(np.delete(fits, best), posinf=1e9)
        spread = 1.4826 * float(np.median(np.abs(others - np.median(others))))
        out = (middle - fits[best]) / max(spread, 1e-3 * middle)
        distinct, alike = out > OUTLYING, out < HIDDEN
    else:
        share = (fits[best] - 1) / (middle - 1) if np.isfinite(middle) else float(not np.isfinite(fits[best]))
        distinct, alike = share < DISTINCT, share > ALIKE
    # A low excess alone is no proof: see SUSPECT.
    right = not poor(evidence) and not (alike and suspect(evidence))
    others = tuple(readings[i] for i in np.argsort(fits) if i > 0)
    return Verdict(readings[best], right, bool(distinct), evidence, bool(alike), others)


def longer_trial(scan: Scan, probe: NDArray[np.complex64] | None = None, workers: Workers | None = None) -> Evidence:
    """Evidence of a short reconstruction of the central part of a scan, PIE and then maximum likelihood."""
    part = central_part(scan, PATTERNS)
    problem = make_problem(
        part,
        device=torch.device("cpu"),
        double=False,
        subpixel=True,
        held_out=HELD_OUT,
        seed=SEED,
        workers=workers,
    )
    return _solve(problem, probe_of(part) if probe is None else probe)


def polish(problem: Problem, image: Tensor, probe: Tensor, converged: bool = False) -> Evidence | None:
    """Evidence at the central patterns after a few steps of maximum likelihood from a result.

    Where it explains these patterns and the result does not, they are read the right way, and the engine that made the
    result has not converged. None where the result explains them: what is wrong lies outside the centre.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        The result.
    converged : bool
        Whether it comes from maximum likelihood that has converged; no steps are made then.
    """
    part = _central_patterns(problem)
    found = gather_evidence(part, image, probe, refined=True)
    if not unexplained(found):
        return None
    if converged:
        return found
    engine = MaximumLikelihood(part, image, probe, LikelihoodSettings(batch=sweep_batch(part)))
    for steps in POLISH:
        for _ in range(steps):
            engine.epoch()
        found = gather_evidence(part, engine.image, engine.probe, refined=True)
        if not unexplained(found):
            break
    return found


def unexplained(evidence: Evidence, standard: float = 1.0) -> bool:
    """Whether a result is :func:`poor` or :func:`suspect`."""
    return poor(evidence, standard) or suspect(evidence, standard)


def _central_patterns(problem: Problem) -> Problem:
    """The patterns nearest to the centre of the scan, on the canvas of all."""
    forward = problem.forward
    rows = central_patterns(forward.positions, PATTERNS)
    index = torch.from_numpy(rows).to(problem.device)
    fractions = None if forward.fractions is None else forward.fractions[rows]
    invalid = problem.invalid
    return replace(
        problem,
        counts=problem.counts[index],
        forward=replace(forward, corners=forward.corners[rows], fractions=fractions, factors=None),
        invalid=invalid if invalid is None or invalid.ndim == 2 else invalid[index],
        held=problem.held[index],
        watched=problem.watched[index],
        limits=None,
    )


def right_level(problem: Problem, image: Tensor, probe: Tensor) -> float:
    """Level that a right reading reaches at this dose: that of counts simulated from a result (parametric bootstrap).

    Poisson counts are drawn from what the result (object (H, W), probe modes (P, N, N)) predicts. The reconstruction
    starts from the result itself: what a wrong reading looks like can be hard to find from a flat object, and a search
    that fails would hide the misfit.
    """
    counts = torch.empty_like(problem.counts)
    if (factors := problem.forward.factors) is not None:
        # Its own factors of the frames: those of the result are not to be fitted to simulated counts.
        own = copy(factors)
        own.values = factors.values.clone()
        problem = replace(problem, forward=replace(problem.forward, factors=own))
    generator = torch.Generator(device=problem.device).manual_seed(SEED)
    batch = sweep_batch(problem)
    for first in range(0, len(problem), batch):
        some = np.arange(first, min(first + batch, len(problem)))
        views = problem.forward.views(image, probe, some)
        _, expected = detect(problem, some, views.exit_waves())
        counts[views.rows] = (
            draw_shifted(expected, problem.read_variance, generator)
            if problem.read_variance
            else torch.poisson(expected, generator)
        )
    if problem.invalid is not None:
        counts.masked_fill_(problem.invalid, 0.0)
    return _maximise(replace(problem, counts=counts), image, probe).level


def probe_of(scan: Scan) -> NDArray[np.complex64]:
    """The scan's initial probe, or an estimate."""
    return estimate_probe(scan) if scan.probe is None else scan.probe


def _solve(problem: Problem, probe: NDArray[np.complex64]) -> Evidence:
    with torch.no_grad():
        start = scaled_to(torch.from_numpy(probe.copy()).to(problem.device, problem.complex_dtype), problem.power)
        batch = int(np.clip(len(problem) // 16, 1, 64))
        pie = Pie(problem, problem.flat_object(), start, PieSettings(batch=batch), np.random.default_rng(SEED))
        for _ in range(GUESS):
            pie.epoch()
        return _maximise(problem, pie.image, pie.probe)


def _maximise(problem: Problem, image: Tensor, probe: Tensor) -> Evidence:
    """Evidence after some steps of maximum likelihood."""
    engine = MaximumLikelihood(problem, image, probe, LikelihoodSettings(batch=sweep_batch(problem)))
    for _ in range(STEPS):
        stop_if_asked()
        engine.epoch()
    return gather_evidence(problem, engine.image, engine.probe, refined=True)
