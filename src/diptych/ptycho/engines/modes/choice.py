"""When more probe modes are tried in a run, and what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.ptycho.engines.flags.base import BACKGROUND, POINT_SPREAD
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.modes.states import EXTRAS
from diptych.ptycho.engines.modes.trials import Grown, ModesFound, grow_modes
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.variation.asked import counted
from diptych.ptycho.physics.propagators import FarField

UNEXPLAINED = 1.1
"""Mean of fit and held-out fit above which more modes are tried; photon noise alone leaves 1."""

LEAST_EPOCHS, MOST_EPOCHS = 12, 36
"""Epochs of maximum likelihood before they are tried, and after which they are tried although the fit still falls."""

SLOW, RECENT = 0.02, 5
"""The fit no longer falls where it drops by less than this share in so many epochs."""

HALVED = 0.5
"""After modes were added, more are tried once positions were refined, where the held-out fit's excess over 1 is then
below this share of what those modes left in their trials: wrong positions hid how many there are. A measured star of
five modes, with positions wrong by 1 px: two modes are found first, an excess of 1.19 in their trials, then 0.43. With
right positions, the excess of the whole scan is 0.76 to 1.23 of that in the trials."""

MOVABLE, RECORDED, REFINED = 1, 2, 4
"""Where positions stand: they may be refined later, stay as recorded, or are refined."""

Trial = Callable[[Tensor, Tensor, int], Grown]
"""From object (H, W), probe (P, N, N) and where positions stand to the modes to go on with."""


class ModeChoice:
    """State of the choice of the number of probe modes, between the stages of the automatic engine.

    Parameters
    ----------
    trial : callable, optional
        See :data:`Trial`; without it, modes are never added.

    Attributes
    ----------
    found : ModesFound or None
        The evidence for the modes that were added.
    gains : dict
        The evidence for a background or point spread that is fitted, by the kinds of their flags.
    """

    def __init__(self, trial: Trial | None = None) -> None:
        self._trial = trial
        self._allowed = 0 if trial is None else MOVABLE | RECORDED | REFINED
        self._below = math.inf
        self.found: ModesFound | None = None
        self.gains: dict[str, Gain] = {}

    def awaited(self, report: dict[str, float], fits: Sequence[float], settled: bool, positions: int) -> bool:
        """Whether more modes are to be tried first, but not yet: the fit is poor, and still falls.

        Parameters
        ----------
        report : dict
            Of the last epoch of maximum likelihood.
        fits : sequence of float
            Held-out fits of the epochs of maximum likelihood so far.
        settled : bool
            Whether maximum likelihood has converged.
        positions : int
            :data:`MOVABLE`, :data:`RECORDED` or :data:`REFINED`.
        """
        return self._open(positions, fits) and _unexplained(report) and not _slow(fits, settled)

    def more(
        self,
        image: Tensor,
        probe: Tensor,
        report: dict[str, float],
        fits: Sequence[float],
        settled: bool,
        positions: int,
    ) -> Tensor | None:
        """The probe modes (P, N, N) to go on with, more than before or with a background or point spread that the
        problem then has; or None. See :meth:`awaited`.

        They are tried once; once more where refined positions fitted better in the trials than the next modes. After
        positions were refined, too; where modes had been added before, only if the excess has fallen by
        :data:`HALVED` since.

        Parameters
        ----------
        image, probe : (H, W) and (P, N, N) complex tensors
            Current state.
        positions : int
            As there.
        """
        if not self._open(positions, fits) or not _slow(fits, settled) or not _unexplained(report):
            return None
        assert self._trial is not None
        grown = self._trial(image, probe, positions)
        suspected = RECORDED if grown.moved and grown.found is None else 0
        self._allowed = suspected | REFINED * (grown.moved or positions != REFINED)
        if grown.found is not None:
            self._below = math.inf if grown.moved else HALVED * (grown.found.fit - 1)
            self.found = grown.found if self.found is None else self.found.and_then(grown.found)
        self.gains = {**grown.gains, **self.gains}
        return None if grown.state is None else grown.state.probe

    def _open(self, positions: int, fits: Sequence[float]) -> bool:
        """Whether more modes may be tried."""
        return bool(self._allowed & positions) and fits[-1] - 1 < self._below

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        mine = {
            "modes_allowed": torch.tensor(self._allowed),
            "modes_below": torch.tensor(self._below, dtype=torch.float64),
        }
        if self.found is not None:
            values = [self.found.before, self.found.modes, self.found.fit_before, self.found.fit]
            mine["modes_found"] = torch.tensor(values, dtype=torch.float64)
        return mine | {
            f"gain of {name}": torch.tensor([gain.before, gain.after], dtype=torch.float64)
            for name, gain in self.gains.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self._allowed, self.found = int(state["modes_allowed"]), None
        self._below = float(state.get("modes_below", math.inf))  # States of earlier versions have none.
        if "modes_found" in state:
            before, modes, *fits = state["modes_found"].tolist()
            self.found = ModesFound(int(before), int(modes), *fits)
        names = [name for name in EXTRAS if f"gain of {name}" in state]
        self.gains = {name: Gain(*state[f"gain of {name}"].tolist()) for name in names}


def mode_choice(request: Request, problem: Problem) -> ModeChoice:
    """How more probe modes, a background and a point spread are tried for a problem.

    No modes where the options fix their number, or the probe; no background where the scan has one, or read noise; no
    point spread where the options give it. Nothing where the sample has slices, or a number of components of a probe
    that varies is asked for: to one slice a thick sample looks like more modes, and so does a probe that varies to a
    constant one.
    """
    options = request.options
    more = options.modes == "auto" and options.probe != "fixed"
    extras = _extras(request, problem)
    if not (more or extras) or options.slices > 1 or counted(options):
        return ModeChoice()

    def trial(image: Tensor, probe: Tensor, positions: int) -> Grown:
        grown = grow_modes(
            request.scan,
            problem,
            image,
            probe,
            lambda: request.verdict_at(positions == REFINED),
            positions == MOVABLE,
            options.frame_factors != "off",
            more,
            [extra for extra in extras if extra not in choice.gains],
        )
        if grown.state is not None:
            problem.forward.background, problem.forward.spread = grown.state.background, grown.state.spread
        return grown

    choice = ModeChoice(trial)
    return choice


def _extras(request: Request, problem: Problem) -> list[str]:
    """What may be fitted beside modes, of far-field patterns in which photons are counted."""
    options, found = request.options, list[str]()
    if not isinstance(problem.forward.propagator, FarField) or problem.read_variance:
        return found
    if options.background == "auto" and request.scan.background is None:
        found.append(BACKGROUND)
    if options.point_spread == "auto":
        found.append(POINT_SPREAD)
    return found


def _unexplained(report: dict[str, float]) -> bool:
    """Whether photon noise does not explain the patterns, by the pixels that are monitored."""
    held = report["held_out_fit"]
    level = (report["fit"] + held) / 2 if math.isfinite(held) else report["fit"]
    return level > UNEXPLAINED


def _slow(fits: Sequence[float], settled: bool) -> bool:
    done = len(fits)
    if settled or done >= MOST_EPOCHS:
        return True
    return done >= LEAST_EPOCHS and fits[-1] > (1 - SLOW) * fits[-1 - RECENT]
