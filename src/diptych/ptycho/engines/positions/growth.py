"""Positions that are wrong by more than joint refinement corrects: a small part first, then its neighbours.

A drift of tens of pixels hardly displaces neighbours against each other, but a reconstruction of the whole scan sees
all of it. A small part is reconstructed alone, in halves: object and positions of one half from a flat object, then a
search that places the patterns of the other half on that object, which does not hold them yet, and the same the other
way round. Where a part fits, its neighbours are placed on its object, with the moves of those nearest to them as the
first guess, object, probe and positions are refined together, and so on to the edge of the scan. A pattern that fits
far worse than most is taken out of the part again, so that its share does not spoil the object, and tried once more
when all others are placed.

Search for single positions during a reconstruction: Maiden et al., Ultramicroscopy 120, 64 (2012).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit, level
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.distortion import PositionSearch
from diptych.ptycho.engines.positions.escape import OUTLYING, SPACING, escaped, pattern_deviances, restricted, searched
from diptych.ptycho.engines.positions.placing import Placed, Positions, place, step_length
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.physics.probe import defocused, pupil_edge, to_pupil

log = logging.getLogger("diptych")

Rows = NDArray[np.int64]

SEED_PATTERNS = 36
"""Patterns of a part that is reconstructed alone."""

MOST_SEEDS = 16
"""Parts, or other initial probes of them, that are tried at most."""

GOOD_SEED, PROMISING_SEED, USABLE_SEED = 1.6, 3.5, 5.0
"""Held-out fit of a part below which no other is tried, below which it is tried once more from where it ended, and
above which none is extended. N = 64, 1e6 photons, 225 patterns, drift of 50 px and jitter of 5 px: 1.3 to 1.5 with
positions within 0.5 px of each other, 1.7 to 2.5 where some are off by several, 7 to 25 where the search failed."""

DEFOCI = (2.0, -2.0, 4.0, -4.0, 6.0, -6.0)
"""Defocus of the initial probe, rad at the edge of its pupil, that is tried: parts with wrong positions are only found
with a probe in focus within about 1 rad, and positions that are wrong mislead the search for the focus before."""

CYCLES = 10
"""Both halves of a part are exchanged so often."""

AROUND, FARTHEST = 1.75, 4
"""The other half is searched so far from the recorded positions: steps of the scan, and at most a window's side over
the second."""

LEAST_PATTERNS = 12
"""Of a scan that is divided."""

START, SETTLE, ROUND = 8, 12, 15
"""Epochs of PIE from a flat object, of joint refinement of a half, and of one round with all patterns of a part."""

ADDED, LEAST_ADDED = 0.12, 4
"""Share of the patterns already placed, and number, that are added at a time."""

ADDED_EPOCHS = 8
"""Epochs of each of two rounds of joint refinement after patterns were added."""

REACH, NEAR = 0.2, 1.5
"""How far from the guess an added pattern is searched, in windows; and the finer search that follows, pixels."""

LEAST_KEPT = 0.7
"""A part that is reconstructed alone is of no use where it fits less than this share of its patterns."""

TRIES = 2
"""A pattern is added so often at most, before it is placed by its neighbours alone."""

NEIGHBOURS = 6
"""Placed patterns whose moves give the first guess."""

CENTRES = ((0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1), (0, -1), (0, 1), (1, 0), (-1, 0))
"""Centres of the parts, in quarters of the scan's extent."""


@dataclass(frozen=True, eq=False)
class Part:
    """Patterns that are placed, and their object.

    Parameters
    ----------
    rows : (K,) int array
        Which patterns, ascending.
    placed : Placed
        Object, probe and the positions (K, 2) of these patterns.
    fit : float
        Held-out fit.
    """

    rows: Rows
    placed: Placed
    fit: float


@dataclass(frozen=True, eq=False)
class Method:
    """How parts are reconstructed; their batches follow from their size.

    Parameters
    ----------
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the start from a flat object, and of joint refinement.
    """

    pie: PieSettings
    likelihood: LikelihoodSettings

    def flat(self, some: Problem, probe: Tensor, positions: Positions, seed: int) -> Placed:
        """A few epochs of PIE from a flat object."""
        place(some, Placed(some.flat_object()[:1, :1], probe, positions, _corner(positions, some.size)))
        return rebuilt(some, probe, replace(self.pie, batch=max(1, len(some) // 16)), START, seed)

    def refined(self, some: Problem, here: Placed, epochs: int) -> Placed:
        """Joint refinement of object, probe and positions."""
        return refined(some, here, replace(self.likelihood, batch=sweep_batch(some)), epochs)

    def settled(self, problem: Problem, rows: Rows, here: Placed, rounds: int, epochs: int, *, drops: bool) -> Part:
        """Rounds of joint refinement of some patterns; between them, single patterns escape, or are taken out where the
        part ``drops`` those that fit far worse than most.
        """
        some = restricted(problem, rows)
        for number in range(rounds):
            if number:
                here = replace(here, positions=escaped(some, here.image, here.probe))
            here = self.refined(some, here, epochs)
            misfit = pattern_deviances(some, here.image, here.probe, here.positions, np.arange(len(rows)))
            kept = misfit <= OUTLYING * np.median(misfit)
            if drops and not kept.all():
                rows, here = rows[kept], replace(here, positions=here.positions[kept])
                some = restricted(problem, rows)
                here = replace(here, image=place(some, here), origin=some.origin)
        return Part(rows, here, level(full_fit(some, here.image, here.probe, sweep_batch(some))))


class Growth(PositionSearch):
    """Places all patterns, from a small part outwards; an engine whose epoch is one part, or one extension of it.

    Its state is the start until all patterns are placed and fit better.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the start, or at the new positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    first : sequence of (P, N, N) complex tensors
        Initial probes of the parts, in turn.
    recorded : (M, 2) array
        The positions before any refinement; parts start from them.
    method : Method
        How parts are reconstructed.
    most : int
        Parts, or other initial probes of them, that are tried at most.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        first: Sequence[Tensor],
        recorded: Positions,
        method: Method,
        most: int = MOST_SEEDS,
    ) -> None:
        self.problem, self._recorded, self._method, self._most = problem, recorded, method, most
        self._first = [*first, *(refocused(problem, first[0]) if method.pie.refine_probe else ())]
        self._best, self._seeds, self._part, self._ended = Placed.of(problem, image, probe), 0, None, False
        self._epochs, self._tries = 0, np.zeros(len(problem), np.int64)

    _part: Part | None

    @property
    def most_epochs(self) -> int:
        """One more than were run, as long as it goes on."""
        return self._epochs if self._ended else self._epochs + 1

    def epoch(self) -> dict[str, float]:
        """Try a part; or add patterns to the best one; or, where all are placed, judge them."""
        self._epochs += 1
        part = self._part
        if self._seeks():
            self._seek()
        elif part is None or part.fit > USABLE_SEED:
            self._ended = True
        elif len(others := self._to_add(part)):
            self._extend(part, others)
        else:
            self._finish(part)
        return self._report(self.problem)

    def _seeks(self) -> bool:
        found = self._part is not None and self._part.fit < GOOD_SEED
        return self._seeds < self._most and not found and not self._tries.any()

    def _seek(self) -> None:
        low, high = self._recorded.min(0), self._recorded.max(0)
        turn, which = divmod(self._seeds, len(self._first))
        centre = (low + high) / 2 + (high - low) / 4 * np.asarray(CENTRES[turn % len(CENTRES)])
        wanted = min(SEED_PATTERNS, len(self.problem))
        rows = np.sort(np.atleast_1d(cKDTree(self._recorded).query(centre, k=wanted)[1])).astype(np.int64)
        found = alone(self.problem, rows, self._recorded[rows], self._first[which], self._seeds, self._method)
        if GOOD_SEED <= found.fit < PROMISING_SEED:
            start, positions = found.placed, self._recorded[rows].copy()
            positions[np.isin(rows, found.rows)] = start.positions
            again = alone(self.problem, rows, positions, start.probe, MOST_SEEDS + self._seeds, self._method)
            found = again if again.fit < found.fit else found
        log.info("positions: %d patterns alone, number %d: held-out fit %.3g", len(rows), self._seeds + 1, found.fit)
        self._seeds += 1
        if self._part is None or found.fit < self._part.fit:
            self._part = found

    def _to_add(self, part: Part) -> Rows:
        """Patterns that are not placed and may be tried."""
        others = np.setdiff1d(np.arange(len(self.problem)), part.rows)
        return others[self._tries[others] < TRIES]

    def _extend(self, part: Part, others: Rows) -> None:
        """Add the patterns next to the part, those tried less often first."""
        least = self._tries[others].min()
        away = cKDTree(self._recorded[part.rows]).query(self._recorded[others], k=min(NEIGHBOURS, len(part.rows)))[0]
        order = np.lexsort([away.mean(1), self._tries[others] > least])
        added = np.sort(others[order][: max(LEAST_ADDED, int(ADDED * len(part.rows)))])
        self._tries[added] += 1
        self._part = extended(self.problem, part, added, self._recorded, self._method)
        log.info("positions: %d of %d patterns placed", len(self._part.rows), len(self.problem))

    def _finish(self, part: Part) -> None:
        """A new object at the positions found; they are kept where it fits better than the start."""
        problem, self._ended = self.problem, True
        before = level(full_fit(problem, self.image, self.probe, sweep_batch(problem)))
        part = renewed(problem, part, self._recorded, self._method)
        log.info("positions: all placed, held-out fit %.3g before, %.3g after", before, part.fit)
        if part.fit < before:
            self._best = part.placed

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        mine = {
            "image": self.image,
            "probe": self.probe,
            "growth_recorded": torch.from_numpy(self._recorded),
            "growth_counts": torch.tensor([self._seeds, self._epochs, self._ended]),
            "growth_tries": torch.from_numpy(self._tries),
        }
        if (part := self._part) is not None:
            mine["growth_rows"] = torch.from_numpy(part.rows)
            mine["growth_image"], mine["growth_probe"] = part.placed.image, part.placed.probe
            mine["growth_positions"] = torch.from_numpy(part.placed.positions)
            mine["growth_origin"] = torch.tensor(part.placed.origin)
            mine["growth_fit"] = torch.tensor(part.fit, dtype=torch.float64)
        return mine

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._recorded = state["growth_recorded"].cpu().numpy()
        self._seeds, self._epochs, ended = (int(value) for value in state["growth_counts"])
        self._ended, self._part, self._tries = bool(ended), None, state["growth_tries"].cpu().numpy()
        if "growth_rows" in state:
            y, x = (int(value) for value in state["growth_origin"])
            positions = state["growth_positions"].cpu().numpy()
            placed = Placed(state["growth_image"], state["growth_probe"], positions, (y, x))
            self._part = Part(state["growth_rows"].cpu().numpy(), placed, float(state["growth_fit"]))


def refocused(problem: Problem, probe: Tensor) -> list[Tensor]:
    """A probe (P, N, N) at other defoci; none in the near field, where a wrong one only magnifies."""
    if problem.forward.propagator.fixed:
        return []
    pupil = to_pupil(probe.cpu().numpy())
    edge = pupil_edge((np.abs(pupil) ** 2).sum(0))
    return [torch.from_numpy(defocused(pupil, edge, phase)).to(probe) for phase in DEFOCI]


def alone(problem: Problem, rows: Rows, recorded: Positions, probe: Tensor, seed: int, method: Method) -> Part:
    """Some patterns reconstructed alone, in halves, from positions (K, 2) that may be wrong by several pixels."""
    reach = min(AROUND * step_length(recorded), problem.size / FARTHEST)
    positions, rng = recorded.copy(), np.random.default_rng(seed)
    probe, count = probe.clone(), len(rows)
    for cycle in range(CYCLES):
        drawn = rng.permutation(count)
        for half, rest in ((drawn[: count // 2], drawn[count // 2 :]), (drawn[count // 2 :], drawn[: count // 2])):
            half, rest = np.sort(half), np.sort(rest)
            some = restricted(problem, rows[half])
            here = method.refined(some, method.flat(some, probe, positions[half], cycle), SETTLE)
            moves, probe = here.positions - recorded[half], here.probe
            shift = np.median(moves, axis=0)
            near = np.hypot(*(moves - shift).T) <= reach
            positions[half] = np.where(near[:, None], here.positions, positions[half])
            guess = searched(problem, rows[rest], here, recorded[rest] + shift, reach, problem.size / SPACING)
            positions[rest] = searched(problem, rows[rest], here, guess, NEAR, NEAR / 2)
    here = method.flat(restricted(problem, rows), probe, positions, seed)
    part = method.settled(problem, rows, here, 3, ROUND, drops=True)
    return part if len(part.rows) >= LEAST_KEPT * len(rows) else replace(part, fit=float("inf"))


def extended(problem: Problem, part: Part, added: Rows, recorded: Positions, method: Method) -> Part:
    """A part with other patterns (K,), those of them that fit."""
    near = cKDTree(recorded[part.rows]).query(recorded[added], k=min(NEIGHBOURS, len(part.rows)))[1]
    moves = part.placed.positions - recorded[part.rows]
    guess = recorded[added] + np.median(moves[near], axis=1)
    guess = searched(problem, added, part.placed, guess, REACH * problem.size, problem.size / SPACING)
    guess = searched(problem, added, part.placed, guess, NEAR, NEAR / 2)
    rows = np.concatenate([part.rows, added])
    order = np.argsort(rows)
    positions = np.concatenate([part.placed.positions, guess])[order]
    here = replace(part.placed, positions=positions)
    return method.settled(problem, rows[order], here, 2, ADDED_EPOCHS, drops=True)


def renewed(problem: Problem, part: Part, recorded: Positions, method: Method) -> Part:
    """All patterns with a new object; those that are not in the part are searched around their neighbours' moves."""
    here, rows, every = part.placed, part.rows, np.arange(len(problem))
    positions, rest = recorded.copy(), np.setdiff1d(every, rows)
    positions[rows] = here.positions
    if len(rest):
        near = cKDTree(recorded[rows]).query(recorded[rest], k=min(NEIGHBOURS, len(rows)))[1]
        guess = recorded[rest] + np.median((here.positions - recorded[rows])[near.reshape(len(rest), -1)], axis=1)
        guess = searched(problem, rest, here, guess, 1.5 * REACH * problem.size, problem.size / SPACING)
        positions[rest] = searched(problem, rest, here, guess, NEAR, NEAR / 2)
    whole = restricted(problem, every)
    return method.settled(problem, every, method.flat(whole, here.probe, positions, 0), 2, ROUND, drops=False)


def _corner(positions: Positions, size: int) -> tuple[int, int]:
    """A pixel (y, x) within the windows of positions."""
    y, x = (int(value) for value in positions.mean(0))
    return y, x
