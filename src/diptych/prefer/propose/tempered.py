"""The default proposal for images: the posterior mean plus an orthogonal posterior draw, at an adaptive angle."""

from __future__ import annotations

import math

import numpy as np

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.utility import Fitted
from diptych.runtime.registry import NoOptions

LEAST, MOST = 0.3, math.pi / 2
"""Limits of the angle, rad."""

ASYMPTOTE = 0.7
"""Angle for large reach, rad."""

HALFWAY = 2.5
"""Reach (sigma) at which the angle is halfway between its limits pi / 2 and :data:`ASYMPTOTE`."""

JITTER = 0.12
"""Standard deviation of the angle from image to image, rad. Images of different expected utility determine the
threshold between good and bad."""

UNKNOWN = 0.9
"""Angle for models without a reach, rad."""


def angle(fitted: Fitted | None) -> float:
    """Mean angle between proposals and the direction of highest expected utility, rad: pi / 2 before the first fit, and
    smaller the larger the reach is.

    With N judgements on orthogonal directions the reach grows as sqrt(N), whatever d. If as many judgements follow as
    were made, an angle of 0.9 rad maximises the sum of the utility shown and the utility recommended at the end. Early
    on, learning is worth more; for utilities with a maximum inside the sphere, smaller angles are better. The schedule
    was tuned on simulated persons of both kinds.
    """
    if fitted is None:
        return MOST
    if math.isnan(fitted.reach):
        return UNKNOWN
    return ASYMPTOTE + (MOST - ASYMPTOTE) / (1 + (fitted.reach / HALFWAY) ** 2)


class Tempered:
    """sqrt(d) (cos t unit(m) + sin t unit(g)): m is the posterior mean, g the component of an exact posterior draw
    orthogonal to m.

    The draws of one screen are made orthogonal to one another. (An untempered Thompson draw at d = 16,384 is nearly all
    prior noise.)
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
        turns = np.clip(usual + JITTER * rng.standard_normal(count), LEAST, MOST)
        latents = np.cos(turns)[:, None] * mean + np.sin(turns)[:, None] * draws
        return [
            finished(latent, situation, self.name, angle=float(turn))
            for latent, turn in zip(latents, turns, strict=True)
        ]


PROPOSAL = ProposalMethod(
    "tempered",
    "Posterior mean plus an orthogonal posterior draw; default for images.",
    NoOptions,
    "sphere",
    lambda options: Tempered(),
)
