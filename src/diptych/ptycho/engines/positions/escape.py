"""Single positions that gradients do not correct: patterns that fit far worse than most, tried at places around.

A position that is wrong by more than the width of the probe's finest structure sits in a local minimum. Once most
positions are right, the object is known there, and a search on a grid finds the place where the pattern fits.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.positions.placing import Placed, Positions
from diptych.ptycho.engines.problem import Problem, in_order, sweep_batch
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.likelihood import deviance
from diptych.ptycho.physics.patches import gather, split
from diptych.runtime.interrupts import stop_if_asked

log = logging.getLogger("diptych")

OUTLYING = 2.0
"""Patterns whose deviance exceeds the median by this factor are tried elsewhere. 2.9 px rms at 1e6 photons, blind
probe, after joint refinement: positions within 0.5 px have at most 2 times the median, one 4.7 px off has 8 times."""

MOST_SHARE = 0.25
"""At most this share of the patterns, the worst, is tried."""

BETTER = 0.8
"""A pattern moves where its deviance falls below this share."""

GRID = 4
"""Places on each side of the current one, along each axis."""

SPACING = 32
"""The places are a window's side over this apart, pixels."""


def pattern_deviances(
    problem: Problem, image: Tensor, probe: Tensor, positions: Positions, chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Deviance (K,) of the fitted pixels of some patterns at any positions, object and probe held.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        Object, on the problem's canvas, and probe modes. Beyond the canvas, the object is transparent.
    positions : (K, 2) array
        (y, x), one for each chosen pattern.
    chosen : (K,) int array
        Which patterns.
    """
    whole, fraction = split(positions)
    corners = whole - np.asarray(problem.origin) - problem.size // 2
    before = np.maximum(-corners.min(0), 0)
    after = np.maximum(corners.max(0) + problem.size - np.asarray(image.shape), 0)
    padding = (int(before[1]), int(after[1]), int(before[0]), int(after[0]))
    wide = torch.nn.functional.pad(image, padding, value=1.0)
    corners, forward = corners + before, problem.forward
    shifts = torch.from_numpy(fraction)
    found = np.empty(len(chosen))
    for some in in_order(len(chosen), sweep_batch(problem)):
        index = torch.from_numpy(chosen[some]).to(problem.device)
        views = forward.views_of(gather(wide, corners[some], problem.size), probe, some, shifts)
        expected = forward.seen(intensity(forward.propagator.forward(views.exit_waves())))
        if (factors := forward.factors) is not None and factors.fitted:
            expected = expected * factors.values[index][:, None, None]
        if forward.background is not None:
            expected = expected + forward.background
        terms = deviance(problem.counts[index], expected.clamp(min=1e-2))
        if problem.invalid is not None:
            terms = terms.masked_fill(problem.invalid if problem.invalid.ndim == 2 else problem.invalid[index], 0.0)
        if problem.held.shape[1]:
            terms.flatten(1).scatter_(1, problem.held[index], 0.0)
        found[some] = terms.sum((1, 2), dtype=torch.float64).cpu().numpy()
    return found


def escaped(problem: Problem, image: Tensor, probe: Tensor) -> Positions:
    """The problem's positions (M, 2), those of outlying patterns moved to where they fit much better."""
    positions = problem.forward.positions
    before = pattern_deviances(problem, image, probe, positions, np.arange(len(problem)))
    worst = np.argsort(-before)[: int(MOST_SHARE * len(problem))]
    worst = worst[before[worst] > OUTLYING * np.median(before)]
    if not len(worst):
        return positions
    spacing, start = problem.size / SPACING, positions[worst].copy()
    here, best = start.copy(), BETTER * before[worst]
    grid = np.arange(-GRID, GRID + 1) * spacing
    for y in grid:
        for x in grid:
            there = start + np.array([y, x])
            found = pattern_deviances(problem, image, probe, there, worst)
            better = found < best
            here[better], best[better] = there[better], found[better]
    log.info("positions: %d patterns fit far worse than most; %d moved", len(worst), int((here != start).any(1).sum()))
    positions[worst] = here
    return positions


def searched(
    problem: Problem, rows: NDArray[np.int64], here: Placed, guess: Positions, reach: float, spacing: float
) -> Positions:
    """Where some patterns fit best on an object that is held: places of a grid within ``reach`` of guesses (K, 2)."""
    some, every = restricted(problem, rows, here.origin), np.arange(len(rows))
    steps = np.arange(-int(reach / spacing), int(reach / spacing) + 1) * spacing
    best, lowest = guess.copy(), np.full(len(rows), np.inf)
    for y in steps:
        stop_if_asked()
        for x in steps[np.hypot(y, steps) <= reach]:
            there = guess + np.array([y, x])
            found = pattern_deviances(some, here.image, here.probe, there, every)
            better = found < lowest
            best[better], lowest[better] = there[better], found[better]
    return best


def restricted(problem: Problem, rows: NDArray[np.int64], origin: tuple[int, int] | None = None) -> Problem:
    """Some patterns as a problem of their own, without factors of the frames."""
    forward, index = problem.forward, torch.from_numpy(rows).to(problem.device)
    fractions = None if forward.fractions is None else forward.fractions[rows]
    invalid = problem.invalid
    return replace(
        problem,
        counts=problem.counts[index],
        forward=replace(
            forward,
            corners=forward.corners[rows],
            fractions=fractions,
            factors=None,
            origin=forward.origin if origin is None else origin,
        ),
        invalid=invalid if invalid is None or invalid.ndim == 2 else invalid[index],
        held=problem.held[index],
        watched=problem.watched[index],
        limits=None,
    )
