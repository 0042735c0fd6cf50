"""Decides whether positions are refined, in which rounds, and whether the refined ones are kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.base import Engine
from diptych.ptycho.engines.fit_monitor import LEAST_EXCESS, full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import Afresh
from diptych.ptycho.engines.positions.cycles import SlowCycles, holds_slow
from diptych.ptycho.engines.positions.distortion import DistortionSearch
from diptych.ptycho.engines.positions.escape import escaped
from diptych.ptycho.engines.positions.growth import LEAST_PATTERNS, MOST_SEEDS, Growth, Method
from diptych.ptycho.engines.positions.line import AroundSearch, LineSearch
from diptych.ptycho.engines.positions.linear import WithoutLinear, moves_linearly
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.positions.slow import SLOW_MOVE, SlowSearch, moves_slowly
from diptych.ptycho.engines.positions.strays import StraySearch, strays
from diptych.ptycho.engines.positions.suspicion import POSITIONS_TEST, PositionTest
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.stopping import stagnated, stalled
from diptych.ptycho.physics.propagators import shift_probe

log = logging.getLogger("diptych")

POSITIONS_EPOCHS = 15
"""Epochs after which windows and sub-pixel shifts are divided anew."""

ROUND_SLOW, ROUND_RECENT = 0.98, 5
"""They are divided sooner where so many epochs do not bring the held-out fit's excess over 1 below this share."""

POSITIONS_GAIN = 0.1
"""Refined positions are kept where the held-out fit falls by this share of the misfit's excess over 1. The misfit is
the geometric mean of the fits on fitted and on held-out pixels: where many unknowns are fitted to few photons, the one
is below 1 by about as much as the other is above it, and neither says that something is wrong. ``blocks``, N = 32, 1e4
photons, at right positions: 0.87 and 1.26."""

PROMISING = 0.5
"""Where refinement lowers the held-out fit's excess over 1 below this share, but not below the limit that follows, the
refined positions are on trial: something else may be missing, too, for instance probe modes."""

POOR_FIT = 3.0
"""Held-out fit above which refined positions are not kept with ``auto``: a reconstruction that is stuck moves right
positions, too (a Siemens star at 3e6 photons, by 0.29 px, from 22.7 to 12.9)."""

PROVEN = 0.1
"""Where nothing fitted before, refined positions are also kept above that limit if the held-out fit falls below this
share: a Siemens star with errors of 3 px, from 77 to 3.4 with 0.5 px left, and then to 1.1."""

DISTORTED_FIT, CERTAIN_FIT = 1.3, 2.0
"""Held-out fits above which distortions are tried after the first refinement: where it moved positions slowly as a
whole, and in any case."""

LEAST_MOVE = 0.01
"""Moves along an axis, pixels rms, below which positions stay as recorded with ``auto``: at 1e8 photons and more, small
moves take up what an object and a probe that have not converged leave unexplained (a raster of 64 patterns: 0.0025 px,
and an error of 2.7 times the photon limit instead of 1.0)."""

LEAST_HIDDEN, UNEXPLAINED = 0.3, 1.03
"""Others are tried where the positions were stretched, turned or sheared by more than the first number, pixels rms, and
the misfit is above the second one: 0.99 where nothing is left (``natural``, N = 64, 1e6 photons), 1.08 at a scale wrong
by 1.2 %."""

SMALL_MOVE = 0.15
"""Slow part of the moves, pixels rms, above which cycles follow with ``on``, or where the held-out fit is above
``DISTORTED_FIT``."""

AFRESH, GROWN, STRAYED, SEARCHED, COMPLETED, AROUND, CYCLED, LINEAR = range(10, 81, 10)
"""Numbers of the first rounds after each search: the start from a flat object, the growth from a small part, single
positions that are still wrong, the coarse distortions, what completes slow moves, other scales and rotations, the
cycles that take out what is left of them, and the trial without scale, rotation and shear."""

FEW_SEEDS = 6
"""Small parts that are tried at most with ``auto``, where the data may be at fault and not the positions."""

COUNTED = 10
"""Rounds are counted up to this after each search."""

FOUND_GAIN = 0.9
"""The start from a flat object, or the growth, found positions where the held-out fit fell below this share."""

LEAST_ROUNDS, MOST_ROUNDS = 2, 8
"""Rounds of joint refinement, before the distortions and after them."""

ROUND_GAIN = 0.2
"""Another round follows where the last one lowered the held-out fit's excess over 1 by this share."""

Next = tuple[str, Tensor, Tensor]
"""The stage to enter, with its object and probe."""


class PositionCorrection:
    """State of the refinement of positions, between the stages of the automatic engine.

    Rounds of object, probe and positions together, between which patterns that fit far worse than most are tried
    elsewhere. Where the fit is still poor: slow distortions, and more rounds. Refined positions that do not lower the
    held-out fit clearly are given up for the recorded ones.

    Parameters
    ----------
    problem : Problem
        Its forward model holds the current positions.
    mode : str
        ``on``, ``off``, or ``auto``: only where the score test says that they are wrong.
    misread : callable, optional
        Why the scan must be read in another way, or an empty string: positions that are free can hide it. Told whether
        nothing else has worked.
    first : sequence of (P, N, N) complex tensors
        Initial probes for a start from a flat object, and for parts that are reconstructed alone.
    """

    def __init__(
        self,
        problem: Problem,
        mode: str,
        misread: Callable[[bool], str] | None = None,
        first: Sequence[Tensor] = (),
    ) -> None:
        self.problem, self._test = problem, PositionTest(problem, mode, misread)
        self._first, self._parts = first, MOST_SEEDS if mode == "on" else FEW_SEEDS
        self._most = np.inf if mode == "on" else POOR_FIT
        self._rounds, self._fit, self._on_trial, self._lost = 0, np.inf, False, False
        self._automatic, self._grown = mode == "auto", False
        self._recorded: tuple[Placed, float] | None = None
        self._excess = 0.0

    @property
    def refined(self) -> bool:
        """Whether the current positions are refined ones."""
        return self._rounds > 0

    @property
    def open(self) -> bool:
        """Whether they may still be refined."""
        return self._test.mode != "off"

    def are_wrong(
        self, image: Tensor, probe: Tensor, report: dict[str, float], epochs: int, settled: bool, soon: bool = False
    ) -> bool:
        """Whether positions are to be refined now, after ``epochs`` epochs of maximum likelihood."""
        return self._test.wrong(image, probe, report, epochs, settled, soon)

    def are_lost(self, report: dict[str, float], held_out: Sequence[float], fits: Sequence[float]) -> bool:
        """Whether positions that are wrong by far may be why nothing fits, once the last stage, with these fits in its
        epochs, goes on no further: with ``auto``, asked once.
        """
        hopeless = stagnated(report) and not report["held_out_fit"] < POOR_FIT
        if not (hopeless and self._automatic and self._first) or self._lost or self._grown or self._rounds:
            return False
        if not stalled(held_out, fits, self.problem.held.numel()):
            return False
        self._lost = True
        if self._test.misread(lost=True):
            return False
        log.info("positions: no reading fits; searching them from a flat object, and from a small part of the scan")
        return True

    def search_all(self, image: Tensor, probe: Tensor, held_out_fit: float) -> Next:
        """Keep the recorded positions and what was reached with them, and enter the first search for others."""
        here = self._keep(image, probe, held_out_fit)
        self._fit, self._rounds = held_out_fit, AFRESH
        self._most, self._test.mode = max(self._most, PROVEN * held_out_fit), "off"
        return "distortions", place(self.problem, here), here.probe

    def begin(self, image: Tensor, probe: Tensor, held_out_fit: float) -> Next:
        """Keep the recorded positions and what was reached with them, and enter the first round."""
        return self._round(self._keep(image, probe, held_out_fit))

    def _keep(self, image: Tensor, probe: Tensor, held_out_fit: float) -> Placed:
        """Keep what was reached with the recorded positions."""
        here = Placed.of(self.problem, image.clone(), probe.clone())
        self._recorded = here, held_out_fit
        self._excess = max(misfit_at(self.problem, image, probe, held_out_fit) - 1, LEAST_EXCESS)
        return here

    @staticmethod
    def round_is_done(fits: Sequence[float]) -> bool:
        """Whether a round of joint refinement with these held-out fits, one for each epoch, may end."""
        done = len(fits)
        slow = done > ROUND_RECENT and fits[-1] - 1 > ROUND_SLOW * (fits[-1 - ROUND_RECENT] - 1)
        return slow or done >= POSITIONS_EPOCHS

    def next_round(self, image: Tensor, probe: Tensor, held_out_fit: float) -> Next:
        """What follows a round, or the distortions."""
        here = Placed.of(self.problem, image.clone(), probe.clone())
        done, gain = self._rounds % COUNTED, self._fit - held_out_fit
        failed = self._rounds in (AFRESH, GROWN) and not held_out_fit < FOUND_GAIN * self._fit
        if failed and self._lost and self._rounds == GROWN and not self._found_some(held_out_fit):
            return self._decide(here, held_out_fit)
        gained = gain > ROUND_GAIN * max(self._fit - 1, LEAST_EXCESS)
        self._fit = held_out_fit
        if not failed and (done < LEAST_ROUNDS or (done < MOST_ROUNDS and gained)):
            return self._round(here)
        if (search := self._next_search(here, held_out_fit)) is None:
            return self._decide(here, held_out_fit)
        self._rounds, self._grown = search, self._grown or search == GROWN
        return "distortions", place(self.problem, here), here.probe

    def _next_search(self, here: Placed, held_out_fit: float) -> int | None:
        """What is searched next: the number of its rounds; None where nothing is left to try."""
        assert self._recorded is not None
        stuck, recorded = not held_out_fit < POOR_FIT, self._recorded[0]
        if self._rounds < AFRESH and stuck and self._first:
            return AFRESH
        if self._rounds < GROWN and stuck and self._first and len(self.problem) >= LEAST_PATTERNS:
            return GROWN
        if self._rounds < STRAYED and not stuck and len(strays(self.problem, here, recorded.positions)):
            return STRAYED
        if self._rounds < SEARCHED and self._may_be_distorted(here, held_out_fit):
            return SEARCHED
        if self._rounds < COMPLETED and self._falls_short(here, held_out_fit, moves_slowly):
            return COMPLETED
        if self._rounds < AROUND and self._hides_linear(here, held_out_fit):
            return AROUND
        # Where the fit is good, small moves are seldom worth the minutes that cycles take.
        least = SLOW_MOVE if self._automatic and held_out_fit < DISTORTED_FIT else SMALL_MOVE
        if self._rounds < CYCLED and self._falls_short(here, held_out_fit, partial(holds_slow, least=least)):
            return CYCLED
        if self._rounds < LINEAR and self._falls_short(here, held_out_fit, moves_linearly):
            return LINEAR
        return None

    def _found_some(self, held_out_fit: float) -> bool:
        """Whether the searches until now have lowered the held-out fit."""
        assert self._recorded is not None
        return held_out_fit < FOUND_GAIN * self._recorded[1]

    def _may_be_distorted(self, here: Placed, held_out_fit: float) -> bool:
        """Whether slow distortions may be why the fit is still poor."""
        assert self._recorded is not None
        slowly = held_out_fit >= DISTORTED_FIT and moves_slowly(self._recorded[0].positions, here.positions)
        return slowly or self._test.distorted or not held_out_fit < CERTAIN_FIT

    def _hides_linear(self, here: Placed, held_out_fit: float) -> bool:
        """Whether a wrong scale or rotation may be why something is left unexplained."""
        moved = self._falls_short(here, held_out_fit, partial(moves_linearly, least=LEAST_HIDDEN))
        return moved and misfit_at(self.problem, here.image, here.probe, held_out_fit) > UNEXPLAINED

    def _falls_short(self, here: Placed, held_out_fit: float, test: Callable[[Positions, Positions], bool]) -> bool:
        """Whether the refinement succeeds, and a test of recorded and refined positions says what it leaves."""
        assert self._recorded is not None
        recorded, before = self._recorded
        succeeds = self._lowers(before, held_out_fit) and held_out_fit < self._most
        return succeeds and test(recorded.positions, here.positions)

    def search(self, image: Tensor, probe: Tensor, pie: PieSettings, likelihood: LikelihoodSettings) -> Engine:
        """The engine of the stage of the distortions."""
        assert self._recorded is not None
        recorded = self._recorded[0]
        if self._rounds == AFRESH:
            return Afresh(self.problem, image, probe, self._fit, self._first, recorded, pie, likelihood)
        if self._rounds == STRAYED:
            return StraySearch(self.problem, image, probe, pie, likelihood, recorded.positions)
        if self._rounds == SEARCHED:
            if self._test.distorted:
                return LineSearch(self.problem, image, probe, pie, likelihood, recorded)
            return DistortionSearch(self.problem, image, probe, pie)
        if self._rounds == GROWN:
            method = Method(pie, likelihood)
            return Growth(self.problem, image, probe, self._first, recorded.positions, method, self._parts)
        if self._rounds == AROUND:
            return AroundSearch(self.problem, image, probe, pie, likelihood)
        if self._rounds == CYCLED:
            return SlowCycles(self.problem, image, probe, pie, likelihood, recorded.positions)
        if self._rounds == LINEAR:
            return WithoutLinear(self.problem, image, probe, likelihood, recorded.positions)
        return SlowSearch(self.problem, image, probe, pie, likelihood, recorded.positions)

    def _lowers(self, before: float, after: float) -> bool:
        """Whether refinement lowers the held-out fit clearly."""
        return before - after > POSITIONS_GAIN * self._excess

    def _round(self, here: Placed) -> Next:
        if self._rounds % COUNTED:
            here = replace(here, positions=escaped(self.problem, here.image, here.probe))
        self._rounds += 1
        return "positions", place(self.problem, here), here.probe

    def _decide(self, here: Placed, after: float) -> Next:
        """The last stage, at the refined positions or at the recorded ones."""
        assert self._recorded is not None
        recorded, before = self._recorded
        moves = here.positions - recorded.positions
        shift, rms = moves.mean(0), float(moves.std(0).max())
        if self._automatic and rms < LEAST_MOVE and after < before and not self.problem.forward.propagator.fixed:
            log.info("positions: as recorded, refined ones differ by %.2g px rms only", rms)
            # What all positions move by is the same as a move of the probe, which far-field counts do not show.
            probe = shift_probe(here.probe, torch.from_numpy(shift)[None].to(here.probe.device))[0]
            self._rounds, here = 0, replace(here, positions=recorded.positions, probe=probe)
        elif self._lowers(before, after) and after < self._most:
            log.info("positions: refined, held-out fit %.3g before, %.3g after", before, after)
        elif not self._on_trial and after - 1 < PROMISING * (before - 1):
            log.info("positions: refined on trial, held-out fit %.3g before, %.3g after", before, after)
            self._on_trial = True
            return "likelihood", place(self.problem, here), here.probe
        else:
            log.info("positions: as recorded, held-out fit %.3g; refinement reached %.3g", before, after)
            self._rounds, here = 0, recorded
        self._recorded, self._on_trial = None, False
        return "likelihood", place(self.problem, here), here.probe

    def fail(self, held_out_fit: float, epochs: int, settled: bool) -> Next | None:
        """The last stage at the recorded positions, where refined ones on trial fail; None where they do not, or it is
        too early.
        """
        if not self._on_trial or not (epochs >= POSITIONS_TEST or settled):
            return None
        assert self._recorded is not None
        self._on_trial, (recorded, before) = False, self._recorded
        self._recorded = None
        if held_out_fit < self._most:
            log.info("positions: refined, held-out fit %.3g before, %.3g now", before, held_out_fit)
            return None
        log.info("positions: as recorded, held-out fit %.3g; with refined ones %.3g", before, held_out_fit)
        self._rounds = 0
        return "likelihood", place(self.problem, recorded), recorded.probe

    def whereabouts(self) -> tuple[Tensor, Tensor]:
        """Positions (M, 2), and the coordinate (2,) of the canvas's first pixel."""
        forward = self.problem.forward
        return torch.from_numpy(forward.positions), torch.tensor(forward.origin)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        positions, origin = self.whereabouts()
        mine = {"positions": positions, "origin": origin}
        flags = self._on_trial, self._lost, self._grown
        mine["rounds"] = torch.tensor([self._rounds, *flags])
        mine["round_fit"] = torch.tensor([self._fit, self._most, self._excess], dtype=torch.float64)
        if self._recorded is not None:
            placed, fit = self._recorded
            mine["recorded_image"], mine["recorded_probe"] = placed.image, placed.probe
            mine["recorded_positions"] = torch.from_numpy(placed.positions)
            mine["recorded_origin"] = torch.tensor(placed.origin)
            mine["recorded_fit"] = torch.tensor(fit, dtype=torch.float64)
        return mine | self._test.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`; its object, ``state["image"]``, gives the canvas."""
        self._test.restore(state)
        self._rounds = int(state["rounds"][0])
        self._fit, self._most, *excess = state["round_fit"].tolist()
        self._excess = excess[0] if excess else LEAST_EXCESS  # States of earlier versions have none.
        self._on_trial, self._lost, self._grown = (bool(each) for each in state["rounds"][1:])
        self._recorded = None
        if "recorded_image" in state:
            positions = state["recorded_positions"].cpu().numpy()
            placed = Placed(
                state["recorded_image"], state["recorded_probe"], positions, _pair(state["recorded_origin"])
            )
            self._recorded = placed, float(state["recorded_fit"])
        if self._rounds:
            shape = (int(state["image"].shape[0]), int(state["image"].shape[1]))
            self.problem.forward.move(state["positions"].cpu().numpy(), _pair(state["origin"]), shape)


def misfit_at(problem: Problem, image: Tensor, probe: Tensor, held_out_fit: float) -> float:
    """Geometric mean of the fit over the fitted pixels and that on held-out ones; see :data:`POSITIONS_GAIN`."""
    return math.sqrt(full_fit(problem, image, probe, sweep_batch(problem))["fit"] * held_out_fit)


def _pair(values: Tensor) -> tuple[int, int]:
    return int(values[0]), int(values[1])
