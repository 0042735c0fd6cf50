"""The stage that follows the engine where the sample is thick: one object becomes slices, which are fitted together."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.engines.checkpoint import Run, load_checkpoint
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.flags.base import SLICES, Flag
from diptych.ptycho.engines.likelihood.maximum_likelihood import has_many_photons
from diptych.ptycho.engines.likelihood.regularised import continued, joined_runs
from diptych.ptycho.engines.modes.trials import ModesFound
from diptych.ptycho.engines.positions.placing import settle_positions
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.engines.thick.asked import refined_positions
from diptych.ptycho.engines.thick.likelihood import SlicedLikelihood
from diptych.ptycho.engines.thick.trials import best_start, likelihood_settings
from diptych.ptycho.engines.variation.stage import vary_probe, with_variation
from diptych.ptycho.physics.thick.slices import SlicedForward, between_slices, shared_out
from diptych.ptycho.physics.thick.spacing import depth_of_field_m, longest_m, scale_of

log = logging.getLogger("diptych")

STAGE = 4.0
"""Number of this stage in the history column ``stage``."""

LEAST_GAIN = 0.05
"""Share by which the held-out fit's excess over 1 must fall for slices to be worth it."""


@dataclass(frozen=True)
class Sliced:
    """What slices brought.

    Parameters
    ----------
    slices : int
        How many.
    distance_m : float
        From one to the next, metres.
    depths_of_field : float
        The distance over the depth of field of the finest detail.
    fit_before, fit : float
        Held-out fit (the fit where nothing is held out) of one slice, and of all.
    """

    slices: int
    distance_m: float
    depths_of_field: float
    fit_before: float
    fit: float

    def flag(self) -> str:
        """A note on the result."""
        text = (
            f"{self.slices}, {self.distance_m:.3g} m apart ({self.depths_of_field:.2g} depths of field of the finest "
            f"detail); held-out fit {self.fit_before:.3g} with one slice, {self.fit:.3g} with all."
        )
        if not self.fit_before - self.fit > LEAST_GAIN * max(self.fit_before - 1, LEAST_GAIN):
            text += " One slice explains the counts as well: how structure is shared among the slices means nothing."
        return str(Flag(SLICES, text))


def with_slices(request: Request, problem: Problem) -> Problem:
    """The problem with a forward model whose object may have slices, or whose probe may vary, where asked for."""
    options, scan = request.options, request.scan
    if options.slices == 1 or options.slice_distance_m is None:
        return with_variation(request, problem)
    where = f"reconstruct {scan.name}: slices"
    wavelength, pixel = scale_of(scan.geometry, scan.size, where)
    thickness, most = (options.slices - 1) * options.slice_distance_m, longest_m(wavelength, pixel, scan.size)
    if thickness > most:
        log.warning(
            "%s: %.3g m from first to last slice; beyond %.3g m the finest detail spreads over more than the window "
            "of %d pixels, and wraps round it",
            *(scan.name, thickness, most, scan.size),
        )
    between = between_slices(
        scan.geometry, scan.size, options.slice_distance_m, problem.complex_dtype, problem.device, where
    )
    return replace(problem, forward=SlicedForward.of(problem.forward, between))


def checkpoint_of(checkpoint: Path) -> Path:
    """The file with the state of this stage, beside that of the engine before it."""
    return checkpoint.with_suffix(".slices.npz")


def after_engine(
    request: Request, problem: Problem, run: Run, initial: NDArray[np.complex64], modes: ModesFound | None
) -> tuple[Run, dict[str, Any], tuple[str, ...]]:
    """A run continued where the options ask for it, with slices, with a probe that varies, or by
    :func:`~diptych.ptycho.engines.likelihood.regularised.continued`; records for the provenance, and notes.

    ``initial`` (P, N, N) is the initial probe, ``modes`` tells of probe modes that were added in the run.
    """
    if request.options.slices == 1:
        run, found, notes = vary_probe(request, problem, run, initial, modes is not None)
        run, more, said = continued(request, problem, run, modes)
        return run, found | more, (*notes, *said)
    run, sliced = fit_slices(request, problem, run, initial)
    return (run, {}, ()) if sliced is None else (run, {"slices": asdict(sliced)}, (sliced.flag(),))


def fit_slices(
    request: Request, problem: Problem, run: Run, initial: NDArray[np.complex64]
) -> tuple[Run, Sliced | None]:
    """A run continued with slices, where the options ask for them, and what they brought; else as it is, and None.

    The state of the run is then slices (S, H, W), probe, and positions where they are refined. They start from the
    object of the run, shared out evenly, in the plane that short trials prefer. ``initial`` is the initial probe.
    """
    options, best = request.options, run.best
    if options.slices == 1 or run.interrupted or run.reason.startswith(DIVERGED) or best is None:
        return run, None
    if (factors := problem.forward.factors) is not None and factors.on_trial:
        # The run ended, by its number of epochs, before their trial did.
        factors.fitted = factors.on_trial = False
    image, probe, *refined = best
    settle_positions(problem, image, refined, problem.forward.positions)
    before = _held_out(problem, image, probe)
    start = shared_out(image, problem.forward.illumination(probe), options.slices), probe
    if not _resumed(request):
        trial = best_start(request, problem, start, initial)
        if trial.interrupted:
            return replace(run, interrupted=True, reason=trial.reason), None
        assert trial.best is not None
        start = trial.best[0], trial.best[1]
    moving = refined_positions(options) == "on"
    engine = SlicedLikelihood(problem, *start, replace(likelihood_settings(request, problem), refine_positions=moving))
    longer = _advanced(request, problem, engine, Run(start=run.start), request.identity(probe.cpu().numpy()))
    longer.history["stage"] = [STAGE] * longer.epochs
    joined = joined_runs(run, longer)
    assert joined.best is not None
    slices, probe, *refined = joined.best
    settle_positions(problem, slices, refined, problem.forward.positions)
    found = Sliced(options.slices, *_spacing(request), before, _held_out(problem, slices, probe))
    log.info("%s", found.flag())
    return joined, found


def _resumed(request: Request) -> bool:
    """Whether this stage has a state to continue from."""
    return request.resume and request.checkpoint is not None and checkpoint_of(request.checkpoint).exists()


def _advanced(request: Request, problem: Problem, engine: SlicedLikelihood, run: Run, identity: dict[str, Any]) -> Run:
    """The run of an engine, from its checkpoint where it is resumed."""
    options = request.options
    rng = np.random.default_rng([options.seed, 5])
    path = None if request.checkpoint is None else checkpoint_of(request.checkpoint)
    if path is not None and _resumed(request):
        run = load_checkpoint(path, engine, rng, identity, problem.device)
    return run_engine(
        engine,
        run,
        epochs=options.epochs,
        stop=options.stop,
        rng=rng,
        stage=f"{options.slices} slices",
        progress=request.progress,
        checkpoint=path,
        identity=identity,
        cancel=request.cancel,
        many_photons=has_many_photons(problem),
    )


def _spacing(request: Request) -> tuple[float, float]:
    """Distance between slices, metres and depths of field."""
    distance = request.options.slice_distance_m or 0.0
    scale = scale_of(request.scan.geometry, request.scan.size, "slices")
    return distance, distance / depth_of_field_m(*scale)


def _held_out(problem: Problem, image: Any, probe: Any) -> float:
    """Held-out fit of a state; its fit where nothing is held out."""
    fits = full_fit(problem, image, probe, sweep_batch(problem))
    return float(fits["held_out_fit"] if np.isfinite(fits["held_out_fit"]) else fits["fit"])
