"""States of the trials of modes, background and point spread on a part of a scan, and how they are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags.base import BACKGROUND, POINT_SPREAD
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.modes.background import fitted_background
from diptych.ptycho.engines.modes.spread import fitted_spread
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.engines.starts.trial import SEED, central_part
from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.scan import Scan
from diptych.runtime.interrupts import stop_if_asked

EXTRAS: Mapping[str, Callable[[Problem, Tensor, Tensor], object]] = MappingProxyType(
    {BACKGROUND: fitted_background, POINT_SPREAD: fitted_spread}
)
"""What may be fitted beside more modes, and how: each changes the problem's."""

ESTIMATES = MappingProxyType({BACKGROUND: 2, POINT_SPREAD: 24})
"""Most estimates between epochs of PIE, and one more after them. Object and probe that were fitted to blurred patterns
hide much of the blur: each estimate leaves half (0.7 px at N = 64) to four fifths (1 px at N = 32) of what is missing.
"""

STILL = 0.01
"""Widths of a point spread no longer move where an estimate changes them by less than this, pixels."""

PATTERNS = 100
"""Patterns at the centre of the scan on which they are tried."""

HELD_OUT = 0.03
"""Fraction of the detector pixels held out in the trials."""

GUESS, STEPS, MOST_STEPS = 6, 6, 24
"""Epochs of PIE and least steps of maximum likelihood of each trial; most steps where the fit still falls. On 120
patterns of a Siemens star, held out, with 3 modes: 1.60 after 6 and 4, 1.63 after 24 steps of maximum likelihood alone,
which took 2.5 times as long."""

FALLING, RECENT = 0.9, 4
"""The fit still falls where the held-out fit's excess over 1 sinks below this share in so many steps."""


class State(NamedTuple):
    """Where a trial stands.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        Object and probe modes.
    background : (N, N) tensor or None
        Counts that are the same in every frame.
    spread : PointSpread or None
        Of the detector.
    fit : float
        Held-out fit.
    """

    image: Tensor
    probe: Tensor
    background: Tensor | None
    spread: PointSpread | None
    fit: float = float("nan")


def settled(problem: Problem, start: State, moving: bool = False) -> State:
    """The state, with its held-out fit, after some epochs from another one.

    ``moving`` refines positions, too, all in maximum likelihood.
    """
    # Its own: positions are changed in place.
    problem = replace(problem, forward=replace(problem.forward, background=start.background, spread=start.spread))
    image, probe = (start.image, start.probe) if moving else _guess(problem, start.image, start.probe)
    settings = LikelihoodSettings(batch=sweep_batch(problem), refine_positions=moving)
    engine = MaximumLikelihood(problem, image, probe, settings)
    fits: list[float] = []
    least = GUESS + STEPS if moving else STEPS
    while len(fits) < least or (len(fits) < MOST_STEPS and fits[-1] - 1 < FALLING * (fits[-1 - RECENT] - 1)):
        stop_if_asked()
        fits.append(engine.epoch()["held_out_fit"])
    found = full_fit(problem, engine.image, engine.probe, sweep_batch(problem))["held_out_fit"]
    return start._replace(
        image=engine.image, probe=engine.probe, fit=float(found) if np.isfinite(found) else float("inf")
    )


def fitted(problem: Problem, here: State, extra: str) -> State:
    """The state after one of :data:`EXTRAS` was fitted."""
    problem = replace(problem, forward=replace(problem.forward, background=here.background, spread=here.spread))
    image, probe = here.image, here.probe
    for _ in range(ESTIMATES[extra]):
        before = problem.forward.spread
        EXTRAS[extra](problem, image, probe)
        image, probe = _guess(problem, image, probe)
        if extra == POINT_SPREAD and alike(before, problem.forward.spread):
            break
    EXTRAS[extra](problem, image, probe)
    forward = problem.forward
    return settled(problem, State(image, probe, forward.background, forward.spread))


def promise(problem: Problem, here: State, extra: str) -> float:
    """Held-out fit with one of :data:`EXTRAS` for the object and probe as they are: higher than once these are fitted
    with it, too.
    """
    problem = replace(problem, forward=replace(problem.forward, background=here.background, spread=here.spread))
    EXTRAS[extra](problem, here.image, here.probe)
    found = full_fit(problem, here.image, here.probe, sweep_batch(problem))["held_out_fit"]
    return float(found) if np.isfinite(found) else float("inf")


def alike(one: PointSpread | None, other: PointSpread | None) -> bool:
    """Whether two point spreads have the same widths, up to :data:`STILL`."""
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one.widths, other.widths, rtol=0, atol=STILL))


def _guess(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Object and probe after some epochs of PIE."""
    batch = int(np.clip(len(problem) // 16, 1, 64))
    guess = Pie(problem, image, probe, PieSettings(batch=batch), np.random.default_rng(SEED))
    for _ in range(GUESS):
        stop_if_asked()
        guess.epoch()
    return guess.image, guess.probe


def central_problem(scan: Scan, problem: Problem, image: Tensor, probe: Tensor, varies: bool) -> tuple[Problem, State]:
    """The central part of a scan as a problem of its own, and the state (H, W), (P, N, N) of the whole on its canvas;
    with factors of the frames where these are fitted, or the beam ``varies``.
    """
    part = central_part(replace(scan, positions=problem.forward.positions), PATTERNS)
    trial = make_problem(
        part,
        device=problem.device,
        double=problem.complex_dtype == torch.complex128,
        subpixel=problem.forward.fractions is not None,
        held_out=HELD_OUT,
        seed=SEED,
        power=problem.power,
        workers=problem.workers,
    )
    (top, left), (height, width) = np.subtract(trial.origin, problem.origin), trial.shape
    start = image[max(top, 0) : top + height, max(left, 0) : left + width]
    if tuple(start.shape) != trial.shape:
        whole = trial.flat_object()
        y, x = max(-int(top), 0), max(-int(left), 0)
        whole[y : y + start.shape[0], x : x + start.shape[1]] = start
        start = whole
    fitted = varies or (problem.forward.factors is not None and problem.forward.factors.fitted)
    if fitted and trial.forward.factors is not None:
        trial.forward.factors.fitted = True
    return trial, State(start, probe, problem.forward.background, problem.forward.spread)
