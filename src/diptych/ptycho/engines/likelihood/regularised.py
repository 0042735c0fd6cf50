"""What follows the engine: total variation where photons are few.

At few photons per pixel the most likely object follows the noise. A penalty on its total variation
(:mod:`diptych.ptycho.physics.descent.total_variation`) trades that noise for a bias: edges are kept, fine texture is
smoothed. Its strength is that for which held-out pixels, which no step fits, are predicted best.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines import builtin
from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.flags.base import REGULARISED, Flag
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.modes.trials import ModesFound
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, detect, in_order, share_out, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.physics.descent.slow_phases import LIT
from diptych.ptycho.physics.descent.total_variation import TotalVariation
from diptych.ptycho.physics.likelihood import deviance

log = logging.getLogger("diptych")

MOST_PHOTONS = 1e5
"""Photons per pattern above which ``auto`` never regularises."""

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""Strengths that are tried, nats for a step of 1 between neighbours."""

STEPS = 50
"""Steps of maximum likelihood of each trial."""

MARGIN = 2.0
"""Standard errors by which the held-out deviance must fall for ``auto`` to regularise."""


@dataclass(frozen=True)
class Regularised:
    """The strength that held-out pixels ask for, and the evidence.

    Parameters
    ----------
    strength : float
        Of the total variation, nats; 0: none.
    change : float
        Relative change of the held-out deviance with it.
    standard_error : float
        Of the change.
    tried : tuple of (float, float, float)
        Strength, change and standard error of each trial.
    """

    strength: float
    change: float
    standard_error: float
    tried: tuple[tuple[float, float, float], ...]

    def flag(self) -> str:
        """A note on the result."""
        text = (
            f"total variation, strength {self.strength:g}, held-out deviance {100 * self.change:+.1f} % "
            f"(+- {100 * self.standard_error:.1f}); edges are kept, fine texture is biased. Error bars do not cover "
            "that bias. regularisation=off (--regularisation off) leaves it out."
        )
        return str(Flag(REGULARISED, text))


def continued(
    request: Request, problem: Problem, run: Run, modes: ModesFound | None
) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """A run continued where the options and the held-out pixels ask for it; records for the provenance, and notes.

    ``modes`` tells of probe modes that were added in the run.
    """
    record, notes = ({}, ()) if modes is None else ({"modes": asdict(modes)}, (modes.flag(),))
    run, found = regularise(request, problem, run)
    if found is None:
        return run, record, notes
    return run, {**record, "regularisation": asdict(found)}, (*notes, *([found.flag()] if found.strength else []))


def regularise(request: Request, problem: Problem, run: Run) -> tuple[Run, Regularised | None]:
    """A run continued with total variation of the strength that predicts held-out pixels best, and the evidence.

    The run as it is, and None, where no strength was tried: with ``regularisation="off"``, or ``"auto"`` and more than
    :data:`MOST_PHOTONS`, without held-out pixels, or after an interruption.
    """
    choice = request.options.regularisation
    whole = not run.interrupted and not run.reason.startswith(DIVERGED)
    asked = choice == "total-variation" or (choice == "auto" and problem.power <= MOST_PHOTONS)
    if not asked or not runs_stages(request) or not whole or run.best is None or not problem.held.shape[1]:
        return run, None
    image, probe, *refined = run.best
    settle_positions(problem, image, refined, problem.forward.positions)
    before = held_out_deviances(problem, image, probe)
    tried, best = [], None
    for strength in STRENGTHS:
        trial = _trial(request, problem, (image, probe), strength)
        if trial.interrupted:
            return replace(run, interrupted=True, reason=trial.reason), None
        if trial.reason.startswith(DIVERGED) or trial.best is None:
            continue
        change, error = compare(before, held_out_deviances(problem, *trial.best))
        log.info(
            "total variation of strength %g: held-out deviance %+.2f %% (+- %.2f)", strength, *_percent(change, error)
        )
        tried.append((strength, change, error))
        confirmed = choice == "total-variation" or change < -MARGIN * error
        if confirmed and (best is None or change < best[1]):
            best = (strength, change, error, trial)
    if best is None:
        log.info("no regularisation: the held-out pixels do not ask for it")
        return run, Regularised(0.0, 0.0, 0.0, tuple(tried))
    strength, change, error, trial = best
    assert trial.best is not None
    longer = joined_runs(run, replace(trial, start=run.start, best=(*trial.best, *refined)))
    return longer, Regularised(strength, change, error, tuple(tried))


def compare(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Relative change of a sum of deviances of patterns, (M,) each, and its standard error by pattern."""
    whole, difference = max(float(before.sum()), 1e-30), after - before
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else math.inf
    return float(difference.sum()) / whole, spread * math.sqrt(len(difference)) / whole


def held_out_deviances(problem: Problem, image: Tensor, probe: Tensor) -> NDArray[np.float64]:
    """Poisson deviance (M,) of each pattern at its held-out pixels."""
    counts, valid = problem.held_counts

    def part(some_batches: Sequence[NDArray[np.int64]]) -> list[Tensor]:
        sums = []
        for some in some_batches:
            _, expected = detect(problem, some, problem.forward.views(image, probe, some).exit_waves())
            index = torch.from_numpy(some).to(problem.device)
            terms = deviance(counts[index], expected.flatten(1).gather(1, problem.held[index]))
            terms = terms if valid is None else torch.where(valid[index], terms, 0.0)
            sums.append(terms.sum(1, dtype=torch.float64))
        return sums

    parts = share_out(problem, part, in_order(len(problem), sweep_batch(problem)))
    found: NDArray[np.float64] = torch.cat([each for some in parts for each in some]).cpu().numpy()
    return found


def _trial(request: Request, problem: Problem, start: tuple[Tensor, Tensor], strength: float) -> Run:
    """Steps of maximum likelihood with a penalty, from a result; the state is that of the last step."""
    image, probe = start
    light = problem.forward.illumination(probe)
    options = request.options
    settings = LikelihoodSettings(
        batch=sweep_batch(problem),
        poisson=options.own("engine").likelihood != "amplitude",
        refine_probe=options.probe != "fixed",
    )
    engine = MaximumLikelihood(problem, image, probe, settings, TotalVariation(light > LIT * light.max(), strength))
    run = run_engine(
        engine,
        Run(),
        epochs=STEPS,
        stop=False,
        rng=np.random.default_rng([options.seed, 4]),
        stage=f"total variation {strength:g}",
        progress=request.progress,
        cancel=request.cancel,
    )
    run.history["stage"] = [FINAL_STAGE] * run.epochs
    if not run.interrupted and not run.reason.startswith(DIVERGED):
        run.best, run.best_epoch = engine.snapshot(), run.epochs
    return run


def _percent(*values: float) -> tuple[float, ...]:
    return tuple(100 * value for value in values)


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
