"""Latents about an anchor: the prompt's, a random one, or that of an image or seed to start from."""

from __future__ import annotations

import numpy as np

from diptych.prefer.propose import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.spaces.sphere import turn


class Around:
    """The anchor, turned by an angle towards draws of the posterior (of the prior, while nothing is learned).

    Parameters
    ----------
    angle : float
        rad. 0.8 changes an image well visibly and leaves 70 % of the anchor.
    """

    name = "around"

    def __init__(self, angle: float = 0.8) -> None:
        self.angle = angle

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        anchor = (
            starting_latent(situation, rng)
            if situation.anchor is None
            else np.asarray(situation.anchor, dtype=np.float64)
        )
        draws = fresh_directions(situation, count, rng, anchor)
        return [finished(turn(anchor, draw, self.angle), situation, self.name, angle=self.angle) for draw in draws]


class RandomAnchor:
    """The same about an anchor of its own, which is drawn once from a seed and known by it.

    Parameters
    ----------
    seed : int
        Seed of the anchor, kept with every latent.
    angle : float
        rad.
    """

    name = "random-anchor"

    def __init__(self, seed: int = 0, angle: float = 0.8) -> None:
        self.seed, self.angle = seed, angle

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        anchor = seeded(self.seed, situation.dimension)
        draws = fresh_directions(situation, count, rng, anchor)
        facts = {"angle": self.angle, "anchor_seed": self.seed}
        return [finished(turn(anchor, draw, self.angle), situation, self.name, **facts) for draw in draws]


def seeded(seed: int, dimension: int) -> np.ndarray:
    """The normal latent (d,) of a seed."""
    return np.random.default_rng(seed).standard_normal(dimension)
