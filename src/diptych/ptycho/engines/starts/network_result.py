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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.flags.base import NETWORK, Flag
from diptych.ptycho.engines.likelihood.regularised import held_out_deviances
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.starts.network import hide_held_out, image_under
from diptych.ptycho.neural.canvas import CanvasLikelihood, corrected
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.options import InferenceOptions
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress

log = logging.getLogger("diptych")

CERTAIN = 2.0
"""Standard errors by which the network's image must predict held-out pixels better."""

CLEAR = 3.0
"""Standard errors beyond which the held-out pixels of the run itself decide."""

SHARE = 0.1
"""Pixels held out from a second run of the engine where they do not: ten times as many as usual."""

ENOUGH = 100_000
"""Held-out pixels from which on there is no second run: what they cannot tell apart is nearly the same."""

HOPELESS = 2.0
"""Under a fixed probe the network's image is not computed again where its held-out fit was this many times the
engine's."""

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
    held_out : float
        Share of the pixels that was held out.
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
    held_out: float = 0.0
    prior_error: float | None = None

    @property
    def certainty(self) -> float:
        """The difference in standard errors; positive where the network's image is the better one."""
        if self.difference is None or not self.standard_error:
            return -math.inf if not self.difference else math.copysign(math.inf, self.difference)
        return self.difference / self.standard_error

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
class _State:
    """An engine's object (H, W) and probe (P, N, N) in the problem's gauge, at the problem's positions."""

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
        return cls(problem, image / scale, scaled, tuple(refined))


def network_or_engine(
    request: Request, problem: Problem, run: Run, again: Again
) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """A run whose state is the network's image where held-out pixels confirm that it is better than the engine's.

    The network is run once more, under the engine's probe and positions. Its image must predict the held-out pixels,
    which neither has seen, better by :data:`CERTAIN` standard errors. Where those of the run are too few to tell, the
    engine is run again with more pixels held out. An image that is kept is first corrected by the counts, as far as
    that lets it predict pixels better that are held out from the correction.

    Parameters
    ----------
    problem : Problem
        Made of the request's scan.
    run : Run
        After the engine.
    again : callable
        See :data:`Again`.

    Returns
    -------
    Run, dict, tuple of str
        The run, records for the provenance (``network_result``), and notes on the result.
    """
    if request.network is None or not _asked(request) or run.interrupted or run.best is None:
        return run, {}, ()
    if run.best[0].ndim == 3:
        return run, _record(Evidence("engine", "the object has slices, which the network does not know")), ()
    if not problem.held.shape[1]:
        return run, _record(Evidence("engine", "no pixels are held out that could tell which image is better")), ()
    state = _State.of(problem, run)
    deviances = held_out_deviances(problem, state.image, state.probe)
    if _hopeless(request, problem, run, deviances):
        return run, _record(Evidence("engine", "the network's image fitted much worse", problem.held.numel())), ()
    image, evidence = _compared(request, state, deviances, request.options.held_out)
    undecided = abs(evidence.certainty) < CLEAR and problem.held.numel() < ENOUGH
    if image is not None and undecided:
        log.info("network or engine: not certain (%s); a second run holds out %g %%", evidence.why, 100 * SHARE)
        other, trial = again(_check(request))
        if trial.interrupted:
            return replace(run, interrupted=True, reason=trial.reason), {}, ()
        there = _State.of(other, trial)
        _, evidence = _compared(request, there, held_out_deviances(other, there.image, there.probe), SHARE)
    log.info("%s kept: %s", evidence.kept, evidence.why)
    if image is None or evidence.kept == "engine":
        return run, _record(evidence), ()
    image, error = _corrected(request, state, image)
    evidence = replace(evidence, prior_error=error)
    return replace(run, best=(image, state.probe, *state.refined)), _record(evidence), (evidence.flag(),)


def _asked(request: Request) -> bool:
    """Whether the network's image may be the result."""
    return _inference(request).network_result == "auto"


def _inference(request: Request) -> InferenceOptions:
    given = request.inference.get("options")
    return given if isinstance(given, InferenceOptions) else InferenceOptions()


def _record(evidence: Evidence) -> dict[str, Any]:
    return {"network_result": asdict(evidence)}


def _hopeless(request: Request, problem: Problem, run: Run, deviances: NDArray[np.float64]) -> bool:
    """Whether the network's image, known from the start under the same fixed probe, is far from the engine's."""
    from diptych.ptycho.engines.fit_monitor import full_fit
    from diptych.ptycho.engines.problem import sweep_batch

    if request.options.probe != "fixed" or "network_fit" not in run.start or not deviances.sum() > 0:
        return False
    fit = run.start["network_fit"]
    assert run.best is not None
    reached = full_fit(problem, run.best[0], run.best[1], sweep_batch(problem))["held_out_fit"]
    return fit is None or fit > HOPELESS * reached


def _compared(
    request: Request, state: _State, engine: NDArray[np.float64], share: float
) -> tuple[Tensor | None, Evidence]:
    """The network's image (H, W) under a state's probe, and what the held-out pixels say.

    Parameters
    ----------
    engine : (M,) float64
        Deviances of the engine's image, of each pattern's held-out pixels.
    share : float
        Of the pixels held out.
    """
    problem = state.problem
    image = image_under(request, problem, _shown(request, state), state.probe)
    if image is None:
        return None, Evidence("engine", "the network's image is not finite or predicts no photons")
    network = held_out_deviances(problem, image, state.probe)
    if not np.isfinite(network).all():
        return None, Evidence("engine", "the network's image predicts counts that are not finite")
    gain, pixels = engine - network, problem.held.numel()
    error = float(gain.std(ddof=1)) * math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    found = Evidence(
        "engine",
        "",
        pixels,
        float(network.sum()) / pixels,
        float(engine.sum()) / pixels,
        float(gain.sum()),
        error if math.isfinite(error) else None,
        share,
    )
    certain = found.certainty if math.isfinite(error) else 0.0
    why = (
        f"held-out deviance {found.network:.4g} with the network's image against {found.engine:.4g} with the engine's, "
        f"per pixel; difference {certain:+.1f} standard errors"
    )
    return image, replace(found, kept="network" if certain >= CERTAIN else "engine", why=why)


def _shown(request: Request, state: _State) -> Scan:
    """The scan as the network sees it: without held-out pixels, at the engine's positions, without frame factors."""
    scan, problem = request.scan, state.problem
    counts = hide_held_out(scan, problem)
    factors = problem.forward.factors
    if factors is not None and factors.fitted:
        dark = 0.0 if scan.background is None else scan.background
        each = factors.values.cpu().numpy().astype(np.float32)[:, None, None]
        counts = np.maximum((counts - dark) / np.maximum(each, 1e-6) + dark, 0).astype(np.float32)
    probe = state.probe.to(torch.complex64).cpu().numpy()
    return replace(
        scan, counts=counts, positions=problem.forward.positions, probe=probe, probe_calibrated=True, truth=None
    )


def _corrected(request: Request, state: _State, image: Tensor) -> tuple[Tensor, float | None]:
    """The network's image (H, W) after its correction by the counts, and the error that was assumed of it."""
    passes, problem = _inference(request).canvas_passes, state.problem
    if not passes:
        return image, None
    patterns = ScanPatterns(_shown(request, state))
    likelihood = CanvasLikelihood(patterns, ProbeModel.of(patterns).to(problem.device), problem.origin, problem.shape)
    found, error = corrected(likelihood, image.to(torch.complex64), passes)
    return found.to(image.dtype), error


def _check(request: Request) -> Request:
    """The request of a second run with :data:`SHARE` of the pixels held out; it writes and reads no checkpoint."""
    told = request.progress

    def labelled(report: Progress) -> None:
        assert told is not None
        told(replace(report, stage=f"{report.stage}, check"))

    return replace(
        request,
        options=request.options.with_changes(held_out=SHARE),
        checkpoint=None,
        resume=False,
        progress=None if told is None else labelled,
    )
