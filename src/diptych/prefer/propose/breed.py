"""Children of liked images: spherical combinations of their latents."""

from __future__ import annotations

import numpy as np

from diptych.errors import InputError
from diptych.prefer.propose import Proposed, Situation, finished, fresh_directions
from diptych.prefer.spaces.sphere import combine, turn


class Breed:
    """Sums of the liked latents with random weights, put back on the sphere, and turned a little towards a posterior
    draw.

    Parameters
    ----------
    mutation : float
        Angle of that turn, rad.
    """

    name = "breed"

    def __init__(self, mutation: float = 0.3) -> None:
        self.mutation = mutation

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen.

        Raises
        ------
        InputError
            No image was chosen or liked yet.
        """
        if situation.liked is None or not len(situation.liked):
            raise InputError("there is no liked image to breed from; judge one good, or choose one, first")
        parents = np.asarray(situation.liked, dtype=np.float64)
        weights = rng.dirichlet(np.ones(len(parents)), size=count)
        draws = fresh_directions(situation, count, rng, None)
        children = [turn(combine(parents, own), draw, self.mutation) for own, draw in zip(weights, draws, strict=True)]
        facts = ([round(float(weight), 6) for weight in own] for own in weights)
        return [finished(child, situation, self.name, weights=own) for child, own in zip(children, facts, strict=True)]
