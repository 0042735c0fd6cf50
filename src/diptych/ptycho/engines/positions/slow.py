"""What refined positions are still short of along slow distortions, by rebuilding the object.

Where object and positions are stretched together, the object holds the positions, and parts of the scan that have
slipped by a pixel against each other hold them too: between the refined state and the true one the likelihood has a
barrier. Two ways around it:

A *cycle* keeps only the slow part of the moves, builds a new object from a flat one with the refined probe, and refines
object, probe and positions together. The slips are gone with the old object, and the moves go on from where they were.
``blocks``, N = 64, 225 patterns, 1e6 photons, 2 % and 3 degrees: 0.41 px rms after joint refinement, 0.24, 0.029 and
0.015 px after one, two and three cycles; kept along scale, rotation and shear alone, without the drift terms, it stays
at 0.41 px.

Where the fit is still poor, a *trial* displaces the positions along one distortion to either side, and rebuilds and
refines as a cycle does: positions held fixed are no guide, since distortions depend on each other (a stretch of one
axis is scale and aspect). N = 32, 1e6 photons, 0.3 px off: a step of 0.2 px towards the truth ends at a fit of 1.34,
none at 1.51, one away from it at 1.74.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.distortion import PositionSearch, orthogonal
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch

CYCLE, TRIAL = (15, 15), (10,)
"""Epochs of each round of joint refinement, of a cycle and of a trial."""

LEAST_CYCLES, MOST_CYCLES = 2, 8
"""Cycles."""

LEAST_GAIN = 0.005
"""Share by which a cycle must lower the fit of the one before, and a trial that of the best one. The cycles end where
one does not; distortions along which a trial does are tried again."""

GOOD_FIT = 1.3
"""Fit below which no trials follow the cycles."""

SIZE = 0.3
"""Displacement of a trial along a distortion, pixels rms."""

FURTHER = 0.1
"""Displacement along the refinement's own direction, as a share of the way it went."""

MOST_TRIES = 4
"""Steps along one distortion at most."""

DRIFT_TERMS = 2
"""Cosine terms of a drift in the order of the frames, for each axis."""

SLOW_MOVE = 0.5
"""Slow part of the moves, pixels rms, below which nothing is searched: what a refinement leaves, up to 15 % of the
way, is then small. 1.9 px where the scan is stretched by 2 % and turned by 3 degrees (N = 64); 0.37 px on a measured
star, where the search takes minutes and finds nothing."""

SLOW_SHARE = 1.5
"""The slow part must exceed this many times what independent moves of the same size have of it by chance."""


def slow_modes(positions: Positions) -> list[Positions]:
    """Displacements (M, 2) of unit rms, orthogonal to each other and to common shifts: scale, rotation, aspect, shear,
    and a drift in the order of the frames as a few cosines.
    """
    y, x = (positions - positions.mean(0)).T
    zero = np.zeros(len(positions))
    frame = (np.arange(len(positions)) + 0.5) / max(len(positions), 1)
    raw = [(y, x), (-x, y), (y, -x), (x, y)]
    for order in range(1, DRIFT_TERMS + 1):
        wave = np.cos(np.pi * order * frame)
        raw += [(wave, zero), (zero, wave)]
    return orthogonal(raw)


def slow_part(moves: Positions, positions: Positions) -> Positions:
    """The part (M, 2) of moves (M, 2) that slow distortions of the positions span, common shift left out."""
    parts = [mode * (mode * moves).sum() / (mode * mode).sum() for mode in slow_modes(positions)]
    return np.sum(parts, 0) if parts else np.zeros_like(moves)


def moves_slowly(recorded: Positions, refined: Positions, least: float = SLOW_MOVE) -> bool:
    """Whether refined positions (M, 2) differ from the recorded ones by more slow distortion than chance gives, and by
    more than ``least`` pixels rms.
    """
    moves = refined - recorded
    moves = moves - moves.mean(0)
    slow, whole = (float(np.sqrt((each**2).sum(1).mean())) for each in (slow_part(moves, recorded), moves))
    chance = whole * np.sqrt(len(slow_modes(recorded)) / (2 * len(moves)))
    return bool(slow > max(least, SLOW_SHARE * chance))


class SlowSearch(PositionSearch):
    """Completes a refinement along slow distortions; an engine whose epoch is one cycle, or a trial to both sides.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions. It is kept unless a cycle ends at a better fit, or trials follow.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the rebuilt objects.
    recorded : (M, 2) array
        The positions before any refinement.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        pie: PieSettings,
        likelihood: LikelihoodSettings,
        recorded: Positions,
    ) -> None:
        self.problem, self._pie, self._likelihood, self._recorded = problem, pie, likelihood, recorded
        self._best = self._last = Placed.of(problem, image, probe)
        self._fits: list[float] = []
        """Of the start, and of each cycle, over all pixels."""
        self._steps: list[Positions] = []
        self._queue: list[int] = []
        self._next, self._middle = 0, float("inf")

    @property
    def _cycles(self) -> int:
        return max(len(self._fits) - 1, 0)

    @property
    def _cycling(self) -> bool:
        """Whether another cycle follows."""
        fits = self._fits
        gained = self._cycles < LEAST_CYCLES or fits[-1] < (1 - LEAST_GAIN) * fits[-2]
        return not self._queue and gained and self._cycles < MOST_CYCLES

    @property
    def most_epochs(self) -> int:
        """Cycles and trials made, and one more where it goes on."""
        trials = self._next < len(self._queue) or (not self._queue and not min(self._fits, default=0.0) < GOOD_FIT)
        return self._cycles + self._next + (self._cycling or trials)

    def epoch(self) -> dict[str, float]:
        """One cycle, or trials to both sides along one distortion; the best state stays."""
        if not self._fits:
            self._fits.append(self._fit_of(self._best.image, self._best.probe))
        if self._cycling:
            self._cycle()
        else:
            self._try()
        return self._report(self.problem)

    def _cycle(self) -> None:
        moves = self._last.positions - self._recorded
        start = replace(self._last, positions=self._recorded + slow_part(moves - moves.mean(0), self._recorded))
        self._last, fit = self._rebuilt(start, CYCLE)
        if fit < min(self._fits):
            self._best = self._last
        self._fits.append(fit)

    def _try(self) -> None:
        if not self._queue:
            way = FURTHER * slow_part(self._best.positions - self._recorded, self._recorded)
            self._steps = ([way] if np.any(way) else []) + [SIZE * mode for mode in slow_modes(self._recorded)]
            self._queue = list(range(len(self._steps)))
            # All trials start from this probe; the object gives way to rebuilt ones.
            self._last = self._best
            self._best, self._middle = self._rebuilt(self._last, TRIAL)
        step = self._queue[self._next]
        self._next += 1
        middle = self._best.positions
        starts = [replace(self._last, positions=middle + sign * self._steps[step]) for sign in (1, -1)]
        best, fit = min((self._rebuilt(start, TRIAL) for start in starts), key=lambda trial: trial[1])
        if fit < (1 - LEAST_GAIN) * self._middle:
            self._best, self._middle = best, fit
            if self._queue.count(step) < MOST_TRIES:
                self._queue.append(step)

    def _rebuilt(self, start: Placed, rounds: tuple[int, ...]) -> tuple[Placed, float]:
        """A new object, refined with probe and positions from those of a start, and its fit."""
        place(self.problem, start)
        here = rebuilt(self.problem, start.probe, self._pie)
        for epochs in rounds:
            here = refined(self.problem, here, self._likelihood, epochs)
        here = Placed.of(self.problem, place(self.problem, here), here.probe)
        return here, self._fit_of(here.image, here.probe)

    def _fit_of(self, image: Tensor, probe: Tensor) -> float:
        fit = full_fit(self.problem, image, probe, sweep_batch(self.problem))["fit"]
        return fit if np.isfinite(fit) else float("inf")

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return {
            "image": self.image,
            "probe": self.probe,
            "slow_fits": torch.tensor(self._fits, dtype=torch.float64),
            "slow_image": self._last.image,
            "slow_probe": self._last.probe,
            "slow_positions": torch.from_numpy(self._last.positions),
            "slow_origin": torch.tensor(self._last.origin),
            "slow_steps": torch.from_numpy(np.array(self._steps).reshape(-1, *self._recorded.shape)),
            "slow_queue": torch.tensor(self._queue, dtype=torch.int64),
            "slow_next": torch.tensor(self._next),
            "slow_middle": torch.tensor(self._middle, dtype=torch.float64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._fits, self._queue = state["slow_fits"].tolist(), state["slow_queue"].tolist()
        self._next, self._middle = int(state["slow_next"]), float(state["slow_middle"])
        self._steps = list(state["slow_steps"].cpu().numpy())
        y, x = (int(value) for value in state["slow_origin"])
        positions = state["slow_positions"].cpu().numpy()
        self._last = Placed(state["slow_image"], state["slow_probe"], positions, (y, x))
