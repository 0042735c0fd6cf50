"""Spherical combinations of liked latents."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.sphere import combine, on_sphere, turn
from diptych.runtime.options import Options

PARENTS = 2
"""Fewest parents of a screen; random latents make up the number."""


class BreedOptions(Options):
    """Options of the proposal breed."""

    mutation: float = Field(
        0.3, ge=0, le=math.pi / 2, description="Angle of the rotation towards a posterior draw, rad"
    )


class Breed:
    """Sums of the liked latents with random (Dirichlet) weights, rescaled to the sphere and rotated towards a posterior
    draw. Until two images are liked, random latents are among the parents.

    Parameters
    ----------
    mutation : float
        Angle of that rotation, rad.
    """

    name = "breed"

    def __init__(self, mutation: float = 0.3) -> None:
        self.mutation = mutation

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        parents = self._parents(situation, rng)
        weights = rng.dirichlet(np.ones(len(parents)), size=count)
        draws = fresh_directions(situation, count, rng, None)
        children = [turn(combine(parents, own), draw, self.mutation) for own, draw in zip(weights, draws, strict=True)]
        rounded = ([round(float(weight), 6) for weight in own] for own in weights)
        return [
            finished(child, situation, self.name, weights=own) for child, own in zip(children, rounded, strict=True)
        ]

    def _parents(self, situation: Situation, rng: np.random.Generator) -> NDArray[np.float64]:
        """Liked latents (k, d), and random ones where they are fewer than :data:`PARENTS`: children of one parent
        would all look like it, and the first screen has none.
        """
        liked = situation.liked if situation.liked is not None else ()
        missing = PARENTS - len(liked)
        found = [np.asarray(latent, dtype=np.float64) for latent in liked]
        if missing > 0:
            found += [on_sphere(draw) for draw in fresh_directions(situation, missing, rng, None)]
        return np.stack(found)


PROPOSAL = ProposalMethod(
    "breed",
    "Random combinations of liked latents.",
    BreedOptions,
    "sphere",
    lambda options: Breed(options.mutation),
)
