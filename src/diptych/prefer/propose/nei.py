"""Noisy expected improvement over joint posterior draws, for reconstruction settings.

For each draw of the utilities of all candidate points, the improvement over the best judged point is computed; a screen
is filled greedily by the mean over draws (Letham et al., Bayesian Analysis 14, 495, 2019). A single draw would be
Thompson sampling, which explores too long for a session of some thirty images.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.propose.base import Proposed, Situation
from diptych.prefer.propose.registry import ProposalMethod
from diptych.prefer.spaces.cube import nearby, settings, settled, sobol
from diptych.prefer.utility import Fitted, expected
from diptych.runtime.registry import NoOptions

FIRST = 2
"""Judged points per setting (and as many more) before draws are used. Until then the fit is dominated by the prior, so
evenly spread points are shown."""

LOOKS = 2
"""Images decoded per image shown: the model then uses the features of the images."""

EARLY = 4
"""The same while evenly spread points are shown; the additional ones are candidates later."""

POINTS = 1024
"""Scrambled Sobol points over the whole cube among which a screen is chosen."""

DRAWS = 32
"""Joint posterior draws per point of the screen, over which the improvement is averaged."""

RIVALS = 16
"""Judged points of highest expected utility; the improvement is over the best of them in each draw."""

BEST, NEAR = 4, 64
"""Judged points of highest expected utility, and the number of random points near each that are candidates, too."""


@runtime_checkable
class JointDraws(Protocol):
    """A fit that draws joint utilities of points, as the Gaussian process of settings does."""

    latents: NDArray[np.float32]
    """Judged points (n, d)."""

    @property
    def previewed(self) -> NDArray[np.float64]:
        """Points (m, d) whose image features are known to the fit."""
        ...

    def draw(self, latents: ArrayLike, rng: np.random.Generator, count: int = 1) -> NDArray[np.float64]:
        """Joint draws (count, k) of the utilities of points (k, d) from the posterior."""
        ...


class NoisyImprovement:
    """Points that improve most on the best judged one, averaged over joint posterior draws; evenly spread points before
    the first fit.
    """

    name = "thompson"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` points of different settings for one screen, none of them judged before while there are others.

        Raises
        ------
        InputError
            If the utility model has no joint draws, or there are fewer different settings.
        """
        fitted, cube = situation.fitted, situation.cube
        everywhere = sobol(max(count, POINTS), situation.dimension, cube, rng)
        if fitted is None:
            return self._evenly(_distinct(everywhere, count), situation, count)
        joint = self._joint(fitted)
        judged = settled(joint.latents, cube)
        known = judged if situation.given is None else np.vstack([judged, settled(situation.given, cube)])
        if len(judged) < FIRST * (1 + len(settings(situation.dimension, cube))):
            return self._evenly(_fresh(_distinct(everywhere, count), known, count), situation, count)
        rivals = judged[np.argsort(-expected(fitted, judged), kind="stable")[:RIVALS]]
        near = [nearby(center, NEAR, cube, rng) for center in np.unique(rivals[:BEST], axis=0)]
        points = _fresh(_distinct(np.vstack([everywhere, *near]), count), known, count)
        if situation.preview is not None and len(joint.previewed):
            ahead = points[self._chosen(joint, points, rivals, min(LOOKS * count, len(points)), rng)]
            fitted = situation.preview(ahead) or fitted
            joint = self._joint(fitted)
            seen = _fresh(_distinct(joint.previewed, 0), known, 0)
            points = seen if len(seen) >= count else ahead
        chosen = self._chosen(joint, points, rivals, count, rng)
        mean = expected(fitted, points[chosen])
        return [
            Proposed(points[index], {"proposal": self.name, "expected": round(float(value), 6)})
            for index, value in zip(chosen, mean, strict=True)
        ]

    def _joint(self, fitted: Fitted) -> JointDraws:
        if not isinstance(fitted, JointDraws):
            raise InputError(
                f"proposal {self.name}",
                f"a {type(fitted).__name__} has no joint draws of the utilities of settings",
                "a utility model that has them",
                "Choose the utility surface.",
            )
        return fitted

    def _evenly(self, points: NDArray[np.float32], situation: Situation, count: int) -> list[Proposed]:
        """The first of evenly spread points; the next ones are decoded afterwards, for later screens."""
        if situation.later is not None:
            situation.later(points[count : EARLY * count])
        return [Proposed(point, {"proposal": self.name}) for point in points[:count]]

    @staticmethod
    def _chosen(
        fitted: JointDraws,
        points: NDArray[np.float32],
        rivals: NDArray[np.float64],
        count: int,
        rng: np.random.Generator,
    ) -> list[int]:
        """Indices of ``count`` points (k, d), chosen greedily by their improvement over the best of the rivals."""
        drawn = fitted.draw(np.vstack([points, rivals]), rng, count * DRAWS)
        return _improving(drawn[:, : len(points)], drawn[:, len(points) :].max(axis=1), count)


def _improving(drawn: NDArray[np.float64], best: NDArray[np.float64], count: int) -> list[int]:
    """``count`` different points, given draws (s, k) of their utilities. Each maximises the mean improvement over the
    best (s,) and the points chosen before it.
    """
    chosen: list[int] = []
    for _ in range(count):
        gain = np.maximum(drawn - best[:, None], 0.0).mean(axis=0)
        # If no point improves in any draw, the one of highest mean utility is chosen.
        worth = gain if gain.max() > 0 else drawn.mean(axis=0)
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
        best = np.maximum(best, drawn[:, chosen[-1]])
    return chosen


def _distinct(points: NDArray[Any], count: int) -> NDArray[np.float32]:
    """The different points among (k, d), in their order."""
    exact = points.astype(np.float32)
    first = np.sort(np.unique(exact, axis=0, return_index=True)[1])
    if len(first) < count:
        raise InputError(
            f"screen of {count} images",
            f"there are only {len(first)} different settings",
            f"at most {len(first)} images",
        )
    return np.asarray(exact[first])


def _fresh(points: NDArray[np.float32], judged: NDArray[Any], count: int) -> NDArray[np.float32]:
    """The points (k, d) that were not judged (n, d); all of them if fewer than ``count`` would remain."""
    known = {point.tobytes() for point in judged.astype(np.float32)}
    new = np.array([point.tobytes() not in known for point in points])
    return points[new] if np.count_nonzero(new) >= count else points


PROPOSAL = ProposalMethod(
    "thompson",
    "Noisy expected improvement over joint posterior draws; default for settings.",
    NoOptions,
    "cube",
    lambda options: NoisyImprovement(),
)
