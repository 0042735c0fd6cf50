"""The stage that follows the engine where the probe changes in the course of the scan."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags.base import VARIATION, Flag
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, has_many_photons
from diptych.ptycho.engines.likelihood.regularised import compare, held_out_deviances, joined_runs, runs_stages
from diptych.ptycho.engines.modes.choice import UNEXPLAINED
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.engines.starts.initial import probe_modes
from diptych.ptycho.engines.thick.asked import refined_positions
from diptych.ptycho.engines.variation.afresh import from_flat, misled
from diptych.ptycho.engines.variation.asked import counted, wanted
from diptych.ptycho.engines.variation.likelihood import VariationLikelihood
from diptych.ptycho.engines.variation.start import common_updates
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward, canonical, shares

log = logging.getLogger("diptych")

MARGIN = 3.0
"""Standard errors by which the held-out deviance must fall for the components to be kept."""

LEAST_GAIN, AUTO_GAIN = 0.05, 0.5
"""Share by which the held-out fit's excess over 1 must fall, too; and, where the components were not asked for, that of
the mean of fit and held-out fit. Drifts beside other faults (N = 32, 1e5 photons, six scans): 60 to 170 %; of another
fault they explain a part (dead lines of the detector, N = 64: 20 to 42 %)."""

MOVES_GAIN = 0.2
"""Share by which it must fall for positions that are refined with the components to be kept."""

SMOOTH, CHANCE = 0.4, 4.0
"""Correlation of consecutive patterns' updates of the probe above which it drifts; and the same in units of chance.
Four mixtures with a drift (N = 32, 100 patterns, 1e5 photons): 0.48 to 0.93, in the better of the tests with and
without factors; sixteen of the other faults: at most 0.15 with the factors as they are. Other faults can reach 0.74
without factors, which costs the time of the fit. A measured trajectory and probe, 1,087 patterns: 0.1 to 0.27."""

TEST_PASSES = 2
"""Passes over the scan of the test."""

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
    fit_before, fit : float
        Held-out fit with a constant probe, and with components.
    change, standard_error : float
        Relative change of the held-out deviance with them, and its standard error.
    """

    kept: bool
    shares: tuple[float, ...]
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
            return str(Flag(VARIATION, f"{text} Not kept: held-out pixels do not ask for it; the probe is constant."))
        text += " probe_variation=0 (--probe-variation 0) keeps the probe constant."
        return str(Flag(VARIATION, text))


@dataclass(frozen=True, eq=False)
class _State:
    """A fit: a run whose best state is object and probe, and what the forward model held with it."""

    run: Run
    variation: Variation | None
    factors: Tensor | None
    fit: float
    level: float

    @classmethod
    def of(cls, problem: Problem, run: Run, variation: Variation | None) -> _State:
        """The problem, at the state of the run, as it is now."""
        assert run.best is not None
        factors, forward = problem.forward.factors, problem.forward
        assert isinstance(forward, VaryingForward)
        forward.variation = variation
        fits = full_fit(problem, run.best[0], run.best[1], sweep_batch(problem))
        fit = float(fits["held_out_fit"])
        values = factors.values.clone() if factors is not None and factors.fitted else None
        return cls(run, variation, values, fit, (fit + float(fits["fit"])) / 2)

    def put(self, problem: Problem, recorded: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Bring the forward model of the problem to this state; object (H, W) and probe (P, N, N)."""
        forward, best = problem.forward, self.run.best
        assert best is not None
        assert isinstance(forward, VaryingForward)
        image, probe, *refined = best
        settle_positions(problem, image, refined, recorded)
        forward.variation = self.variation
        if (factors := forward.factors) is not None:
            factors.fitted, factors.on_trial = self.factors is not None, False
            factors.values = torch.ones_like(factors.values) if self.factors is None else self.factors.clone()
        return image, probe


def with_variation(request: Request, problem: Problem) -> Problem:
    """The problem with a forward model whose probe may vary, where the options leave room for it."""
    return replace(problem, forward=VaryingForward.of(problem.forward)) if wanted(request.options) else problem


def vary_probe(
    request: Request, problem: Problem, run: Run, initial: NDArray[np.complex64], grown: bool
) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """A run continued with components of the probe, where held-out pixels confirm them; record and notes.

    The components start from what the patterns' own updates of the probe have in common
    (:func:`~diptych.ptycho.engines.variation.start.common_updates`). L-BFGS then fits object, probe, components and
    coefficients together, and positions too where the fit stays poor. The forward model of the problem keeps the
    variation. With ``probe_variation="auto"``, nothing is tried unless :func:`drifts`; then, where a constant probe may
    have led the run astray (:func:`~diptych.ptycho.engines.variation.afresh.misled`), from a flat object and the
    ``initial`` probe (P, N, N) first. ``grown`` tells that modes were added in the run.
    """
    count, best = wanted(request.options), run.best
    if not count or run.interrupted or run.reason.startswith(DIVERGED) or best is None or not problem.held.shape[1]:
        return run, {}, ()
    # Epochs that were limited leave misfit that says nothing, and are not exceeded unasked.
    limited = request.options.epochs is not None and run.reason.startswith("all ")
    if count == "auto" and (limited or not runs_stages(request)):
        return run, {}, ()
    if (factors := problem.forward.factors) is not None and factors.on_trial:
        # The run ended, by its number of epochs, before their trial did.
        factors.fitted = factors.on_trial = False
    recorded = request.scan.positions
    recorded = recorded if request.options.subpixel != "round" else np.floor(recorded + 0.5)
    settle_positions(problem, best[0], list(best[2:]), recorded)
    start = _State.of(problem, run, None)
    try:
        if count == "auto" and not (grown or start.level > UNEXPLAINED):
            return run, {}, ()
        if count == "auto" and not drifts(problem, best[0], best[1], request.options.seed):
            start.put(problem, recorded)
            return run, {}, ()
        found = None
        if count == "auto" and misled(run, grown, _chosen_factors(request, start)):
            found = _afresh(request, problem, start, recorded, probe_modes(problem, initial, len(best[1])))
        if found is None:
            found = _best(request, problem, start, recorded)
        return _judged(request, problem, start, found, recorded)
    except KeyboardInterrupt:
        start.put(problem, recorded)
        return replace(run, interrupted=True, reason=f"interrupted after {run.epochs} epochs"), {}, ()


def drifts(problem: Problem, image: Tensor, probe: Tensor, seed: int = 0) -> bool:
    """Whether what the patterns' updates of the probe have in common changes smoothly in the course of the scan.

    With the factors of the frames as they are, or without them: factors take a drift for an intensity that varies.
    Leaves the factors as the last test did.
    """
    least = max(SMOOTH, CHANCE / math.sqrt(len(problem)))
    factors = problem.forward.factors
    for fitted in (True, False) if factors is not None and factors.fitted else (False,):
        if factors is not None:
            factors.fitted = fitted
        _, mixing = common_updates(problem, image, probe, 1, np.random.default_rng([seed, 8]), TEST_PASSES)
        found = smoothness(mixing[:, 1])
        log.info("probe updates: smoothness in the course of the scan %.2f", found)
        if found > least:
            return True
    return False


def smoothness(values: Tensor) -> float:
    """Correlation of each of complex values (M,) with the next, without their mean: 0 for noise, 1 for a slow change.

    What all patterns have in common is a probe that has not converged.
    """
    values = values - values.mean()
    power = float(values.abs().square().sum())
    return float((values[1:] * values[:-1].conj()).sum().real) / power if power > 0 else 0.0


def _chosen_factors(request: Request, state: _State) -> bool:
    """Whether factors of the frames were fitted because of evidence, which a drift can be."""
    return state.factors is not None and request.options.frame_factors == "auto"


def _afresh(
    request: Request, problem: Problem, start: _State, recorded: NDArray[np.float64], probe: Tensor
) -> _State | None:
    """Components from a flat object and initial probe modes; None where they do not explain the patterns."""
    problem.forward.variation = None  # type: ignore[attr-defined]
    run = from_flat(request, problem, start.run, recorded, probe)
    if run.interrupted:
        return replace(start, run=replace(start.run, interrupted=True, reason=run.reason))
    best = _trial(request, problem, _State.of(problem, run, None), recorded, factors=False)
    best = _moved(request, problem, best, recorded)
    log.info("probe that varies, from a flat object: held-out fit %.3g; %.3g before", best.fit, start.fit)
    return best if best.run.interrupted or (best.level < UNEXPLAINED and best.fit < start.fit) else None


def _best(request: Request, problem: Problem, start: _State, recorded: NDArray[np.float64]) -> _State:
    """The best trial. Where factors of the frames were fitted by evidence, they are left out first."""
    chosen = _chosen_factors(request, start)
    best = found = _trial(request, problem, start, recorded, factors=start.factors is not None and not chosen)
    if chosen and found.level > UNEXPLAINED:
        for before in (found, start):
            if best.level > UNEXPLAINED and not best.run.interrupted:
                best = min(best, _trial(request, problem, before, recorded, factors=True), key=_fit_of)
    return _moved(request, problem, best, recorded)


def _moved(request: Request, problem: Problem, best: _State, recorded: NDArray[np.float64]) -> _State:
    """A trial, with positions that are refined too where that explains what the trial does not."""
    if not best.level > UNEXPLAINED or refined_positions(request.options) == "off" or best.run.interrupted:
        return best
    moved = _trial(request, problem, best, recorded, factors=best.factors is not None, moving=True)
    if best.fit - moved.fit > MOVES_GAIN * (best.fit - 1) or moved.run.interrupted:
        best = min(best, moved, key=_fit_of)
        best = replace(best, run=replace(best.run, interrupted=moved.run.interrupted, reason=moved.run.reason))
    return best


def _fit_of(state: _State) -> float:
    return state.fit if math.isfinite(state.fit) else math.inf


def _judged(
    request: Request, problem: Problem, start: _State, best: _State, recorded: NDArray[np.float64]
) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """The better of two fits as the run, and what is said of it."""
    before = held_out_deviances(problem, *start.put(problem, recorded))
    if (variation := best.variation) is None:
        return replace(start.run, interrupted=best.run.interrupted, reason=best.run.reason), {}, ()
    image, probe = best.put(problem, recorded)
    change, error = compare(before, held_out_deviances(problem, image, probe))
    if asked := request.options.probe_variation != "auto":
        gained = start.fit - best.fit > LEAST_GAIN * max(start.fit - 1, LEAST_EXCESS)
        kept = change < -MARGIN * error and gained
    else:
        # The mean of both fits is free of over-fitting to first order, and has half the standard error.
        fallen = start.level - best.level
        certain = fallen > MARGIN * error / 2 * start.level and change < 0
        kept = certain and fallen > AUTO_GAIN * max(start.level - 1, LEAST_EXCESS)
    found = Varied(kept, tuple(shares(variation.first, variation.components)), start.fit, best.fit, change, error)
    log.info("%s", found.flag())
    run = best.run
    if not kept:
        start.put(problem, recorded)
        run = start.run
        run = replace(run, interrupted=True, reason=best.run.reason) if best.run.interrupted else run
    return run, {"probe_variation": asdict(found)}, (found.flag(),) if kept or asked else ()


def _trial(
    request: Request,
    problem: Problem,
    start: _State,
    recorded: NDArray[np.float64],
    *,
    factors: bool,
    moving: bool = False,
) -> _State:
    """Maximum likelihood with components from a state; the state itself where that diverges."""
    image, probe = start.put(problem, recorded)
    options, forward = request.options, problem.forward
    assert isinstance(forward, VaryingForward)
    if forward.factors is not None:
        forward.factors.fitted = factors
    own, rng = options.own("engine"), np.random.default_rng([options.seed, 7])
    settings = LikelihoodSettings(
        batch=own.batch or sweep_batch(problem), poisson=own.likelihood != "amplitude", refine_positions=moving
    )
    if start.variation is None:
        components, mixing = common_updates(problem, image, probe, counted(options) or 1, rng)
    else:
        components, mixing = start.variation.components, start.variation.coefficients
    engine = VariationLikelihood(problem, image, probe, components, mixing, settings)
    run = run_engine(
        engine,
        Run(start=start.run.start),
        epochs=options.epochs,
        stop=options.stop,
        rng=rng,
        stage="probe that varies",
        progress=request.progress,
        cancel=request.cancel,
        many_photons=has_many_photons(problem),
    )
    assert run.best is not None
    if run.reason.startswith(DIVERGED):
        return replace(start, fit=math.inf)
    run.history["stage"] = [FINAL_STAGE] * run.epochs
    image, probe, components, mixing, *shifts = run.best
    assert start.run.best is not None
    refined = start.run.best[2:]
    if shifts:
        forward.fractions = shifts[0].double()
        refined = (torch.from_numpy(forward.positions), torch.tensor(forward.origin))
    first, components, mixing = canonical(probe[0], components, mixing)
    run.best = (image, torch.cat([first[None], probe[1:]]), *refined)
    return _State.of(problem, joined_runs(start.run, run), Variation.of(first, components, mixing))
