"""The sampler of an earlier system, for comparison: steps of 0.8 from an anchor of length sqrt(d), all but the same
image.
"""

from __future__ import annotations

import numpy as np

from diptych.prefer.propose import Proposed, Situation, finished

STEP = 0.8


class Legacy:
    """The anchor plus 0.8 times a random unit vector."""

    name = "legacy"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen; the anchor of a situation without one is the noise of seed 0."""
        anchor = (
            situation.anchor
            if situation.anchor is not None
            else np.random.default_rng(0).standard_normal(situation.dimension)
        )
        steps = rng.standard_normal((count, situation.dimension))
        steps *= STEP / np.linalg.norm(steps, axis=1, keepdims=True)
        return [finished(np.asarray(anchor + step, dtype=np.float64), situation, self.name) for step in steps]
