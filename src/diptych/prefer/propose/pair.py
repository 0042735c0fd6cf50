"""Two latents that differ in one direction alone, one on either side of what is thought best."""

from __future__ import annotations

import math

import numpy as np

from diptych.prefer.propose import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.propose.tempered import angle


class Pair:
    """sqrt(d) (cos t unit(m) +- sin t unit(g)), with m, g and t as in the default proposal; before anything is learned
    m is the start.

    An odd number of latents ends in half a pair.
    """

    name = "pair"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen: each pair in turn."""
        if situation.fitted is None:
            middle, usual = starting_latent(situation, rng), math.pi / 4
        else:
            middle, usual = situation.fitted.direction(), angle(situation.fitted)
        middle = middle / np.linalg.norm(middle)
        draws = fresh_directions(situation, (count + 1) // 2, rng, middle)
        latents = [math.cos(usual) * middle + side * math.sin(usual) * draw for draw in draws for side in (1.0, -1.0)]
        return [finished(latent, situation, self.name, angle=usual) for latent in latents[:count]]
