"""The default: the posterior mean, tempered by a draw that is orthogonal to it."""

from __future__ import annotations

import math

import numpy as np

from diptych.prefer.propose import Proposed, Situation, finished, fresh_directions
from diptych.prefer.utility import Fitted

LEAST, MOST = 0.3, math.pi / 2
"""Limits of the angle, rad."""

SETTLED = 0.7
"""Angle that is approached as the reach of the posterior grows, rad."""

HALFWAY = 2.5
"""Reach (sigma) at which the angle is half way there."""

SPREAD = 0.12
"""Standard deviation of the angle from image to image, rad: images that differ in expected utility keep the threshold
known."""

UNKNOWN = 0.9
"""Angle for models that do not know their reach, rad."""


def angle(fitted: Fitted | None) -> float:
    """The angle between proposals and the direction that is thought best, rad: pi / 2 while nothing is known, less the
    more is known.

    With N judgements on orthogonal directions the reach grows as sqrt(N), whatever d. For as many judgements to come as
    there were, an angle of 0.9 is best for the sum of what is shown and what can be recommended in the end; early on
    learning is worth more, and for a taste that has a peak smaller angles are. Measured on persons of both kinds.
    """
    if fitted is None:
        return MOST
    if math.isnan(fitted.reach):
        return UNKNOWN
    return SETTLED + (MOST - SETTLED) / (1 + (fitted.reach / HALFWAY) ** 2)


class Tempered:
    """sqrt(d) (cos t unit(m) + sin t unit(g)): m the posterior mean, g the part of an exact posterior draw that is
    orthogonal to it.

    Draws on one screen are made orthogonal to one another. (An untempered draw at d = 16,384 is nearly all prior.)
    """

    name = "tempered"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        fitted = situation.fitted
        if fitted is None:
            return [
                finished(draw, situation, self.name, angle=MOST)
                for draw in fresh_directions(situation, count, rng, None)
            ]
        mean = fitted.direction()
        usual = angle(fitted)
        draws = fresh_directions(situation, count, rng, mean)
        turns = np.clip(usual + SPREAD * rng.standard_normal(count), LEAST, MOST)
        latents = np.cos(turns)[:, None] * mean + np.sin(turns)[:, None] * draws
        return [
            finished(latent, situation, self.name, angle=float(turn))
            for latent, turn in zip(latents, turns, strict=True)
        ]
