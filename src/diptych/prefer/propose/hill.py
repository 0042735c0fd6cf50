"""Small steps from the best liked latent, uphill with some spread."""

from __future__ import annotations

import math

import numpy as np

from diptych.prefer.propose import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.spaces.sphere import turn


class Hill:
    """The start turned by an angle, half towards the direction thought best and half towards a posterior draw.

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
