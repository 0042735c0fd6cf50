"""The network's image or the engine's as the result: whichever predicts held-out pixels better.

Where photons are few or the overlap is small, the counts do not determine the image, and a network that was trained on
objects of the same kind knows more than the likelihood does. On objects of another kind its image is wrong. Detector
pixels that neither has seen tell which is the case.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags.base import NETWORK, Flag
from diptych.ptycho.engines.likelihood.regularised import held_out_deviances
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.starts.initial import probe_modes
from diptych.ptycho.engines.starts.network import hide_held_out, image_under
from diptych.ptycho.physics.illumination import settle_unlit
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.neural.options import InferenceOptions

log = logging.getLogger("diptych")

CLEAR = 3.0
"""Standard errors by which the network's image must predict held-out pixels better to be kept. Not two: the evidence is
looked at up to four times, and at 100 photons per pattern images with a larger error were 2.7 ahead."""

CERTAIN = 2.0
"""Standard errors by which it must be worse for no further run; and better than a flat object."""

SHARE, CHECKS = 0.04, 3
"""Where they do not, the engine is run again up to so many times, with this share of other pixels held out. With 10 %
held out, the engine itself loses too much at 100 photons per pattern: errors of 0.32, 0.34, 0.38 with 1, 4, 10 %."""

ENOUGH = 30_000
"""Held-out pixels from which on no run is repeated: what they cannot tell apart is nearly the same."""

HOPELESS = 2.0
"""Under a fixed probe the network's image is not computed again where its held-out fit was this many times the
engine's."""

UNDETERMINED = 1.6
"""Held-out fit over fit above which the counts do not determine the image: what a run ends at depends on its start."""

Again = Callable[[Request], tuple[Problem, Run]]
"""Runs the engine anew for another request."""


@dataclass(frozen=True)
class Evidence:
    """What held-out pixels say of both images.

    Parameters
    ----------
    kept : {"network", "engine"}
        Whose image is the result.
    why : str
        In words.
    pixels : int
        Held-out pixels.
    network, engine : float or None
        Mean deviance per held-out pixel; None where it was not computed.
    difference, standard_error : float or None
        Engine less network, summed over all held-out pixels, and its standard error from the differences between
        patterns.
    runs : int
        Of the engine, each with other pixels held out.
    prior_error : float or None
        Assumed error of the network's image in its correction by the counts; None: it was not corrected.
    """

    kept: str
    why: str
    pixels: int = 0
    network: float | None = None
    engine: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    runs: int = 0
    prior_error: float | None = None

    def flag(self) -> str:
        """A note on a result that is the network's image."""
        how = (
            "as the network predicts it"
            if self.prior_error is None
            else f"corrected by the counts, with an assumed error of {self.prior_error:g}"
        )
        text = (
            f"the object is the trained network's image, {how}: {self.why}. What the counts do not determine comes "
            "from the objects that the network was trained on. network_result=start (--network-result start) returns "
            "the engine's image."
        )
        return str(Flag(NETWORK, text))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Held-out deviances (M,) of each pattern, of the engine's image, the network's and a flat one."""

    engine: NDArray[np.float64]
    network: NDArray[np.float64]
    flat: NDArray[np.float64]
    pixels: int
    runs: int = 1

    def joined(self, other: _Sums) -> _Sums:
        """Of these runs and others, with other pixels of the same patterns held out."""
        return _Sums(
            self.engine + other.engine,
            self.network + other.network,
            self.flat + other.flat,
            self.pixels + other.pixels,
            self.runs + other.runs,
        )

    @property
    def certainty(self) -> float:
        """By how many standard errors the network's image is better than the engine's."""
        return certainty(self.engine - self.network)

    def evidence(self) -> Evidence:
        """The decision, in numbers and words."""
        network, engine = float(self.network.sum()) / self.pixels, float(self.engine.sum()) / self.pixels
        gain = self.engine - self.network
        why = (
            f"held-out deviance {network:.4g} with the network's image against {engine:.4g} with the engine's, per "
            f"pixel; difference {self.certainty:+.1f} standard errors"
        )
        kept = "network" if self.certainty >= CLEAR else "engine"
        if kept == "network" and certainty(self.flat - self.network) < CERTAIN:
            kept, why = "engine", f"{why}; but a flat image does as well as the network's"
        error = standard_error(gain)
        known = error if math.isfinite(error) else None
        return Evidence(kept, why, self.pixels, network, engine, float(gain.sum()), known, self.runs)


def standard_error(differences: NDArray[np.float64]) -> float:
    """Of the sum of differences (M,), one for each pattern, from their spread; infinite for a single one."""
    return float(differences.std(ddof=1)) * math.sqrt(len(differences)) if len(differences) > 1 else math.inf


def certainty(differences: NDArray[np.float64]) -> float:
    """The sum of differences (M,) in standard errors."""
    total, error = float(differences.sum()), standard_error(differences)
    return total / error if error > 0 else math.copysign(math.inf, total) if total else 0.0


@dataclass(frozen=True, eq=False)
class _State:
    """An object (H, W) and a probe (P, N, N) in the problem's gauge, at the problem's positions.

    Unlit pixels of the object are near 1, as in the result: noise there would tell against the engine.
    """

    problem: Problem
    image: Tensor
    probe: Tensor
    refined: tuple[Tensor, ...]

    @classmethod
    def of(cls, problem: Problem, run: Run) -> _State:
        """The best state of a run, with the problem put at its positions."""
        assert run.best is not None
        image, probe, *refined = run.best
        if (factors := problem.forward.factors) is not None and factors.on_trial:
            factors.fitted = factors.on_trial = False
        settle_positions(problem, image, refined, problem.forward.positions)
        scaled = scaled_to(probe, problem.power)
        scale = float(scaled.abs().square().sum().sqrt() / probe.abs().square().sum().sqrt())
        return cls(problem, _settled(problem, image / scale, scaled), scaled, tuple(refined))


def network_or_engine(
    request: Request, problem: Problem, run: Run, initial: NDArray[np.complex64], again: Again
) -> tuple[Problem, Run, dict[str, Any], tuple[str, ...]]:
    """A run whose state is the network's image where held-out pixels confirm that it is better than the engine's.

    The network is run once more, under the engine's probe and positions; and under the initial probe, which few photons
    make no better. Its image must predict the held-out pixels, which neither has seen, better by :data:`CLEAR` standard
    errors. Where those of the run are too few to tell, the engine is run again with other pixels held out. An image
    that is kept is first corrected by the counts, as far as that lets it predict pixels better that are held out from
    the correction. Where the image is not kept although the engine started from it, and the counts do not determine
    what the engine ends at, the engine is run from a flat object, too.

    Parameters
    ----------
    problem : Problem
        Made of the request's scan.
    run : Run
        After the engine.
    initial : (P, N, N) complex64
        The initial probe.
    again : callable
        See :data:`Again`.

    Returns
    -------
    Problem, Run, dict, tuple of str
        The run and its problem, records for the provenance (``network_result``), and notes on the result.
    """
    if request.network is None or not _asked(request) or run.interrupted or run.best is None:
        return problem, run, {}, ()
    if run.best[0].ndim == 3:
        return problem, run, _record(Evidence("engine", "the object has slices, which the network does not know")), ()
    if not problem.held.shape[1]:
        return problem, run, _record(Evidence("engine", "no pixels are held out that could tell which is better")), ()
    state = _State.of(problem, run)
    try:
        evidence, found = _judged(request, state, run, initial, again)
        log.info("%s kept: %s", evidence.kept, evidence.why)
        if evidence.kept == "network" and found is not None:
            found, error = _corrected(request, found)
            evidence = replace(evidence, prior_error=error)
            start = {**run.start, "kept": "network"}
            kept = replace(run, best=(found.image, found.probe, *found.refined), start=start)
            return problem, kept, _record(evidence), (evidence.flag(),)
        problem, run = _from_flat(request, state, run, again)
    except _Stopped as stop:
        return problem, replace(run, interrupted=True, reason=str(stop)), {}, ()
    return problem, run, _record(evidence), ()


class _Stopped(Exception):
    """A repeated run was interrupted or cancelled."""


def _judged(
    request: Request, state: _State, run: Run, initial: NDArray[np.complex64], again: Again
) -> tuple[Evidence, _State | None]:
    """What held-out pixels say, and the state with the network's image."""
    problem, options = state.problem, request.options
    if _hopeless(request, state, run):
        return Evidence("engine", "the network's image fitted much worse", problem.held.numel()), None
    compared = [_compared(request, state, state.probe)]
    if options.probe != "fixed":
        compared.append(_compared(request, state, probe_modes(problem, initial, options.first_modes)))
    usable = [pair for pair in compared if pair is not None]
    if not usable:
        return Evidence("engine", "the network's image is not finite or predicts no photons"), None
    found, sums = min(usable, key=lambda pair: float(pair[1].network.sum()))
    own = found.probe is state.probe
    for check in range(CHECKS):
        certain = sums.certainty
        if problem.held.numel() >= ENOUGH or certain >= CLEAR or certain <= -CERTAIN:
            break
        log.info("network or engine: %+.1f standard errors; the engine is run again with other pixels", certain)
        other = _State.of(*_whole(again(_check(request, options.seed + 1 + check))))
        probe = other.probe if own else probe_modes(other.problem, initial, options.first_modes)
        more = _compared(request, other, probe)
        if more is None:
            break
        sums = sums.joined(more[1])
    return sums.evidence(), found


def _whole(made: tuple[Problem, Run]) -> tuple[Problem, Run]:
    """A repeated run, unless it was stopped."""
    if made[1].interrupted or made[1].best is None:
        raise _Stopped(made[1].reason)
    return made


def _from_flat(request: Request, state: _State, run: Run, again: Again) -> tuple[Problem, Run]:
    """The run, or one from a flat object where the start decides what comes out and the network's is not clearly
    better.
    """
    problem = state.problem
    if run.start.get("object") != "network" or problem.held.numel() >= ENOUGH:
        return problem, run
    fits = full_fit(problem, state.image, state.probe, sweep_batch(problem))
    if not fits["held_out_fit"] > UNDETERMINED * fits["fit"]:
        return problem, run
    alone = replace(request, network=None, inference={}, checkpoint=None, resume=False, progress=_told(request))
    other = _State.of(*(made := _whole(again(alone))))
    before, after = (held_out_deviances(each.problem, each.image, each.probe) for each in (state, other))
    if certainty(after - before) >= CERTAIN:
        return problem, run
    why = "the counts do not determine the image, and held-out pixels do not favour the network's as start"
    log.info("the engine's image from a flat object is kept: %s", why)
    return made[0], replace(made[1], start={**run.start, "object": "flat", "why": why})


def _asked(request: Request) -> bool:
    """Whether the network's image may be the result."""
    return _inference(request).network_result == "auto"


def _inference(request: Request) -> InferenceOptions:
    from diptych.ptycho.neural.options import InferenceOptions

    given = request.inference.get("options")
    return given if isinstance(given, InferenceOptions) else InferenceOptions()


def _settled(problem: Problem, image: Tensor, probe: Tensor) -> Tensor:
    """The object (H, W) with unlit pixels near 1."""
    light = problem.forward.illumination(probe).cpu().numpy()
    return torch.from_numpy(settle_unlit(image.cpu().numpy(), light)).to(image)


def _record(evidence: Evidence) -> dict[str, Any]:
    return {"network_result": asdict(evidence)}


def _hopeless(request: Request, state: _State, run: Run) -> bool:
    """Whether the network's image, known from the start under the same fixed probe, is far from the engine's."""
    if request.options.probe != "fixed" or "network_fit" not in run.start:
        return False
    fit, problem = run.start["network_fit"], state.problem
    reached = full_fit(problem, state.image, state.probe, sweep_batch(problem))["held_out_fit"]
    return fit is None or bool(fit > HOPELESS * reached)


def _compared(request: Request, state: _State, probe: Tensor) -> tuple[_State, _Sums] | None:
    """The state with the network's image under a probe, and the deviances of both; None where it cannot be used."""
    problem = state.problem
    image = image_under(request, problem, _shown(request, state, probe), probe)
    if image is None:
        return None
    image = _settled(problem, image, probe)
    engine = held_out_deviances(problem, state.image, state.probe)
    network, flat = (held_out_deviances(problem, each, probe) for each in (image, torch.ones_like(image)))
    if not np.isfinite(network).all():
        return None
    return replace(state, image=image, probe=probe), _Sums(engine, network, flat, problem.held.numel())


def _shown(request: Request, state: _State, modes: Tensor) -> Scan:
    """The scan as the network sees it: without held-out pixels, at the engine's positions, without frame factors."""
    scan, problem = request.scan, state.problem
    counts = hide_held_out(scan, problem)
    factors = problem.forward.factors
    if factors is not None and factors.fitted:
        dark = 0.0 if scan.background is None else scan.background
        each = factors.values.cpu().numpy().astype(np.float32)[:, None, None]
        counts = np.maximum((counts - dark) / np.maximum(each, 1e-6) + dark, 0).astype(np.float32)
    probe = modes.to(torch.complex64).cpu().numpy()
    return replace(
        scan, counts=counts, positions=problem.forward.positions, probe=probe, probe_calibrated=True, truth=None
    )


def _corrected(request: Request, state: _State) -> tuple[_State, float | None]:
    """The network's image after its correction by the counts, and the error that was assumed of it."""
    from diptych.ptycho.neural.canvas import CanvasLikelihood, corrected, without_held_out
    from diptych.ptycho.neural.data.patterns import ScanPatterns
    from diptych.ptycho.neural.probe_model import ProbeModel

    passes, problem = _inference(request).canvas_passes, state.problem
    factors = problem.forward.factors
    # Factors of frames are as noisy as few photons make them, and would go into the image.
    if not passes or (factors is not None and factors.fitted):
        return state, None
    scan = _shown(request, state, state.probe)
    patterns = ScanPatterns(scan)
    likelihood = CanvasLikelihood(patterns, ProbeModel.of(patterns).to(problem.device), problem.origin, problem.shape)
    # The pixels that judge the correction must not have been seen by the network either.
    fewer = replace(scan, counts=without_held_out(scan.counts, scan.mask))
    start = image_under(request, problem, fewer, state.probe)
    if start is None:
        return state, None
    found, error = corrected(likelihood, start.to(torch.complex64), passes)
    return (state, None) if error is None else (replace(state, image=found.to(state.image.dtype)), error)


def _check(request: Request, seed: int) -> Request:
    """The request of a run with :data:`SHARE` of other pixels held out."""
    options = request.options.with_changes(held_out=SHARE, seed=seed)
    return replace(request, options=options, checkpoint=None, resume=False, progress=_told(request))


def _told(request: Request) -> ProgressCallback | None:
    """The progress callback, told that a run is a repeated one."""
    told = request.progress
    if told is None:
        return None
    return lambda report: told(replace(report, stage=f"{report.stage}, repeated"))
