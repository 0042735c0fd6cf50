"""The engine that the automatic choice takes: a stochastic start (PIE), then maximum likelihood on all patterns."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.iterative.likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.iterative.pie import Pie, PieSettings
from diptych.ptycho.iterative.problem import Problem

LEAST_START = 12
"""Epochs of PIE before its progress is judged."""

LONGEST_START = 40
"""Epochs of PIE at most."""

SLOW = 0.02
"""PIE has done its part when the held-out fit drops by less than this share in five epochs."""


class StagedLikelihood:
    """PIE while it gains quickly, then L-BFGS on the likelihood.

    Mini-batches find the basin from a poor start several times sooner than full-batch steps; they cannot settle in it, because each
    batch pulls towards its own noise. Parameters as for the two engines; their settings share likelihood and probe choices.
    """

    def __init__(
        self, problem: Problem, image: Tensor, probe: Tensor, first: PieSettings, then: LikelihoodSettings, rng: np.random.Generator
    ) -> None:
        self._problem, self._then = problem, then
        self._engine: Pie | MaximumLikelihood = Pie(problem, image, probe, first, rng)
        self._fits: list[float] = []

    @property
    def image(self) -> Tensor:
        """The object as it stands, (H, W)."""
        return self._engine.image

    @property
    def probe(self) -> Tensor:
        """The probe modes as they stand, (P, N, N)."""
        return self._engine.probe

    @property
    def settled(self) -> str:
        """Why nothing more is to be gained, or an empty string."""
        return self._engine.settled

    @property
    def judged_by_gain(self) -> bool:
        """Whether :attr:`settled` will tell when to stop."""
        return True

    def epoch(self) -> dict[str, float]:
        """One pass over the scan; ``stage`` 0 is the stochastic start, 1 maximum likelihood."""
        if isinstance(self._engine, MaximumLikelihood):
            return {**self._engine.epoch(), "stage": 1.0}
        report = {**self._engine.epoch(), "stage": 0.0}
        held = report["held_out_fit"]
        self._fits.append(held if math.isfinite(held) else report["fit"])
        done = len(self._fits)
        slow = done >= LEAST_START and self._fits[-1] > (1 - SLOW) * self._fits[-6]
        if slow or done >= LONGEST_START:
            self._engine = MaximumLikelihood(self._problem, self.image, self.probe, self._then)
        return report

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to go on exactly."""
        return {**self._engine.state(), "fits": torch.tensor(self._fits, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier :meth:`state`."""
        self._fits = state["fits"].tolist()
        if "updates" not in state:
            self._engine = MaximumLikelihood(self._problem, state["image"], state["probe"], self._then)
        self._engine.restore(state)
