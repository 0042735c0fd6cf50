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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import MODES, Flag
from diptych.ptycho.engines.flags.evidence import gather_evidence
from diptych.ptycho.engines.flags.misfit import intensity_varies
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.modes.states import State, central_problem, fitted, promise, settled
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.modes import start_modes
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

LADDER = {2: 0.15, 3: 0.15, 5: 0.15, 8: 0.2}
"""Numbers of modes that are tried, in this order, and share by which the held-out fit's excess over 1 must fall for
each to be kept: every mode costs time. Scans made with 2 modes: 12 % from 2 to 3; a measured star, on 64 and on 100
patterns: 18 and 21 % from 2 to 3, 22 % from 3 to 5, 18 % from 5 to 8."""

RIVALLING = 0.8
"""A background or point spread must fit better than the next modes: the held-out fit's excess over 1 with it is at most
this share of that with them, and of that without either. True backgrounds: 0.35 to 0.74 of that with the next modes (N
= 64, 144 patterns, 1e5 and 1e6 photons); 0.85 where a third mode is missing (N = 32, 100 patterns)."""

DECISIVE = 0.6
"""It is kept where the next modes add to it, too, if the excess with it is at most this share of that with them alone.
A measured star: 0.55 with a point spread, to which a second mode adds."""

SECOND_FALL = 0.04
"""The second of them must lower the held-out fit by this, three times its standard error on 100 patterns of 64 x 64 px,
and is tried where it lowers it by a fourth of that for the object and probe of the first."""

SHARE, HARDLY = 0.15, 0.05
"""It must leave nothing for the next modes to explain: with it, they lower the excess by at most the first share of it,
or the second of what they lower it by without. Where modes are missing, a background takes up a part of it (blur and a
beam that varies, N = 32: 1.51 with two modes, 1.46 with a background, 1.34 with both)."""

MOST_TRIED = 3
"""Numbers of modes at which they are tried, from the first on: each costs as much as more modes."""

PLAINLY = 1.5
"""Fit at fitted pixels that photon noise never leaves, however much the held-out pixels scatter."""

LEAST_EXCESS = 0.1
"""Excess of which the share is taken at least: where noise is fitted, there is none."""

MOVES_FIRST = 0.5
"""Refined positions go before a background or point spread where they lower the held-out fit by this share of what
these do: the one may stand for a part of the other, and is tried again at the refined positions. 0.74 for three modes,
a background, wrong positions and a beam that varies (N = 32): with the blur first, the error was 0.035, else 0.031."""

MOVES_MATTER = 0.25
"""Refined positions are considered again with more modes where they lowered the held-out fit by this share of what the
first modes that were added did: 10 % on the star, whose refined positions matter less than its modes."""


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
    state : State or None
        The best one, with more modes, a background or a point spread; None where nothing is asked for.
    found : ModesFound or None
        The evidence for more modes.
    gains : mapping
        The evidence for a background or a point spread, by the kinds of their flags.
    moved : bool
        Whether refined positions fit better than what would be next, so that the trials ended there.
    """

    state: State | None = None
    found: ModesFound | None = None
    gains: Mapping[str, Gain] = MappingProxyType({})
    moved: bool = False


def grow_modes(
    scan: Scan,
    problem: Problem,
    image: Tensor,
    probe: Tensor,
    verdict: Callable[[], trials.Verdict],
    movable: bool,
    factors: bool = False,
    more: bool = True,
    extras: Sequence[str] = (),
) -> Grown:
    """More probe modes, a background or a point spread, by trials on the central part of a scan, where held-out pixels
    ask for them.

    What fits better than the next modes, and leaves nothing for them, goes before them. There is nothing where a wrong
    reading of the scan, a beam whose intensity varies, or wrong positions explain the patterns: modes that are free can
    hide them. Where the intensity may be fitted, it is in the trials.

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
    more : bool
        Whether modes may be added.
    extras : sequence of str
        What else may be fitted, of :data:`~diptych.ptycho.engines.modes.states.EXTRAS`.
    """
    evidence = gather_evidence(problem, image, probe, refined=True)
    varies = intensity_varies(evidence)
    if not (trials.suspect(evidence) or evidence.fit > PLAINLY) or (varies and not factors):
        return Grown()
    trial, start = central_problem(scan, problem, image, probe, varies)
    first = settled(trial, start)
    here, gains, moved = _climb(trial, first, movable, more, extras)
    if here is first:
        return Grown(moved=moved)
    reading = verdict()
    if reading.best is not AS_GIVEN or reading.alike:
        log.info("probe modes: none added, the scan may have to be read in another way")
        return Grown()
    found, brought = None, math.prod(gain.after / gain.before for gain in gains.values())
    if len(here.probe) > len(probe):
        found = ModesFound(len(probe), len(here.probe), first.fit * brought, here.fit)
        log.info("probe modes %s", found.text)
    return Grown(here, found, gains, moved)


def _climb(
    trial: Problem, here: State, movable: bool, more: bool, extras: Sequence[str]
) -> tuple[State, Mapping[str, Gain], bool]:
    """The best state of the trials from one on, the evidence for what it has beside modes, and whether refined
    positions go before what would be next; what may be done is as in :func:`grow_modes`.
    """
    tried, gains = 0, dict[str, Gain]()
    for modes, share in ((n, share) for n, share in LADDER.items() if more and n > len(here.probe)):
        there = settled(trial, _with_modes(here, modes))
        log.info("probe modes: held-out fit %.4g with %d, %.4g with %d", here.fit, len(here.probe), there.fit, modes)
        if extras and not gains and (tried := tried + 1) <= MOST_TRIED:
            explained = _with_extras(trial, here, extras, there.fit, movable, modes)
            if explained.moved:
                return here, {}, True
            if explained.gains:
                here, gains = explained.state, explained.gains
                if explained.more is None:
                    break
                there = explained.more
        if not here.fit - there.fit > share * max(here.fit - 1, LEAST_EXCESS):
            break
        if movable:
            free = _freed(trial, here)
            if free < there.fit:
                return here, gains, True
            movable = here.fit - free > MOVES_MATTER * (here.fit - there.fit)
        here = there
    if extras and not tried:
        explained = _with_extras(trial, here, extras, math.inf, movable, None)
        return explained.state, explained.gains, explained.moved
    return here, gains, False


def _with_modes(state: State, modes: int) -> State:
    return state._replace(probe=start_modes(state.probe, modes))


def _freed(trial: Problem, here: State) -> float:
    """Held-out fit with refined positions."""
    free = settled(trial, here, moving=True).fit
    log.info("probe modes: held-out fit %.4g with %d and refined positions", free, len(here.probe))
    return free


class _Explained(NamedTuple):
    """A state with a background or a point spread; ``moved`` says that refined positions go before them.

    Parameters
    ----------
    state : State
        The one they were tried from where ``gains``, the evidence for each, is empty.
    more : State or None
        The same with the next number of modes, where these still add to it.
    """

    state: State
    gains: dict[str, Gain]
    more: State | None = None
    moved: bool = False


def _with_extras(
    problem: Problem, here: State, extras: Sequence[str], rival: float, movable: bool, modes: int | None
) -> _Explained:
    """One of the extras, or several, where the state then fits clearly better than without and than a ``rival``, and
    the next number of ``modes`` adds hardly anything, or the fit is far better than the rival's.
    """
    there, gains = here, dict[str, Gain]()
    while left := [extra for extra in extras if extra not in gains]:
        hopes = {extra: promise(problem, there, extra) for extra in left}
        best = min(hopes, key=lambda extra: hopes[extra])
        if gains and there.fit - hopes[best] < SECOND_FALL / 4:
            break
        found = fitted(problem, there, best)
        log.info("%s: held-out fit %.4g without, %.4g with", best, there.fit, found.fit)
        if there.fit - found.fit < (SECOND_FALL if gains else (1 - RIVALLING) * max(there.fit - 1, LEAST_EXCESS)):
            break
        gains[best], there = Gain(there.fit, found.fit), found
    if not gains or there.fit - 1 > RIVALLING * (rival - 1):
        return _Explained(here, {})
    both = None
    if modes is not None:
        both = settled(problem, _with_modes(there, modes))
        log.info("%s: held-out fit %.4g with %d modes", ", ".join(gains), both.fit, modes)
        added = there.fit - both.fit
        if added <= SHARE * max(there.fit - 1, LEAST_EXCESS) or added <= HARDLY * (here.fit - rival):
            both = None
        elif there.fit - 1 > DECISIVE * (rival - 1):
            return _Explained(here, {})
    if movable and here.fit - _freed(problem, here) > MOVES_FIRST * (here.fit - there.fit):
        return _Explained(here, {}, None, True)
    return _Explained(there, gains, both)
