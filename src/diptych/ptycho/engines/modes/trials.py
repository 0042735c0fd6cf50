"""Number of probe modes by evidence: more modes where the held-out pixels of the scan ask for them.

A beam that is partially coherent, vibrates or moves during an exposure gives patterns that no single mode explains. The
trials continue from the current state, on part of the scan: modes are added a few at a time to those found before, and
object and modes are refined for some epochs of PIE, which finds new modes several times sooner than L-BFGS, and some
steps of maximum likelihood. Held-out pixels, which no step fits, tell whether the added modes explain the patterns or
their noise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import MODES, Flag
from diptych.ptycho.engines.flags.evidence import gather_evidence
from diptych.ptycho.engines.flags.misfit import intensity_varies
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.modes.background import BackgroundFound, fitted_background
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.engines.starts.trial import SEED, central_part
from diptych.ptycho.physics.modes import start_modes
from diptych.ptycho.scan import Scan
from diptych.runtime.interrupts import stop_if_asked

log = logging.getLogger("diptych")

LADDER = {2: 0.15, 3: 0.15, 5: 0.15, 8: 0.2}
"""Numbers of modes that are tried, in this order, and share by which the held-out fit's excess over 1 must fall for
each to be kept: every mode costs time. Scans made with 2 modes: 12 % from 2 to 3; a measured star, on 64 and on 100
patterns: 18 and 21 % from 2 to 3, 22 % from 3 to 5, 18 % from 5 to 8."""

BACKGROUND_SHARE = 0.15
"""The same for a background, which must fit better than the next modes, and leave nothing for them to explain: where
modes are missing, a background takes up a part of it (blur and a beam that varies, N = 32: 1.51 with two modes, 1.46
with a background, 1.34 with both)."""

RIVALLING = 0.8
"""The held-out fit's excess over 1 with a background is at most this share of that with the next modes. True ones: 0.35
to 0.74 (N = 64, 144 patterns, 1e5 and 1e6 photons); 0.85 where a third mode is missing (N = 32, 100 patterns)."""

MOST_TRIED = 3
"""Numbers of modes at which a background is tried, from the first on: it costs as much as more modes."""

ESTIMATES = 2
"""Estimates of the background between epochs of PIE, and one more after them."""

LEAST_EXCESS = 0.1
"""Excess of which the share is taken at least: where noise is fitted, there is none."""

PATTERNS = 100
"""Patterns at the centre of the scan on which they are tried."""

MOVES_MATTER = 0.25
"""Refined positions are considered again with more modes where they lowered the held-out fit by this share of what the
first modes that were added did: 10 % on the star, whose refined positions matter less than its modes."""

HELD_OUT = 0.03
"""Fraction of the detector pixels held out in the trials."""

GUESS, STEPS, MOST_STEPS = 6, 6, 24
"""Epochs of PIE and least steps of maximum likelihood of each trial; most steps where the fit still falls. On 120
patterns of a Siemens star, held out, with 3 modes: 1.60 after 6 and 4, 1.63 after 24 steps of maximum likelihood alone,
which took 2.5 times as long."""

FALLING, RECENT = 0.9, 4
"""The fit still falls where the held-out fit's excess over 1 sinks below this share in so many steps."""


@dataclass(frozen=True)
class ModesFound:
    """How many probe modes the held-out pixels ask for.

    Parameters
    ----------
    before, modes : int
        Number of modes that the result had, and that fit best.
    fit_before, fit : float
        Held-out fit of the trials with each. Of several choices: ``fit`` of the last, and what it would have been
        without any of them.
    """

    before: int
    modes: int
    fit_before: float
    fit: float

    def and_then(self, later: ModesFound) -> ModesFound:
        """Of two choices, the second from the modes of the first, at other positions; both have their share."""
        return replace(later, before=self.before, fit_before=later.fit_before * self.fit_before / self.fit)

    @property
    def text(self) -> str:
        """The evidence in words."""
        change = 100 * (self.fit / self.fit_before - 1)
        return f"{self.before} -> {self.modes}: held-out deviance {change:+.0f} %"

    def flag(self) -> str:
        """A note on the result."""
        text = f"{self.text} in trials. modes={self.before} (--modes {self.before}) keeps the number."
        return str(Flag(MODES, text))


class Grown(NamedTuple):
    """What the trials ask for.

    Parameters
    ----------
    probe : (P, N, N) complex tensor or None
        Modes of the best trial, more than before; None where no more are asked for.
    found : ModesFound or None
        The evidence for them.
    moved : bool
        Whether refined positions fit better than the next modes, so that the trials ended there.
    background : Tensor or None
        Counts (N, N) that are the same in every frame; None where none are asked for.
    shown : BackgroundFound or None
        The evidence for them.
    """

    probe: Tensor | None = None
    found: ModesFound | None = None
    moved: bool = False
    background: Tensor | None = None
    shown: BackgroundFound | None = None


def grow_modes(
    scan: Scan,
    problem: Problem,
    image: Tensor,
    probe: Tensor,
    verdict: Callable[[], trials.Verdict],
    movable: bool,
    factors: bool = False,
    more: bool = True,
    background: bool = False,
) -> Grown:
    """More probe modes, or a background, by trials on the central part of a scan, where held-out pixels ask for them.

    A background that fits better than the next modes, and leaves nothing for them, goes before them. There is neither
    where a wrong reading of the scan, a beam whose intensity varies, or wrong positions explain the patterns: modes
    that are free can hide them. Where the intensity may be fitted, it is in the trials.

    Parameters
    ----------
    scan : Scan
        The counts of ``problem``; its positions are not used.
    image, probe : (H, W) and (P, N, N) complex tensors
        State to start from, at the problem's positions.
    verdict : callable
        Trials of the readings of the scan; asked for last.
    movable : bool
        Whether wrong positions are to be considered as the reason.
    factors : bool
        Whether a factor for each frame's intensity may be fitted.
    more, background : bool
        Whether modes may be added, and whether a background may be fitted.
    """
    evidence = gather_evidence(problem, image, probe, refined=True)
    varies = intensity_varies(evidence)
    if not trials.suspect(evidence) or (varies and not factors):
        return Grown()
    trial, start = _central_problem(scan, problem, image, varies)
    first = _settled(trial, start, probe)
    here, shown, moved = _climb(trial, first, movable, more, background)
    if here is first:
        return Grown(moved=moved)
    reading = verdict()
    if reading.best is not AS_GIVEN or reading.alike:
        log.info("probe modes: none added, the scan may have to be read in another way")
        return Grown()
    found, brought = None, 1.0 if shown is None else shown.fit / shown.fit_before
    if len(here.probe) > len(probe):
        found = ModesFound(len(probe), len(here.probe), first.fit * brought, here.fit)
        log.info("probe modes %s", found.text)
    return Grown(here.probe, found, moved, trial.forward.background if shown is not None else None, shown)


def _climb(
    trial: Problem, here: _State, movable: bool, more: bool, background: bool
) -> tuple[_State, BackgroundFound | None, bool]:
    """The best state of the trials from one on, the evidence for a background that its problem then has, and whether
    refined positions go before what would be next; what may be done is as in :func:`grow_modes`.
    """
    tried = 0
    for modes, share in ((n, share) for n, share in LADDER.items() if more and n > len(here.probe)):
        there = _settled(trial, here.image, start_modes(here.probe, modes))
        log.info("probe modes: held-out fit %.4g with %d, %.4g with %d", here.fit, len(here.probe), there.fit, modes)
        if background and (tried := tried + 1) <= MOST_TRIED:
            lit, shown, moved = _in_background(trial, here, there.fit, movable, modes)
            if shown is not None or moved:
                return lit, shown, moved
        if not here.fit - there.fit > share * max(here.fit - 1, LEAST_EXCESS):
            return here, None, False
        if movable:
            free = _freed(trial, here)
            if free < there.fit:
                return here, None, True
            movable = here.fit - free > MOVES_MATTER * (here.fit - there.fit)
        here = there
    return _in_background(trial, here, math.inf, movable, None) if background and not tried else (here, None, False)


def _freed(trial: Problem, here: _State) -> float:
    """Held-out fit with refined positions."""
    free = _settled(trial, here.image, here.probe, moving=True).fit
    log.info("probe modes: held-out fit %.4g with %d and refined positions", free, len(here.probe))
    return free


class _State(NamedTuple):
    image: Tensor
    probe: Tensor
    fit: float


def _in_background(
    problem: Problem, here: _State, rival: float, movable: bool, modes: int | None
) -> tuple[_State, BackgroundFound | None, bool]:
    """A state with a background, and the evidence for it, where it fits clearly better than without and than a rival,
    and a next number of ``modes`` adds nothing to it; else the state as it is. And whether positions, where
    ``movable``, go before it. The problem has the background where there is evidence.
    """
    image, probe = here.image, here.probe
    for _ in range(ESTIMATES):
        fitted_background(problem, image, probe)
        image, probe = _guess(problem, image, probe)
    shown = fitted_background(problem, image, probe)
    there = _settled(problem, image, probe)
    mean = float(shown.mean())
    log.info("background: held-out fit %.4g without, %.4g with %.3g counts per pixel", here.fit, there.fit, mean)
    clear = there.fit - 1 <= RIVALLING * (rival - 1) and _clearly(here.fit, there.fit)
    if clear and modes is not None:
        both = _settled(problem, there.image, start_modes(there.probe, modes)).fit
        log.info("background: held-out fit %.4g with %d modes", both, modes)
        clear = not _clearly(there.fit, both)
    problem.forward.background = None
    if not clear or (moved := movable and _freed(problem, here) < there.fit):
        return here, None, clear
    problem.forward.background = shown
    return there, BackgroundFound(here.fit, there.fit), moved


def _clearly(before: float, after: float) -> bool:
    """Whether a held-out fit falls by the share that a background must bring."""
    return before - after > BACKGROUND_SHARE * max(before - 1, LEAST_EXCESS)


def _guess(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Object and probe after some epochs of PIE."""
    batch = int(np.clip(len(problem) // 16, 1, 64))
    guess = Pie(problem, image, probe, PieSettings(batch=batch), np.random.default_rng(SEED))
    for _ in range(GUESS):
        stop_if_asked()
        guess.epoch()
    return guess.image, guess.probe


def _settled(problem: Problem, image: Tensor, probe: Tensor, moving: bool = False) -> _State:
    """Object, probe modes and held-out fit after some epochs from a state.

    ``moving`` refines positions, too, all in maximum likelihood.
    """
    if moving:
        # Its own: positions are changed in place.
        problem = replace(problem, forward=replace(problem.forward))
    else:
        image, probe = _guess(problem, image, probe)
    settings = LikelihoodSettings(batch=sweep_batch(problem), refine_positions=moving)
    engine = MaximumLikelihood(problem, image, probe, settings)
    fits: list[float] = []
    least = GUESS + STEPS if moving else STEPS
    while len(fits) < least or (len(fits) < MOST_STEPS and fits[-1] - 1 < FALLING * (fits[-1 - RECENT] - 1)):
        stop_if_asked()
        fits.append(engine.epoch()["held_out_fit"])
    found = full_fit(problem, engine.image, engine.probe, sweep_batch(problem))["held_out_fit"]
    return _State(engine.image, engine.probe, float(found) if np.isfinite(found) else float("inf"))


def _central_problem(scan: Scan, problem: Problem, image: Tensor, varies: bool) -> tuple[Problem, Tensor]:
    """The central part of a scan as a problem of its own, and the object (h, w) on its canvas; with factors of the
    frames where these are fitted, or the beam ``varies``.
    """
    part = central_part(replace(scan, positions=problem.forward.positions), PATTERNS)
    trial = make_problem(
        part,
        device=problem.device,
        double=problem.complex_dtype == torch.complex128,
        subpixel=problem.forward.fractions is not None,
        held_out=HELD_OUT,
        seed=SEED,
        power=problem.power,
        workers=problem.workers,
    )
    (top, left), (height, width) = np.subtract(trial.origin, problem.origin), trial.shape
    start = image[max(top, 0) : top + height, max(left, 0) : left + width]
    if tuple(start.shape) != trial.shape:
        whole = trial.flat_object()
        y, x = max(-int(top), 0), max(-int(left), 0)
        whole[y : y + start.shape[0], x : x + start.shape[1]] = start
        start = whole
    fitted = varies or (problem.forward.factors is not None and problem.forward.factors.fitted)
    if fitted and trial.forward.factors is not None:
        trial.forward.factors.fitted = True
    trial.forward.background = problem.forward.background
    return trial, start
