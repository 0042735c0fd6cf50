"""Positions that are far off: object, probe and positions from a flat object, in rounds.

A reconstruction at positions that are wrong by several pixels ends in an object that holds these errors, and a probe
that hides them; joint refinement from there moves little. From a flat object, a few epochs of PIE and the probe that
was given, each round finds the object sharper and moves the positions further. ``natural``, N = 128, 100 patterns, 1e6
photons, 5.8 px rms: fits of 7.2, 6.5, 5.7, 5.2, 4.6, 3.9, 3.4, 2.4, 1.8, 1.4 after the rounds; 10.3 after two rounds
from the reconstruction at the recorded positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions.distortion import TRIAL_SEED, PositionSearch
from diptych.ptycho.engines.positions.escape import escaped
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.runtime.interrupts import stop_if_asked

GUESS, ROUND = 10, 15
"""Epochs of PIE from a flat object, and of joint refinement in each round."""

LEAST_ROUNDS, MOST_ROUNDS = 4, 16
"""Rounds."""

LEAST_GAIN = 0.05
"""Share by which a round must lower the held-out fit's excess over 1; the rounds end where one does not."""

GOOD_FIT = 1.5
"""Held-out fit below which no other initial probe is tried."""


def rebuilt(
    problem: Problem, probe: Tensor, settings: PieSettings, epochs: int = GUESS, seed: int = TRIAL_SEED
) -> Placed:
    """A new object at the problem's positions, by PIE from a flat one, and what became of a probe (P, N, N)."""
    pie = Pie(problem, problem.flat_object(), probe.clone(), settings, np.random.default_rng(seed))
    for _ in range(epochs):
        stop_if_asked()
        pie.epoch()
    return Placed.of(problem, pie.image.clone(), pie.probe.clone())


def refined(problem: Problem, start: Placed, settings: LikelihoodSettings, epochs: int) -> Placed:
    """Object, probe and positions after some epochs of joint refinement."""
    image = place(problem, start)
    engine = MaximumLikelihood(problem, image, start.probe, replace(settings, refine_positions=True))
    for _ in range(epochs):
        stop_if_asked()
        engine.epoch()
    return Placed.of(problem, engine.image.clone(), engine.probe.clone())


class JointRounds:
    """Rounds of joint refinement, between which patterns that fit far worse than most are tried elsewhere.

    Parameters
    ----------
    problem : Problem
        What to solve; its positions move.
    placed : Placed
        Object, probe and positions to start from.
    likelihood : LikelihoodSettings
        Of the rounds; positions are refined in any case.
    fits : list of float
        Held-out fits of earlier rounds.
    """

    def __init__(
        self, problem: Problem, placed: Placed, likelihood: LikelihoodSettings, fits: Sequence[float] = ()
    ) -> None:
        self.problem, self.placed, self.fits = problem, placed, list(fits)
        self._likelihood = likelihood

    @classmethod
    def from_flat(
        cls, problem: Problem, probe: Tensor, pie: PieSettings, likelihood: LikelihoodSettings
    ) -> JointRounds:
        """From a few epochs of PIE at the problem's positions, from a flat object and a probe (P, N, N)."""
        return cls(problem, rebuilt(problem, probe, pie), likelihood)

    @property
    def fit(self) -> float:
        """Held-out fit of the last round; infinite before the first one, or where it diverged."""
        return self.fits[-1] if self.fits else float("inf")

    @property
    def goes_on(self) -> bool:
        """Whether another round is worth its time."""
        done, fits = len(self.fits), self.fits
        gains = done < 2 or fits[-1] - 1 < (1 - LEAST_GAIN) * (fits[-2] - 1)
        return done < LEAST_ROUNDS or (done < MOST_ROUNDS and gains)

    def advance(self) -> None:
        """One round."""
        here = refined(self.problem, self.placed, self._likelihood, ROUND)
        here = replace(here, positions=escaped(self.problem, here.image, here.probe))
        self.placed = Placed.of(self.problem, place(self.problem, here), here.probe)
        found = full_fit(self.problem, self.placed.image, here.probe, sweep_batch(self.problem))["held_out_fit"]
        self.fits.append(float(found) if np.isfinite(found) else float("inf"))


class Afresh(PositionSearch):
    """Starts again from the recorded positions, a flat object and an initial probe; an engine whose epoch is one round.

    Its state is the start until a round fits better.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    fit : float
        Its held-out fit.
    first : sequence of (P, N, N) complex tensors
        Initial probes, tried in turn until one leads to a good fit.
    recorded : Placed
        The positions before any refinement, and their canvas.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the rounds.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        fit: float,
        first: Sequence[Tensor],
        recorded: Placed,
        pie: PieSettings,
        likelihood: LikelihoodSettings,
    ) -> None:
        self._pie, self._likelihood = pie, likelihood
        self.problem, self._first, self._recorded = problem, first, recorded
        self._best, self._fit = Placed.of(problem, image, probe), fit
        self._tried, self._epochs = 0, 0
        self._rounds: JointRounds | None = None

    @property
    def most_epochs(self) -> int:
        """One more than were run, as long as it goes on."""
        going = self._rounds is None or self._rounds.goes_on
        return self._epochs + (going or (self._tried < len(self._first) and self._fit > GOOD_FIT))

    def epoch(self) -> dict[str, float]:
        """One round."""
        self._epochs += 1
        if self._rounds is None or not self._rounds.goes_on:
            place(self.problem, self._recorded)
            self._rounds = JointRounds.from_flat(self.problem, self._first[self._tried], self._pie, self._likelihood)
            self._tried += 1
        self._rounds.advance()
        if self._rounds.fit < self._fit:
            self._best, self._fit = self._rounds.placed, self._rounds.fit
        return self._report(self.problem)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        mine = {
            "image": self.image,
            "probe": self.probe,
            "afresh": torch.tensor([self._tried, self._epochs]),
            "afresh_fit": torch.tensor(self._fit, dtype=torch.float64),
        }
        if self._rounds is not None:
            there = self._rounds.placed
            mine["afresh_fits"] = torch.tensor(self._rounds.fits, dtype=torch.float64)
            mine["afresh_image"], mine["afresh_probe"] = there.image, there.probe
            mine["afresh_positions"] = torch.from_numpy(there.positions)
            mine["afresh_origin"] = torch.tensor(there.origin)
        return mine

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._tried, self._epochs = (int(value) for value in state["afresh"])
        self._fit = float(state["afresh_fit"])
        if "afresh_fits" in state:
            y, x = (int(value) for value in state["afresh_origin"])
            positions: Positions = state["afresh_positions"].cpu().numpy()
            there = Placed(state["afresh_image"], state["afresh_probe"], positions, (y, x))
            self._rounds = JointRounds(self.problem, there, self._likelihood, state["afresh_fits"].tolist())
