"""Distortions of the whole scan that object and probe hide: new objects, further and further along the score.

A defocused probe of another focus and an object that is stretched along hide a scan of the wrong scale but for a small
misfit. The gradient of the likelihood tells the way, not the distance; joint refinement hardly goes along it, because
the object must be stretched as a whole.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit, level
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.distortion import PositionSearch, distortions, orthogonal
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.positions.score import position_score
from diptych.ptycho.engines.problem import Problem, sweep_batch

log = logging.getLogger("diptych")

SIZES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How far, pixels rms."""

EPOCHS = 20
"""Epochs of joint refinement of each new object."""

APART, TRIAL_ROUNDS = 0.5, 3
"""Displacement of a new object along a linear distortion, pixels rms, and rounds of so many epochs for each."""

CLEARLY = 0.1
"""A new object goes before the start, too, where its held-out fit's excess over 1 is below that of one at no distance
by this share: the start had more epochs."""


def downhill(problem: Problem, start: Placed) -> Positions:
    """The Newton step of the likelihood along common distortions, as displacements (M, 2) of unit rms."""
    score = position_score(problem, place(problem, start), start.probe)
    basis = np.stack(distortions(start.positions), -1)
    gradient = np.einsum("mik,mi->k", basis, score.gradient)
    fisher = np.einsum("mik,mij,mjl->kl", basis, score.fisher, basis)
    step = -np.linalg.lstsq(fisher, gradient, rcond=None)[0]
    way: Positions = basis @ (step / max(float(np.linalg.norm(step)), 1e-300))
    return way


class LineSearch(PositionSearch):
    """Goes along the score of common distortions as long as the fit falls; an engine whose epoch is one distance.

    Its state stays the start's until a new object further on fits better than the one at no distance.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        What stays where the search finds nothing, at the problem's positions.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the new objects.
    recorded : Placed
        What was reached at the positions before any refinement; the way is that of its score.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        pie: PieSettings,
        likelihood: LikelihoodSettings,
        recorded: Placed,
    ) -> None:
        self.problem, self._pie, self._likelihood, self._recorded = problem, pie, likelihood, recorded
        self._best = Placed.of(problem, image, probe)
        self._way = downhill(problem, recorded)
        place(problem, self._best)
        self._levels: list[float] = []

    @property
    def most_epochs(self) -> int:
        """Distances tried, and one more where the last one fits better than the one before."""
        done, levels = len(self._levels), self._levels
        return done + (done < len(SIZES) and (done < 2 or levels[-1] < levels[-2]))

    def epoch(self) -> dict[str, float]:
        """A new object at one distance."""
        size, kept = SIZES[len(self._levels)], self._best
        recorded = self._recorded
        there = Placed(recorded.image, recorded.probe, recorded.positions + size * self._way, recorded.origin)
        place(self.problem, there)
        here = refined(self.problem, rebuilt(self.problem, recorded.probe, self._pie), self._likelihood, EPOCHS)
        found = level(full_fit(self.problem, place(self.problem, here), here.probe, sweep_batch(self.problem)))
        log.info("positions: held-out fit %.4g at %.2g px rms along the score of the whole scan", found, size)
        self._best = here if self._levels and found < min(self._levels) else kept
        self._levels.append(found)
        return self._report(self.problem)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        recorded = self._recorded
        return {
            "image": self.image,
            "probe": self.probe,
            "line_levels": torch.tensor(self._levels, dtype=torch.float64),
            "line_way": torch.from_numpy(self._way),
            "line_image": recorded.image,
            "line_probe": recorded.probe,
            "line_positions": torch.from_numpy(recorded.positions),
            "line_origin": torch.tensor(recorded.origin),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._levels, self._way = state["line_levels"].tolist(), state["line_way"].cpu().numpy()
        y, x = (int(value) for value in state["line_origin"])
        positions = state["line_positions"].cpu().numpy()
        self._recorded = Placed(state["line_image"], state["line_probe"], positions, (y, x))


class AroundSearch(PositionSearch):
    """New objects at positions that are stretched, turned or sheared either way; an engine whose epoch is one of them.

    Wrong scales and rotations have minima of the likelihood of their own, half a pixel rms and more from the right
    ones, around which positions return to them. ``blocks``, N = 64, 225 patterns, 1e6 photons, 2 % and 3 degrees: joint
    refinement ends at 1.2 % and a fit of 0.98; begun 0.5 px nearer to the right scale, it goes on to 0.4 % and 0.96,
    and cycles to 0.01 %. ``dead-leaves`` on a spiral, 1.5 % and -2 degrees: it ends 0.76 px off; of eight ways by 0.5
    px only a rotation leads to the truth.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        What stays where nothing around it fits better, at the problem's positions.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the new objects.
    """

    def __init__(
        self, problem: Problem, image: Tensor, probe: Tensor, pie: PieSettings, likelihood: LikelihoodSettings
    ) -> None:
        self.problem, self._pie, self._likelihood = problem, pie, likelihood
        self._best = self._start = Placed.of(problem, image, probe)
        self._levels: list[float] = []
        """Held-out fits of the start, of a new object there, and of each around it."""

    @property
    def _ways(self) -> list[Positions]:
        """Displacements (M, 2): none, and along each linear distortion either way."""
        y, x = (self._start.positions - self._start.positions.mean(0)).T
        modes = orthogonal([(y, x), (-x, y), (y, -x), (x, y)])
        return [np.zeros_like(self._start.positions), *(s * APART * mode for mode in modes for s in (-1, 1))]

    @property
    def most_epochs(self) -> int:
        """New objects."""
        return len(self._ways)

    def epoch(self) -> dict[str, float]:
        """One new object."""
        if not self._levels:
            start = full_fit(
                self.problem, place(self.problem, self._start), self._start.probe, sweep_batch(self.problem)
            )
            self._levels.append(level(start))
        way = self._ways[len(self._levels) - 1]
        place(self.problem, replace(self._start, positions=self._start.positions + way))
        here = rebuilt(self.problem, self._start.probe, self._pie)
        for _ in range(TRIAL_ROUNDS):
            here = refined(self.problem, here, self._likelihood, EPOCHS)
        found = level(full_fit(self.problem, place(self.problem, here), here.probe, sweep_batch(self.problem)))
        log.info(
            "positions: held-out fit %.4g of new object %d, %.4g before", found, len(self._levels), self._levels[0]
        )
        if found < self._least():
            self._best = here
        self._levels.append(found)
        return self._report(self.problem)

    def _least(self) -> float:
        """Held-out fit below which a new object is the best so far."""
        start, *new = self._levels
        if not new or new[0] < start:
            return min(self._levels)
        clearly = new[0] - CLEARLY * (new[0] - 1)
        return min(max(start, clearly), *new[1:], np.inf)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        start = self._start
        return {
            "image": self.image,
            "probe": self.probe,
            "around_levels": torch.tensor(self._levels, dtype=torch.float64),
            "around_image": start.image,
            "around_probe": start.probe,
            "around_positions": torch.from_numpy(start.positions),
            "around_origin": torch.tensor(start.origin),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._levels = state["around_levels"].tolist()
        y, x = (int(value) for value in state["around_origin"])
        positions = state["around_positions"].cpu().numpy()
        self._start = Placed(state["around_image"], state["around_probe"], positions, (y, x))
