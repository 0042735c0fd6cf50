"""Single positions that are still wrong where all others are right, found on an object that is made without them.

Patterns that fit far worse than most, and such that moved much further than most. A pattern at the wrong place has its
share in the object there, and fits that object better than it should: the search between the rounds leaves it where it
is. ``natural``, N = 128, 100 patterns, 1e6 photons, 5.8 px rms: after all rounds one pattern at the edge of the scan is
off by 12 px, and the fit in it is 3 times the median. Where an object is straight, or repeats itself, a pattern fits as
well at a place that is far away: of places that fit alike, the one nearer to the recorded place is the likelier.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit, level
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import ROUND, rebuilt, refined
from diptych.ptycho.engines.positions.distortion import PositionSearch
from diptych.ptycho.engines.positions.escape import (
    BETTER,
    GRID,
    MOST_SHARE,
    OUTLYING,
    SPACING,
    pattern_deviances,
    restricted,
    searched,
)
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch

log = logging.getLogger("diptych")

FINER = 4
"""A second search, around the best place of the first one, has places so many times closer."""

FAR, LEAST_FAR = 5.0, 1.0
"""A pattern moved further than most by more than so many standard deviations (of the moves along an axis, by their
median), and pixels. It is searched within as much of where the recorded places moved on the whole."""

ALIKE = 1.1
"""Places fit alike where their deviances differ by less than this factor. A measured object of straight bars, 1e5
photons: 1.03 between the right place and one 8 px along a bar."""


def strays(problem: Problem, here: Placed, recorded: Positions) -> NDArray[np.int64]:
    """Patterns that fit far worse than most, or moved far; none where they are too many to be exceptions.

    Parameters
    ----------
    here : Placed
        Object and probe, on the problem's canvas and at its positions.
    recorded : (M, 2) array
        The recorded positions.
    """
    misfit = pattern_deviances(problem, here.image, here.probe, here.positions, np.arange(len(problem)))
    found = np.union1d(np.flatnonzero(misfit > OUTLYING * np.median(misfit)), far_moved(here.positions, recorded)[0])
    return found if len(found) <= MOST_SHARE * len(problem) else found[:0]


def far_moved(positions: Positions, recorded: Positions) -> tuple[NDArray[np.int64], float]:
    """Patterns that moved much further than most, and the standard deviation of all moves along an axis, by the median
    of their lengths; the median move left out.
    """
    moves = positions - recorded
    lengths = np.hypot(*(moves - np.median(moves, axis=0)).T)
    deviation = float(np.median(lengths)) / np.sqrt(2 * np.log(2))
    return np.flatnonzero(lengths > max(FAR * deviation, LEAST_FAR)), deviation


class StraySearch(PositionSearch):
    """Searches the places of patterns that fit far worse than most; an engine of one epoch.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the start, or at positions that fit better.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the object without these patterns, and of the refinement with them.
    recorded : (M, 2) array
        The recorded positions.
    """

    most_epochs = 1

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        pie: PieSettings,
        likelihood: LikelihoodSettings,
        recorded: Positions,
    ) -> None:
        self.problem, self._pie, self._likelihood, self._recorded = problem, pie, likelihood, recorded
        self._best = Placed.of(problem, image, probe)

    def epoch(self) -> dict[str, float]:
        """The whole search."""
        problem, start = self.problem, self._best
        rows = strays(problem, start, self._recorded)
        before = level(full_fit(problem, start.image, start.probe, sweep_batch(problem)))
        here = refined(problem, self._without(rows, start), self._likelihood, ROUND)
        after = level(full_fit(problem, place(problem, here), here.probe, sweep_batch(problem)))
        log.info("positions: %d patterns searched anew, held-out fit %.3g before, %.3g after", len(rows), before, after)
        if after < before:
            self._best = here
        return self._report(problem)

    def _without(self, rows: NDArray[np.int64], start: Placed) -> Placed:
        """An object made without some patterns, and all positions: those of these patterns where they fit best on it,
        if that is much better than where they were.
        """
        problem, others = self.problem, np.setdiff1d(np.arange(len(self.problem)), rows)
        some = restricted(problem, others)
        there = refined(some, rebuilt(some, start.probe, self._pie), self._likelihood, ROUND)
        guess, spacing = start.positions[rows], problem.size / SPACING
        found = searched(problem, rows, there, guess, GRID * spacing, spacing)
        found = searched(problem, rows, there, found, spacing, spacing / FINER)
        chosen = restricted(problem, rows, there.origin)
        was, now = (
            pattern_deviances(chosen, there.image, there.probe, places, np.arange(len(rows)))
            for places in (guess, found)
        )
        positions = start.positions.copy()
        positions[others] = there.positions
        positions[rows] = np.where((now < BETTER * was)[:, None], found, guess)
        self._bring_back(positions, there)
        return replace(there, positions=positions)

    def _bring_back(self, positions: Positions, there: Placed) -> None:
        """Patterns that moved far: to the best place near the recorded one, where that fits alike on an object."""
        problem, spacing = self.problem, self.problem.size / SPACING / FINER
        rows, deviation = far_moved(positions, self._recorded)
        if not len(rows):
            return
        home = self._recorded[rows] + np.median(positions - self._recorded, axis=0)
        found = searched(problem, rows, there, home, max(FAR * deviation, LEAST_FAR), spacing)
        found = searched(problem, rows, there, found, spacing, spacing / FINER)
        some = restricted(problem, rows, there.origin)
        away, near = (
            pattern_deviances(some, there.image, there.probe, places, np.arange(len(rows)))
            for places in (positions[rows], found)
        )
        positions[rows] = np.where((near < ALIKE * away)[:, None], found, positions[rows])
        log.info(
            "positions: of %d that moved far, %d fit as well near the recorded place",
            len(rows),
            (near < ALIKE * away).sum(),
        )

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs; the search is one epoch."""
        return {"image": self.image, "probe": self.probe}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing is left to bring back: the engine is made with the object and probe of the state."""
