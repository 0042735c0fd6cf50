"""The sampler of the earlier program, for comparison: steps of length 0.8 from an anchor of length sqrt(d), which
hardly change the image.
"""

from __future__ import annotations

import numpy as np

from diptych.prefer.propose.base import Proposed, Situation, finished
from diptych.prefer.propose.registry import ProposalMethod
from diptych.runtime.registry import NoOptions

STEP = 0.8


class FixedStep:
    """The anchor plus 0.8 times a random unit vector."""

    name = "legacy"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen; without an anchor, the noise of seed 0 is used."""
        anchor = situation.anchor
        if anchor is None:
            anchor = np.random.default_rng(0).standard_normal(situation.dimension)
        steps = rng.standard_normal((count, situation.dimension))
        steps *= STEP / np.linalg.norm(steps, axis=1, keepdims=True)
        return [finished(np.asarray(anchor + step, dtype=np.float64), situation, self.name) for step in steps]


PROPOSAL = ProposalMethod(
    "legacy",
    "Fixed steps of length 0.8 from the anchor, for comparison.",
    NoOptions,
    "sphere",
    lambda options: FixedStep(),
)
