"""A start without what a constant probe led the engine to: factors, moved positions, a probe that mimics the change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from diptych.ptycho.engines.base import Engine
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.likelihood.regularised import joined_runs
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import run_engine

PIE_EPOCHS, LIKELIHOOD_EPOCHS = 40, 30
"""Epochs of PIE, and then of maximum likelihood, with a constant probe."""


def misled(run: Run, grown: bool, factors: bool) -> bool:
    """Whether a constant probe may have led a run astray: it refined positions, added modes, or fitted factors."""
    assert run.best is not None
    return grown or factors or len(run.best) > 2


def from_flat(request: Request, problem: Problem, run: Run, recorded: Positions, probe: Tensor) -> Run:
    """A run from a flat object at the recorded positions (M, 2), from initial probe modes (P, N, N).

    A constant probe, without factors of the frames; its history continues that of ``run``. Brings the problem there.
    """
    if problem.forward.factors is not None:
        problem.forward.factors.fitted = False
    y, x = (int(value) for value in recorded.mean(0))
    flat = place(problem, Placed(problem.flat_object()[:1, :1], probe, recorded, (y, x)))
    own, rng = request.options.own("engine"), np.random.default_rng([request.options.seed, 9])
    poisson = own.likelihood != "amplitude"
    pie = PieSettings(batch=int(np.clip(len(problem) // 16, 1, 64)), poisson=poisson)
    found = _passes(request, Pie(problem, flat, probe, pie, rng), PIE_EPOCHS, rng)
    found.history["stage"] = [0.0] * found.epochs
    if found.best is not None and not found.interrupted:
        settings = LikelihoodSettings(batch=own.batch or sweep_batch(problem), poisson=poisson)
        engine = MaximumLikelihood(problem, found.best[0], found.best[1], settings)
        found = joined_runs(found, _passes(request, engine, LIKELIHOOD_EPOCHS, rng))
    return replace(joined_runs(run, found), best=found.best)


def _passes(request: Request, engine: Engine, epochs: int, rng: np.random.Generator) -> Run:
    return run_engine(
        engine,
        Run(),
        epochs=epochs,
        stop=False,
        rng=rng,
        stage="probe that varies",
        progress=request.progress,
        cancel=request.cancel,
    )
