"""The stage that follows the engine where the probe changes in the course of the scan."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags.base import VARIATION, Flag
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.likelihood.regularised import compare, held_out_deviances, joined_runs
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.engines.variation.likelihood import VariationLikelihood
from diptych.ptycho.engines.variation.start import common_updates
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward, canonical, shares

log = logging.getLogger("diptych")

MARGIN = 3.0
"""Standard errors by which the held-out deviance must fall for the components to be kept."""

LEAST_GAIN = 0.05
"""Share by which the held-out fit's excess over 1 must fall, too."""

LEAST_EXCESS = 0.1
"""Excess of which the share is taken at least: where noise is fitted, there is none."""


@dataclass(frozen=True)
class Varied:
    """What components of the probe brought.

    Parameters
    ----------
    kept : bool
        Whether they are part of the result.
    shares : tuple of float
        Share of each component in the power of the probe, mean of the patterns; largest first.
    coefficients : tuple of tuples of (float, float)
        For each pattern that of the first mode and of each component, real and imaginary part; none where not kept.
        The mean square of a component's is 1.
    fit_before, fit : float
        Held-out fit with a constant probe, and with components.
    change, standard_error : float
        Relative change of the held-out deviance with them, and its standard error.
    """

    kept: bool
    shares: tuple[float, ...]
    coefficients: tuple[tuple[tuple[float, float], ...], ...]
    fit_before: float
    fit: float
    change: float
    standard_error: float

    def flag(self) -> str:
        """A note on the result."""
        count = len(self.shares)
        parts = ", ".join(f"{100 * each:.2g} %" for each in self.shares)
        text = f"{count} component{'s' if count > 1 else ''}, {parts} of the probe's power: held-out fit "
        text += f"{self.fit_before:.3g} -> {self.fit:.3g}."
        if not self.kept:
            text += " Not kept: held-out pixels do not ask for it, and the result has a constant probe."
        return str(Flag(VARIATION, text))


def with_variation(request: Request, problem: Problem) -> Problem:
    """The problem with a forward model whose probe may vary, where the options ask for it."""
    return replace(problem, forward=VaryingForward.of(problem.forward)) if request.options.probe_variation else problem


def vary_probe(request: Request, problem: Problem, run: Run) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """A run continued with components of the probe, where held-out pixels confirm them; record and notes.

    The components start from what the patterns' own updates of the probe have in common
    (:func:`~diptych.ptycho.engines.variation.start.common_updates`). L-BFGS then fits object, probe, components and
    coefficients together; positions stay where the engine left them. The forward model of the problem keeps the
    variation.
    """
    forward, best = problem.forward, run.best
    assert isinstance(forward, VaryingForward)
    if run.interrupted or run.reason.startswith(DIVERGED) or best is None:
        return run, {}, ()
    if (factors := forward.factors) is not None and factors.on_trial:
        # The run ended, by its number of epochs, before their trial did.
        factors.fitted = factors.on_trial = False
    image, probe, *refined = best
    settle_positions(problem, image, refined, forward.positions)
    before, fit_before = held_out_deviances(problem, image, probe), _held_out(problem, image, probe)
    values = None if factors is None else factors.values.clone()
    longer = _fitted(request, problem, (image, probe))
    if longer.reason.startswith(DIVERGED) or longer.best is None:
        forward.variation = None
        return run, {}, ()
    image, probe, components, mixing = longer.best
    first, components, mixing = canonical(probe[0], components, mixing)
    probe = probe.clone()
    probe[0] = first
    forward.variation = Variation.of(first, components, mixing)
    change, error = compare(before, held_out_deviances(problem, image, probe))
    fit = _held_out(problem, image, probe)
    gained = fit_before - fit > LEAST_GAIN * max(fit_before - 1, LEAST_EXCESS)
    kept = change < -MARGIN * error and gained
    rows = tuple(tuple((float(c.real), float(c.imag)) for c in row) for row in mixing.cpu().numpy()) if kept else ()
    found = Varied(kept, tuple(shares(first, components)), rows, fit_before, fit, change, error)
    log.info("%s", found.flag())
    if kept:
        longer.best = (image, probe, *refined)
        run = joined_runs(run, longer)
    else:
        forward.variation = None
        if factors is not None and values is not None:
            factors.values = values
        run = replace(run, interrupted=longer.interrupted, reason=longer.reason) if longer.interrupted else run
    return run, {"probe_variation": asdict(found)}, (found.flag(),)


def _fitted(request: Request, problem: Problem, start: tuple[Any, Any]) -> Run:
    """The run of maximum likelihood with components; its best state has them and the coefficients at its end."""
    options = request.options
    own, rng = options.own("engine"), np.random.default_rng([options.seed, 7])
    settings = LikelihoodSettings(batch=own.batch or sweep_batch(problem), poisson=own.likelihood != "amplitude")
    components, mixing = common_updates(problem, *start, options.probe_variation, rng)
    engine = VariationLikelihood(problem, *start, components, mixing, settings)
    run = run_engine(
        engine,
        Run(),
        epochs=options.epochs,
        stop=options.stop,
        rng=rng,
        stage="probe that varies",
        progress=request.progress,
        cancel=request.cancel,
    )
    run.history["stage"] = [FINAL_STAGE] * run.epochs
    return run


def _held_out(problem: Problem, image: Any, probe: Any) -> float:
    """Held-out fit of a state."""
    return float(full_fit(problem, image, probe, sweep_batch(problem))["held_out_fit"])
