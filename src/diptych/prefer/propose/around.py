"""Latents at a fixed angle from an anchor: that of the prompt, of an image, or of a seed."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.sphere import turn
from diptych.runtime.options import Options


class AroundOptions(Options):
    """Options of the proposal around."""

    angle: float = Field(0.8, gt=0, le=math.pi / 2, description="Angle from the anchor, rad")


class RandomAnchorOptions(AroundOptions):
    """Options of the proposal random-anchor."""

    anchor_seed: int = Field(0, ge=0, description="Seed of the random anchor")


class Around:
    """The anchor, rotated by an angle towards posterior draws (prior draws before the first fit).

    Parameters
    ----------
    angle : float
        rad. At 0.8 rad the image changes clearly, and cos(0.8) = 70 % of the anchor remains.
    """

    name = "around"

    def __init__(self, angle: float = 0.8) -> None:
        self.angle = angle

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        if situation.anchor is None:
            anchor = starting_latent(situation, rng)
        else:
            anchor = np.asarray(situation.anchor, dtype=np.float64)
        draws = fresh_directions(situation, count, rng, anchor)
        return [finished(turn(anchor, draw, self.angle), situation, self.name, angle=self.angle) for draw in draws]


class RandomAnchor:
    """The same around a random anchor of its own, which is identified by its seed.

    Parameters
    ----------
    anchor_seed : int
        Seed of the anchor; part of the provenance of every latent.
    angle : float
        rad.
    """

    name = "random-anchor"

    def __init__(self, anchor_seed: int = 0, angle: float = 0.8) -> None:
        self.anchor_seed, self.angle = anchor_seed, angle

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        anchor = np.random.default_rng(self.anchor_seed).standard_normal(situation.dimension)
        draws = fresh_directions(situation, count, rng, anchor)
        info = {"angle": self.angle, "anchor_seed": self.anchor_seed}
        return [finished(turn(anchor, draw, self.angle), situation, self.name, **info) for draw in draws]


AROUND = ProposalMethod(
    "around",
    "Latents at a fixed angle from the anchor.",
    AroundOptions,
    "sphere",
    lambda options: Around(options.angle),
)

RANDOM_ANCHOR = ProposalMethod(
    "random-anchor",
    "Latents at a fixed angle from a random anchor.",
    RandomAnchorOptions,
    "sphere",
    lambda options: RandomAnchor(options.anchor_seed, options.angle),
)
