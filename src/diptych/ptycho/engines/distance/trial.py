"""Short reconstructions of the middle of a scan at other distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.ptycho.engines.distance.scaled import at_factor
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.engines.starts.trial import SEED
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan
from diptych.runtime.cpu.parallel import Workers

GUESS = 15
"""Epochs of PIE from a flat object, of every trial."""

HELD_OUT = 0.02
"""Fraction of the detector pixels held out in a trial."""

SETTLED, JOINT = 10, 30
"""Epochs of maximum likelihood at fixed positions, and with free ones, before the scale of the moves is read."""

ProbeAt = Callable[[Scan], NDArray[np.complex64]]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials at factors of the distance.

    Parameters
    ----------
    part : Scan
        The middle of the scan.
    probe_at : callable
        From the scan at a factor to the initial probe (P, N, N).
    device : torch.device
        Where trials run.
    workers : Workers
        Threads.
    refine_probe, factors, subpixel : bool
        Whether the probe is refined, each frame has a factor, and positions keep their sub-pixel remainder.
    """

    part: Scan
    probe_at: ProbeAt
    device: torch.device
    workers: Workers = field(default_factory=lambda: Workers(1))
    refine_probe: bool = True
    factors: bool = True
    subpixel: bool = True

    def fit(self, factor: float, steps: int = 0) -> tuple[float, float]:
        """Fit over all and over held-out pixels after PIE and ``steps`` of maximum likelihood; infinite where they
        diverged.
        """
        problem, pie = self._guessed(factor)
        image, probe = pie.image, pie.probe
        if steps:
            engine = MaximumLikelihood(problem, image, probe, self._settings(problem))
            for _ in range(steps):
                engine.epoch()
            image, probe = engine.image, engine.probe
        found = full_fit(problem, image, probe, sweep_batch(problem))
        pair = float(found["fit"]), float(found["held_out_fit"])
        return pair if np.isfinite(pair).all() else (float("inf"), float("inf"))

    def free_scale(self, factor: float) -> float:
        """The factor that refined positions ask for, starting from one nearby.

        A new object is built at ``factor``, then object, probe and positions are refined together; the scale of the
        moves (least squares, common shift left out) is what was missing.
        """
        problem, pie = self._guessed(factor)
        recorded = problem.forward.positions
        engine = MaximumLikelihood(problem, pie.image, pie.probe, self._settings(problem))
        for _ in range(SETTLED):
            engine.epoch()
        engine = MaximumLikelihood(problem, engine.image, engine.probe, self._settings(problem, positions=True))
        for _ in range(JOINT):
            engine.epoch()
        middle = recorded - recorded.mean(0)
        moves = problem.forward.positions - recorded
        scale = 1 + float((middle * (moves - moves.mean(0))).sum() / max(float((middle**2).sum()), 1e-12))
        return factor / scale if np.isfinite(scale) and scale > 0 else factor

    def _guessed(self, factor: float) -> tuple[Problem, Pie]:
        scan = at_factor(self.part, factor)
        problem = make_problem(
            scan,
            device=self.device,
            double=False,
            subpixel=self.subpixel,
            held_out=HELD_OUT,
            seed=SEED,
            workers=self.workers,
        )
        if problem.forward.factors is not None:
            problem.forward.factors.fitted = self.factors
        start = torch.from_numpy(self.probe_at(scan).copy()).to(problem.device, problem.complex_dtype)
        settings = PieSettings(batch=int(np.clip(len(problem) // 16, 1, 64)), refine_probe=self.refine_probe)
        probe = scaled_to(start, problem.power)
        pie = Pie(problem, problem.flat_object(), probe, settings, np.random.default_rng(SEED))
        for _ in range(GUESS):
            pie.epoch()
        return problem, pie

    def _settings(self, problem: Problem, *, positions: bool = False) -> LikelihoodSettings:
        return LikelihoodSettings(
            batch=sweep_batch(problem), refine_probe=self.refine_probe, refine_positions=positions
        )
