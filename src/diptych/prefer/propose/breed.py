"""Spherical combinations of liked latents."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from diptych.errors import InputError
from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.sphere import combine, turn
from diptych.runtime.options import Options


class BreedOptions(Options):
    """Options of the proposal breed."""

    mutation: float = Field(
        0.3, ge=0, le=math.pi / 2, description="Angle of the rotation towards a posterior draw, rad"
    )


class Breed:
    """Sums of the liked latents with random (Dirichlet) weights, rescaled to the sphere and rotated towards a posterior
    draw.

    Parameters
    ----------
    mutation : float
        Angle of that rotation, rad.
    """

    name = "breed"

    def __init__(self, mutation: float = 0.3) -> None:
        self.mutation = mutation

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen.

        Raises
        ------
        InputError
            If no image was rated good or chosen yet.
        """
        if situation.liked is None or not len(situation.liked):
            raise InputError(
                "proposal breed", "there is no liked image yet", remedy="Rate an image good, or choose one, first."
            )
        parents = np.asarray(situation.liked, dtype=np.float64)
        weights = rng.dirichlet(np.ones(len(parents)), size=count)
        draws = fresh_directions(situation, count, rng, None)
        children = [turn(combine(parents, own), draw, self.mutation) for own, draw in zip(weights, draws, strict=True)]
        rounded = ([round(float(weight), 6) for weight in own] for own in weights)
        return [
            finished(child, situation, self.name, weights=own) for child, own in zip(children, rounded, strict=True)
        ]


PROPOSAL = ProposalMethod(
    "breed",
    "Random combinations of liked latents.",
    BreedOptions,
    "sphere",
    lambda options: Breed(options.mutation),
)
