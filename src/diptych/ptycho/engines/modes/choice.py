"""When more probe modes are tried in a run, and what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.ptycho.engines.modes.background import BackgroundFound
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
    shown : BackgroundFound or None
        The evidence for a background that is fitted.
    """

    def __init__(self, trial: Trial | None = None) -> None:
        self._trial = trial
        self._allowed = 0 if trial is None else MOVABLE | RECORDED | REFINED
        self._below = math.inf
        self.found: ModesFound | None = None
        self.shown: BackgroundFound | None = None

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
        """The probe modes (P, N, N) to go on with, more than before or with a background that the problem then has; or
        None. See :meth:`awaited`.

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
        self.shown = self.shown or grown.shown
        return grown.probe

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
        if self.shown is not None:
            mine["background_found"] = torch.tensor([self.shown.fit_before, self.shown.fit], dtype=torch.float64)
        return mine

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self._allowed, self.found = int(state["modes_allowed"]), None
        self._below = float(state.get("modes_below", math.inf))  # States of earlier versions have none.
        if "modes_found" in state:
            before, modes, *fits = state["modes_found"].tolist()
            self.found = ModesFound(int(before), int(modes), *fits)
        if "background_found" in state:
            self.shown = BackgroundFound(*state["background_found"].tolist())


def mode_choice(request: Request, problem: Problem) -> ModeChoice:
    """How more probe modes and a background are tried for a problem.

    No modes where the options fix their number, or the probe; no background where the scan has one, or read noise.
    Neither where the sample has slices, or a number of components of a probe that varies is asked for: to one slice a
    thick sample looks like more modes, and so does a probe that varies to a constant one.
    """
    options = request.options
    more = options.modes == "auto" and options.probe != "fixed"
    lit = options.background == "auto" and _may_be_lit(request, problem)
    if not (more or lit) or options.slices > 1 or counted(options):
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
            lit and problem.forward.background is None,
        )
        if grown.background is not None:
            problem.forward.background = grown.background
        return grown

    return ModeChoice(trial)


def _may_be_lit(request: Request, problem: Problem) -> bool:
    """Whether a background may be fitted: the scan has none, counts photons, and its patterns are far fields."""
    far = isinstance(problem.forward.propagator, FarField)
    return far and request.scan.background is None and not problem.read_variance


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
