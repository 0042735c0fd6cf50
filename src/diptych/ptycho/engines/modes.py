"""Number of probe modes by evidence: more modes where the held-out pixels of the scan ask for them.

A beam that is partially coherent, vibrates or moves during an exposure gives patterns that no single mode explains. The
trials continue from the result: modes are added, and object and modes are refined for some steps. Held-out pixels,
which no step fits, tell whether the added modes explain the patterns or their noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines import builtin
from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import MODES, Flag
from diptych.ptycho.engines.flags.evidence import gather_evidence
from diptych.ptycho.engines.flags.misfit import intensity_varies
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.engines.starts.trial import SEED, central_part
from diptych.ptycho.physics.modes import start_modes
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

LADDER = (2, 3, 5, 8)
"""Numbers of modes that are tried, in this order."""

UNEXPLAINED = 1.1
"""Mean of fit and held-out fit above which modes are tried."""

PATTERNS = 150
"""Patterns at the centre of the scan on which they are tried."""

HELD_OUT = 0.05
"""Fraction of the detector pixels held out in the trials."""

STEPS = 25
"""Steps of maximum likelihood of each trial."""

LEAST_GAIN = 0.1
"""Share by which the held-out fit's excess over 1 must fall for more modes to be kept."""


@dataclass(frozen=True)
class ModesFound:
    """How many probe modes the held-out pixels ask for.

    Parameters
    ----------
    before, modes : int
        Number of modes that the result has, and that fit best.
    fit_before, fit : float
        Held-out fit of the trials with each.
    """

    before: int
    modes: int
    fit_before: float
    fit: float

    @property
    def text(self) -> str:
        """The evidence in words."""
        change = 100 * (self.fit / self.fit_before - 1)
        return f"{self.before} -> {self.modes}: held-out deviance {change:+.0f} %"

    def flag(self) -> str:
        """A note on the result."""
        text = f"{self.text} in trials. modes={self.before} (--modes {self.before}) keeps the number."
        return str(Flag(MODES, text))


def unexplained(problem: Problem, image: Tensor, probe: Tensor, verdict: Callable[[], trials.Verdict]) -> bool:
    """Whether modes are to be tried: photon noise does not explain the patterns, and neither does a wrong reading or a
    beam whose intensity varies.
    """
    evidence = gather_evidence(problem, image, probe, refined=True)
    if not (evidence.level > UNEXPLAINED and trials.suspect(evidence)) or intensity_varies(evidence):
        return False
    found = verdict()
    return found.best is AS_GIVEN and not found.alike


def find_modes(scan: Scan, problem: Problem, image: Tensor, probe: Tensor) -> ModesFound:
    """The number of modes by trials on the central part of a scan.

    Parameters
    ----------
    scan : Scan
        The counts of ``problem``; its positions are not used.
    image, probe : (H, W) and (P, N, N) complex tensors
        Result to start from, at the problem's positions.
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
    if (factors := problem.forward.factors) is not None and factors.fitted and trial.forward.factors is not None:
        trial.forward.factors.fitted = True
    before = best = _fit(trial, start, probe)
    found = len(probe)
    for modes in (n for n in LADDER if n > len(probe)):
        fit = _fit(trial, start, start_modes(probe, modes))
        log.info("probe modes: held-out fit %.4g with %d, %.4g with %d", best, found, fit, modes)
        if not best - fit > LEAST_GAIN * max(best - 1, LEAST_GAIN):
            break
        found, best = modes, fit
    return ModesFound(len(probe), found, before, best)


def _fit(problem: Problem, image: Tensor, probe: Tensor) -> float:
    """Held-out fit after some steps of maximum likelihood from a state."""
    engine = MaximumLikelihood(problem, image, probe, LikelihoodSettings(batch=sweep_batch(problem)))
    for _ in range(STEPS):
        engine.epoch()
    found = full_fit(problem, engine.image, engine.probe, sweep_batch(problem))["held_out_fit"]
    return float(found) if np.isfinite(found) else float("inf")


def more_modes(request: Request, problem: Problem, run: Run) -> tuple[Run, ModesFound | None]:
    """A run continued with more probe modes, where ``modes="auto"`` and the held-out pixels ask for them, and the
    evidence; else the run as it is, and None.
    """
    options = request.options
    stages = runs_stages(request)
    whole = not run.interrupted and not run.reason.startswith(DIVERGED)
    if options.modes != "auto" or options.probe == "fixed" or not stages or not whole or run.best is None:
        return run, None
    image, probe, *refined = run.best
    settle_positions(problem, image, refined, problem.forward.positions)
    if not unexplained(problem, image, probe, lambda: request.verdict):
        return run, None
    found = find_modes(request.scan, problem, image, probe)
    log.info("probe modes %s", found.text)
    if found.modes == found.before:
        return run, None
    settings = LikelihoodSettings(
        batch=sweep_batch(problem),
        poisson=options.own("engine").likelihood != "amplitude",
        refine_positions=bool(refined),
    )
    engine = Continuation(problem, image, start_modes(probe, found.modes), settings)
    longer = run_engine(
        engine,
        Run(start=run.start),
        epochs=None,
        stop=options.stop,
        rng=np.random.default_rng([options.seed, 3]),
        stage="more probe modes",
        progress=request.progress,
        cancel=request.cancel,
    )
    return joined_runs(run, longer), found


def runs_stages(request: Request) -> bool:
    """Whether the engine ends with maximum likelihood, from which a run can be continued."""
    return request.options.chosen("engine").build is builtin.build_automatic


def joined_runs(first: Run, second: Run) -> Run:
    """Two runs in a row as one: the best state is that of the second."""
    history = {
        name: first.history.get(name, [float("nan")] * first.epochs)
        + [value + _offset(first, name) for value in second.history.get(name, [FINAL_STAGE] * second.epochs)]
        for name in {**first.history, **second.history}
    }
    return replace(second, history=history, best_epoch=first.epochs + second.best_epoch)


def _offset(run: Run, column: str) -> float:
    """What is added to a column of the run that follows: epochs and seconds go on."""
    return run.history[column][-1] if column in ("epoch", "seconds") else 0.0


class Continuation(MaximumLikelihood):
    """Maximum likelihood from a result with more modes; its snapshots hold the positions where these are refined."""

    def snapshot(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Object and probe, and positions and origin of the canvas where positions are refined."""
        forward = self.problem.forward
        refined = (torch.from_numpy(forward.positions), torch.tensor(forward.origin))
        return (self.image, self.probe, *(refined if self.settings.refine_positions else ()))
