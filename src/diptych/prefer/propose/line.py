"""Latents on the great circle towards the highest expected utility."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from diptych.prefer.propose.base import Proposed, Situation, finished, fresh_directions, starting_latent
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.sphere import on_sphere
from diptych.prefer.utility import Fitted
from diptych.runtime.options import Options


class LineOptions(Options):
    """Options of the proposal line."""

    span: float = Field(math.pi / 2, gt=0, le=math.pi, description="Largest angle from the beginning of the line, rad")


class Line:
    """Latents at equal angles on the great circle from the start (best liked latent, anchor or noise) through the
    direction of highest expected utility.

    Where that direction is nearer to the start than the span, as it is once the start was found on an earlier line, an
    arc up to it would be too short to tell its images apart. The line then approaches that direction from a posterior
    draw, which is what is not known about it yet. Every screen has the same spacing, and climbs in expected utility.

    Parameters
    ----------
    span : float
        Angle of the last one, rad.

    Notes
    -----
    Simulated linear persons, d = 256 and 1024, 60 ratings on screens of four, three seeds each: images next to one
    another are 22 degrees apart on every screen (arcs up to the direction: 0.5 degrees in the median).
    """

    name = "line"

    def __init__(self, span: float = math.pi / 2) -> None:
        self.span = span

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen."""
        start = starting_latent(situation, rng)
        angles = np.linspace(0, self.span, count + 1)[1:]
        if situation.fitted is None:
            towards = fresh_directions(situation, 1, rng, start)[0]
        else:
            towards = np.asarray(situation.fitted.direction(), dtype=np.float64)
            if towards @ start > math.cos(self.span) * np.linalg.norm(towards) * np.linalg.norm(start):
                start, towards = towards, fresh_directions(situation, 1, rng, towards)[0]
                angles = (angles - 0.5 * angles[0])[::-1]
        return [
            finished(latent, situation, self.name, angle=float(angle))
            for latent, angle in zip(_arc(start, towards, angles), angles, strict=True)
        ]


def step_scores(fitted: Fitted, start: ArrayLike, count: int, step: float) -> NDArray[np.float64]:
    """Expected utility (count,) of a latent (d,) rotated by 1, 2, ... ``count`` steps of an angle (rad) towards the
    direction of highest expected utility.
    """
    angles = np.linspace(step, step * count, count)
    return fitted.score(_arc(np.asarray(start, dtype=np.float64), fitted.direction(), angles))[0]


def _arc(start: NDArray[np.float64], towards: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """``start`` rotated by each angle towards a direction, (k, d); unchanged if it points there already."""
    base = on_sphere(start)
    tangent = towards - base * (base @ towards / (base @ base))
    length = np.linalg.norm(tangent)
    if not length > 1e-9 * np.linalg.norm(towards):
        return np.repeat(base[None], len(angles), axis=0)
    tangent = tangent * (math.sqrt(len(base)) / length)
    return np.asarray(np.cos(angles)[:, None] * base + np.sin(angles)[:, None] * tangent)


PROPOSAL = ProposalMethod(
    "line",
    "Latents along the great circle towards the highest expected utility.",
    LineOptions,
    "sphere",
    lambda options: Line(options.span),
)
