"""Steps from the best liked latent in the direction of increasing utility."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.sphere import turn
from diptych.runtime.options import Options


class HillOptions(Options):
    """Options of the proposal hill."""

    step: float = Field(0.5, gt=0, le=math.pi / 2, description="Angle of a step, rad")


class Hill:
    """The start, rotated by an angle towards the mean of the posterior direction and a posterior draw.

    Parameters
    ----------
    step : float
        rad.
    """

    name = "hill"

    def __init__(self, step: float = 0.5) -> None:
        self.step = step

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        start = starting_latent(situation, rng)
        draws = fresh_directions(situation, count, rng, start)
        uphill = np.zeros(situation.dimension)
        if situation.fitted is not None:
            best = situation.fitted.direction()
            uphill = best - start * (start @ best / (start @ start))
            uphill = uphill / max(float(np.linalg.norm(uphill)), 1e-12)
        return [
            finished(turn(start, math.sqrt(0.5) * (uphill + draw), self.step), situation, self.name, angle=self.step)
            for draw in draws
        ]


PROPOSAL = ProposalMethod(
    "hill",
    "Steps from the best liked image towards higher utility.",
    HillOptions,
    "sphere",
    lambda options: Hill(options.step),
)
