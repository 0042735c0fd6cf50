"""When a factor for each frame's intensity is tried in a run, and whether it is kept."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from diptych.ptycho.engines.checkpoint import Guess, guess_of, guess_state
from diptych.ptycho.engines.fit_monitor import LEAST_EXCESS, factors_needed, photons_of_total
from diptych.ptycho.engines.problem import Problem

log = logging.getLogger("diptych")

GAIN = 0.2
"""Factors are kept where the held-out fit's excess over 1 falls by this share: longer PIE alone brings a few %."""

TESTS = 3
"""How often factors may be tried: after PIE, after modes were added, after positions were refined."""


class FactorTrial:
    """State of the trials of factors of the frames, between the stages of the automatic engine.

    Parameters
    ----------
    problem : Problem
        Its forward model holds the factors, and whether they are fitted.
    allowed : bool
        Whether they may be tried.

    Attributes
    ----------
    constant : Guess or None
        What was reached with a constant beam, while factors are on trial.
    """

    def __init__(self, problem: Problem, allowed: bool) -> None:
        self._problem, self._factors = problem, problem.forward.factors
        self._left = TESTS if allowed and self._factors is not None else 0
        self.constant: Guess | None = None

    @property
    def untried(self) -> bool:
        """Whether they may be tried, and never were."""
        return self._left == TESTS

    @property
    def late(self) -> bool:
        """Whether the last trial was made after modes were added, or positions refined."""
        return self._left < TESTS - 1

    def again(self) -> bool:
        """Whether they may be tried once more, after modes were added or positions refined."""
        self._left = min(self._left, TESTS - 1)
        return self._left > 0

    def begin(self, image: Tensor, probe: Tensor, fit: float) -> bool:
        """Whether a trial begins; then factors are switched on. What is missing can hide a beam that varies.

        Parameters
        ----------
        image, probe : (H, W) and (P, N, N) complex tensors
            What was reached without factors.
        fit : float
            Its held-out fit.
        """
        self._left -= 1
        if not factors_needed(self._problem, image, probe, GAIN * (fit - 1) if self.late else 0.0):
            return False
        self.constant = image, probe.clone(), fit
        self._switch(True, on_trial=True)
        return True

    def end(self, fit: float) -> Guess | None:
        """What to go back to after a trial that ended at this held-out fit, or None where factors are kept."""
        assert self.constant is not None
        assert self._factors is not None
        constant, self.constant = self.constant, None
        before = constant[2]
        if not before - fit > GAIN * max(before - 1, LEAST_EXCESS):
            self._switch(False)
            return constant
        log.info("a factor for each frame: held-out fit %.3g before, %.3g after", before, fit)
        self._switch(True)
        self._left, self._factors.fit_before = 0, before
        return None

    def give_up(self) -> None:
        """Switch factors off that were kept while positions were wrong, or modes missing, and vary no longer."""
        if self._factors is not None and self._factors.given_up(photons_of_total(self._problem)):
            log.info("the factors of the frames vary no longer: they are left out")

    def _switch(self, fitted: bool, on_trial: bool = False) -> None:
        assert self._factors is not None
        self._factors.fitted, self._factors.on_trial = fitted, on_trial

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        if self._factors is None:
            return {}
        values = [self._factors.fitted, self._factors.fit_before, self._left]
        return {"factors": torch.tensor(values, dtype=torch.float64), **guess_state("constant", self.constant)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        if self._factors is None:
            return
        self.constant = guess_of(state, "constant")
        self._switch(bool(state["factors"][0]), on_trial=self.constant is not None)
        self._factors.fit_before, self._left = float(state["factors"][1]), int(state["factors"][2])
