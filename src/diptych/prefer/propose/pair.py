"""Pairs of latents that differ in one direction, on either side of the posterior mean."""

from __future__ import annotations

import math

import numpy as np

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.propose.tempered import angle
from diptych.runtime.registry import NoOptions


class Pair:
    """sqrt(d) (cos t unit(m) +- sin t unit(g)), with m, g and t as in the default proposal; before the first fit, m is
    the best liked latent or the anchor, and t = pi / 4.

    For an odd count, the last pair has only its first latent.
    """

    name = "pair"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen, pair by pair."""
        if situation.fitted is None:
            middle, usual = starting_latent(situation, rng), math.pi / 4
        else:
            middle, usual = situation.fitted.direction(), angle(situation.fitted)
        middle = middle / np.linalg.norm(middle)
        draws = fresh_directions(situation, (count + 1) // 2, rng, middle)
        latents = [math.cos(usual) * middle + side * math.sin(usual) * draw for draw in draws for side in (1.0, -1.0)]
        return [finished(latent, situation, self.name, angle=usual) for latent in latents[:count]]


PROPOSAL = ProposalMethod(
    "pair",
    "Pairs on either side of the posterior mean.",
    NoOptions,
    "sphere",
    lambda options: Pair(),
)
