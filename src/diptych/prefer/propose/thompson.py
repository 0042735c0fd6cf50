"""Settings by draws: each shows what would be best if one draw of the posterior were the truth."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.cube import nearby, settled, sobol
from diptych.prefer.propose import Proposed, Situation
from diptych.prefer.utility import expected

POINTS = 1024
"""Points all over the cube that each draw is looked through, scrambled Sobol ones."""

BEST, NEAR = 4, 64
"""Judged points of highest expected utility, and points about each of them that are looked through, too."""


@runtime_checkable
class Drawn(Protocol):
    """What was learned of settings, beside what every model learns."""

    latents: NDArray[np.float32]

    def draw(self, latents: ArrayLike, rng: np.random.Generator, count: int = 1) -> NDArray[np.float64]:
        """Joint draws (count, k) of the utility of points (k, d) from the posterior; the judged ones are ``latents`` (n, d)."""
        ...


class Thompson:
    """The best point of one joint draw of the posterior for each candidate; evenly spread points before anything is learned."""

    name = "thompson"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` points for one screen, each other settings; none that was judged before while there are others.

        Raises
        ------
        InputError
            The utility model draws no utilities of points, or there are fewer different settings.
        """
        fitted, categories = situation.fitted, situation.categories
        if fitted is None:
            points = _distinct(sobol(max(count, POINTS), situation.dimension, categories, rng), count)
            return [Proposed(point, {"proposal": self.name}) for point in points[:count]]
        if not isinstance(fitted, Drawn):
            kind = type(fitted).__name__
            raise InputError(f"the proposal {self.name} draws utilities of settings, which a {kind} cannot; choose the utility surface.")
        judged = settled(fitted.latents, categories)
        top = judged[np.argsort(-expected(fitted, judged), kind="stable")[:BEST]]
        near = [nearby(place, NEAR, categories, rng) for place in np.unique(top, axis=0)]
        points = _distinct(np.vstack([sobol(POINTS, situation.dimension, categories, rng), *near]), count)
        fresh = _unlike(points, judged.astype(np.float32))
        points = points[fresh] if np.count_nonzero(fresh) >= count else points
        chosen: list[int] = []
        for drawn in fitted.draw(points, rng, count):
            drawn[chosen] = -np.inf
            chosen.append(int(np.argmax(drawn)))
        mean = expected(fitted, points[chosen])
        return [
            Proposed(points[index], {"proposal": self.name, "expected": round(float(value), 6)})
            for index, value in zip(chosen, mean, strict=True)
        ]


def _distinct(points: NDArray[Any], count: int) -> NDArray[np.float32]:
    """The different ones among points (k, d), in their order."""
    exact = points.astype(np.float32)
    first = np.sort(np.unique(exact, axis=0, return_index=True)[1])
    if len(first) < count:
        raise InputError(f"there are only {len(first)} different settings to choose from; ask for no more than {len(first)} at a time.")
    return np.asarray(exact[first])


def _unlike(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each of the points (k, d) is none of the others (l, d)."""
    known = {other.tobytes() for other in others}
    return np.array([point.tobytes() not in known for point in points])
