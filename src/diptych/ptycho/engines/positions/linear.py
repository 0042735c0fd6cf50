"""Scale, rotation and shear of refined positions, which the data must prove.

A stage is calibrated better than it is placed from point to point: where refined positions are stretched or turned
against the recorded ones, the same is tried without. On a measured star whose positions were made wrong by 1 px at
random, refinement turned them by 0.01 rad and stretched them by 0.6 %, 1.7 px rms in all; the held-out fit was 1.338
then, and 1.346 without that.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit, level
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.positions.afresh import refined
from diptych.ptycho.engines.positions.distortion import PositionSearch, displaced
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch

log = logging.getLogger("diptych")

LEAST_LINEAR = 0.4
"""Scale, rotation and shear, pixels rms, below which nothing is tried. A measured star with no error added: 0.26."""

ROUND, MOST_ROUNDS = 15, 3
"""Epochs of a round of joint refinement, and rounds, from positions without them."""

TOLERANCE, HOPELESS = 0.1, 1.0
"""Without them the held-out fit may be worse by the first share of the misfit's excess over 1; where it is worse by the
second one, no other round follows. The misfit is the geometric mean of the fits on fitted and on held-out pixels, which
differ where many unknowns are fitted to few patterns."""

BACK = 0.4
"""Share of the way back to the start that a round may go: positions that return there by themselves were right. Random
errors of 6 px (``natural``, N = 128, 100 patterns) hold some scale, rotation and shear by chance; taken back, one round
goes 75 % of the way again, at nearly the same fit."""

LEAST_EXCESS = 0.01
"""Excess of the misfit of which shares are taken at least."""


def linear_part(moves: Positions, positions: Positions) -> Positions:
    """The part (M, 2) of moves (M, 2) that is linear in positions (M, 2): scale, rotation and shear, no shift."""
    there, went = positions - positions.mean(0), moves - moves.mean(0)
    found: Positions = there @ np.linalg.lstsq(there, went, rcond=None)[0]
    return found


def moves_linearly(recorded: Positions, refined: Positions, least: float = LEAST_LINEAR) -> bool:
    """Whether refined positions (M, 2) are stretched, turned or sheared against recorded ones by more than ``least``
    pixels rms.
    """
    part = linear_part(refined - recorded, recorded)
    return bool(np.sqrt((part**2).sum(1).mean()) > least)


class WithoutLinear(PositionSearch):
    """Takes scale, rotation and shear back; an engine whose epoch is a round of joint refinement from there.

    Its state stays the start's until a round fits about as well.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    likelihood : LikelihoodSettings
        Of the rounds.
    recorded : (M, 2) array
        The positions before any refinement.
    """

    def __init__(
        self, problem: Problem, image: Tensor, probe: Tensor, likelihood: LikelihoodSettings, recorded: Positions
    ) -> None:
        self.problem, self._likelihood = problem, likelihood
        self._best = Placed.of(problem, image, probe)
        self._recorded, self._part = recorded, linear_part(self._best.positions - recorded, recorded)
        self._trial = displaced(problem, self._best, -self._part)
        place(problem, self._best)
        self._levels: list[float] = []
        """Held-out fits of the start, and after each round."""
        self._excess = LEAST_EXCESS

    @property
    def most_epochs(self) -> int:
        """Rounds made, and one more where it goes on."""
        done = len(self._levels) - 1
        if done < 1:
            return 1
        open_still = TOLERANCE < self._worse / self._excess < HOPELESS and self._back < BACK
        return done + (done < MOST_ROUNDS and open_still)

    @property
    def _back(self) -> float:
        """Share of the way back to the start that the trial has gone."""
        now = linear_part(self._trial.positions - self._recorded, self._recorded)
        return float((now * self._part).sum() / np.square(self._part).sum())

    @property
    def _worse(self) -> float:
        """What the last round is worse by than the start."""
        return self._levels[-1] - self._levels[0]

    def epoch(self) -> dict[str, float]:
        """One round."""
        if not self._levels:
            found = full_fit(self.problem, self.image, self.probe, sweep_batch(self.problem))
            self._levels.append(level(found))
            self._excess = max(float(np.sqrt(found["fit"] * level(found))) - 1, LEAST_EXCESS)
        here = refined(self.problem, self._trial, self._likelihood, ROUND)
        self._trial = Placed.of(self.problem, place(self.problem, here), here.probe)
        self._levels.append(level(full_fit(self.problem, self._trial.image, here.probe, sweep_batch(self.problem))))
        text = (
            "positions: held-out fit %.4g with scale, rotation and shear as recorded, %.4g with those found; %.0f %% of"
        )
        log.info(text + " the way back", self._levels[-1], self._levels[0], 100 * self._back)
        if self._worse <= TOLERANCE * self._excess and self._back < BACK:
            self._best = self._trial
        return self._report(self.problem)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        trial = self._trial
        return {
            "image": self.image,
            "probe": self.probe,
            "linear_levels": torch.tensor([self._excess, *self._levels], dtype=torch.float64),
            "linear_image": trial.image,
            "linear_probe": trial.probe,
            "linear_positions": torch.from_numpy(trial.positions),
            "linear_origin": torch.tensor(trial.origin),
            "linear_part": torch.from_numpy(self._part),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._excess, *self._levels = state["linear_levels"].tolist()
        y, x = (int(value) for value in state["linear_origin"])
        positions, self._part = (state[f"linear_{name}"].cpu().numpy() for name in ("positions", "part"))
        self._trial = Placed(state["linear_image"], state["linear_probe"], positions, (y, x))
