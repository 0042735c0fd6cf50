"""What refined positions are still short of along slow distortions, by trials with rebuilt objects.

Where object and positions are stretched together, the object holds the positions: between the refined state and the
true one the likelihood has a barrier, and a trial that moves the object along only sees the barrier. A trial here
displaces the positions, builds a new object from a flat one with the refined probe, and refines object, probe and
positions together for some epochs: positions held fixed are no guide, since distortions depend on each other (a stretch
of one axis is scale and aspect). N = 32, 1e6 photons, 0.3 px off: a step of 0.2 px towards the truth ends at a fit of
1.34, none at 1.51, one away from it at 1.74.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions.distortion import TRIAL_SEED, PositionSearch, orthogonal
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.runtime.interrupts import stop_if_asked

REBUILDING, SETTLING = 10, 10
"""Epochs of PIE from a flat object, and of joint refinement, of each trial."""

SIZE = 0.3
"""Displacement of a trial along a distortion, pixels rms."""

FURTHER = 0.1
"""Displacement along the refinement's own direction, as a share of the way it went."""

LEAST_GAIN = 0.005
"""Share by which a step must lower the fit. Distortions along which one does are tried again."""

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


def moves_slowly(recorded: Positions, refined: Positions) -> bool:
    """Whether refined positions (M, 2) differ from the recorded ones by more slow distortion than chance gives."""
    moves = refined - recorded
    moves = moves - moves.mean(0)
    slow, whole = (float(np.sqrt((each**2).sum(1).mean())) for each in (slow_part(moves, recorded), moves))
    chance = whole * np.sqrt(len(slow_modes(recorded)) / (2 * len(moves)))
    return bool(slow > max(SLOW_MOVE, SLOW_SHARE * chance))


class SlowSearch(PositionSearch):
    """Completes a refinement along slow distortions; an engine whose epoch is one distortion, on both sides.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions. All trials start from this probe; the object gives way to rebuilt ones.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the trials.
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
        self.problem, self._pie, self._probe = problem, pie, probe.clone()
        self._likelihood = replace(likelihood, refine_positions=True)
        self._best, self._fit, self._next = Placed.of(problem, image, probe), float("inf"), 0
        way = slow_part(problem.forward.positions - recorded, recorded)
        self._modes = ([FURTHER * way] if np.any(way) else []) + [SIZE * mode for mode in slow_modes(recorded)]
        self._queue = list(range(len(self._modes)))

    @property
    def most_epochs(self) -> int:
        """Steps to try; one that lowers the fit adds another."""
        return len(self._queue)

    def epoch(self) -> dict[str, float]:
        """Trials on both sides along one distortion; the best one stays where it lowers the fit."""
        if not np.isfinite(self._fit):
            self._best, self._fit = self._rebuilt(self._best.positions)
        mode = self._queue[self._next]
        self._next += 1
        middle = self._best.positions
        sides = [self._rebuilt(middle + sign * self._modes[mode]) for sign in (1, -1)]
        best, fit = min(sides, key=lambda trial: trial[1])
        if fit < (1 - LEAST_GAIN) * self._fit:
            self._best, self._fit = best, fit
            if self._queue.count(mode) < MOST_TRIES:
                self._queue.append(mode)
        return self._report(self.problem)

    def _rebuilt(self, positions: Positions) -> tuple[Placed, float]:
        """A new object, with positions refined from some (M, 2), and its fit over all pixels."""
        problem = self.problem
        place(problem, Placed(self._best.image, self._probe, positions, self._best.origin))
        guess = Pie(problem, problem.flat_object(), self._probe.clone(), self._pie, np.random.default_rng(TRIAL_SEED))
        for _ in range(REBUILDING):
            stop_if_asked()
            guess.epoch()
        engine = MaximumLikelihood(problem, guess.image, guess.probe, self._likelihood)
        for _ in range(SETTLING):
            stop_if_asked()
            engine.epoch()
        fit = full_fit(problem, engine.image, engine.probe, sweep_batch(problem))["fit"]
        there = Placed.of(problem, engine.image.clone(), engine.probe.clone())
        return there, fit if np.isfinite(fit) else float("inf")

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return {
            "image": self.image,
            "probe": self.probe,
            "search_probe": self._probe,
            "search_next": torch.tensor(self._next),
            "search_fit": torch.tensor(self._fit, dtype=torch.float64),
            "search_queue": torch.tensor(self._queue),
            "search_modes": torch.from_numpy(np.stack(self._modes)),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._probe = state["search_probe"].clone()
        self._next, self._fit = int(state["search_next"]), float(state["search_fit"])
        self._queue = [int(mode) for mode in state["search_queue"]]
        self._modes = list(state["search_modes"].cpu().numpy())
