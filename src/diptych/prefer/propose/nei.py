"""Settings by draws: each shows what would improve most on the best so far if one of some draws of the posterior were
the truth.

With one draw this is Thompson's rule, which explores long: most of thirty images would be about what is not known. With
many it is noisy expected improvement for a batch (Letham et al., Bayesian Analysis 14, 495, 2019). Screens have more
draws than images that are made one by one, ahead of what is said: those are to stay different.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.propose import Proposed, Situation
from diptych.prefer.spaces.cube import nearby, settings, settled, sobol
from diptych.prefer.utility import expected

FIRST = 2
"""Points judged per setting, and as many more, before draws decide: until then the model is mostly what is usual, and
where it is surest that nothing is to be found is often where nobody looked. Evenly spread points come first."""

LOOKS = 2
"""Points of which pictures are made for each that is shown: the model then goes by what they look like."""

EARLY = 4
"""The same while evenly spread points are shown: the others wait until the model can choose among them."""

POINTS = 1024
"""Points all over the cube that each draw is looked through, scrambled Sobol ones."""

DRAWS = 32
"""Draws, for each point of the screen, that improvements are averaged over."""

RIVALS = 16
"""Judged points of highest expected utility, the best of which in each draw is to be improved on."""

BEST, NEAR = 4, 64
"""Judged points of highest expected utility, and points about each of them that are looked through, too."""


@runtime_checkable
class Drawn(Protocol):
    """What was learned of settings, beside what every model learns."""

    latents: NDArray[np.float32]

    @property
    def previewed(self) -> NDArray[np.float64]:
        """Points (m, d) of which it knows pictures by now, judged or not."""
        ...

    def draw(self, latents: ArrayLike, rng: np.random.Generator, count: int = 1) -> NDArray[np.float64]:
        """Joint draws (count, k) of the utility of points (k, d) from the posterior; the judged ones are ``latents``
        (n, d).
        """
        ...


class Thompson:
    """Points that add most to the best of what was judged, in the mean of joint draws; evenly spread ones before
    anything is learned.
    """

    name = "thompson"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` points for one screen, each other settings; none that was judged before while there are others.

        Raises
        ------
        InputError
            The utility model draws no utilities of points, or there are fewer different settings.
        """
        fitted, cube = situation.fitted, situation.cube
        everywhere = sobol(max(count, POINTS), situation.dimension, cube, rng)
        if fitted is None:
            return self._evenly(_distinct(everywhere, count), situation, count)
        if not isinstance(fitted, Drawn):
            kind = type(fitted).__name__
            raise InputError(
                f"the proposal {self.name} draws utilities of settings, which a {kind} cannot; choose the utility "
                f"surface."
            )
        judged = settled(fitted.latents, cube)
        known = judged if situation.given is None else np.vstack([judged, settled(situation.given, cube)])
        if len(judged) < FIRST * (1 + len(settings(situation.dimension, cube))):
            return self._evenly(_fresh(_distinct(everywhere, count), known, count), situation, count)
        rivals = judged[np.argsort(-expected(fitted, judged), kind="stable")[:RIVALS]]
        near = [nearby(place, NEAR, cube, rng) for place in np.unique(rivals[:BEST], axis=0)]
        points = _fresh(_distinct(np.vstack([everywhere, *near]), count), known, count)
        if situation.look is not None and len(fitted.previewed):
            ahead = points[self._chosen(fitted, points, rivals, min(LOOKS * count, len(points)), rng)]
            fitted = situation.look(ahead) or fitted
            seen = _fresh(_distinct(fitted.previewed, 0), known, 0)
            points = seen if len(seen) >= count else ahead
        chosen = self._chosen(fitted, points, rivals, count, rng)
        mean = expected(fitted, points[chosen])
        return [
            Proposed(points[index], {"proposal": self.name, "expected": round(float(value), 6)})
            for index, value in zip(chosen, mean, strict=True)
        ]

    def _evenly(self, points: NDArray[np.float32], situation: Situation, count: int) -> list[Proposed]:
        """The first of evenly spread points; of those after them pictures are made, too, for when draws decide."""
        if situation.look is not None:
            situation.look(points[count : EARLY * count])
        return [Proposed(point, {"proposal": self.name}) for point in points[:count]]

    @staticmethod
    def _chosen(
        fitted: Drawn, points: NDArray[np.float32], rivals: NDArray[np.float64], count: int, rng: np.random.Generator
    ) -> list[int]:
        """Which ``count`` of the points (k, d), one after another, add most to the best of the rivals."""
        drawn = fitted.draw(np.vstack([points, rivals]), rng, count * DRAWS)
        return _improving(drawn[:, : len(points)], drawn[:, len(points) :].max(axis=1), count)


def _improving(drawn: NDArray[np.float64], best: NDArray[np.float64], count: int) -> list[int]:
    """``count`` different points of draws (s, k), one after another: each adds most, in the mean, to the best (s,) and
    those before.
    """
    chosen: list[int] = []
    for _ in range(count):
        gain = np.maximum(drawn - best[:, None], 0.0).mean(axis=0)
        # Where no point adds anything in any draw, what is expected to come closest is shown.
        worth = gain if gain.max() > 0 else drawn.mean(axis=0)
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
        best = np.maximum(best, drawn[:, chosen[-1]])
    return chosen


def _distinct(points: NDArray[Any], count: int) -> NDArray[np.float32]:
    """The different ones among points (k, d), in their order."""
    exact = points.astype(np.float32)
    first = np.sort(np.unique(exact, axis=0, return_index=True)[1])
    if len(first) < count:
        raise InputError(
            f"there are only {len(first)} different settings to choose from; ask for no more than {len(first)} at a "
            f"time."
        )
    return np.asarray(exact[first])


def _fresh(points: NDArray[np.float32], judged: NDArray[Any], count: int) -> NDArray[np.float32]:
    """Those of the points (k, d) that were not judged (n, d); all of them where fewer than ``count`` would be left."""
    known = {point.tobytes() for point in judged.astype(np.float32)}
    new = np.array([point.tobytes() not in known for point in points])
    return points[new] if np.count_nonzero(new) >= count else points
