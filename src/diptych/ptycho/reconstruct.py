"""``reconstruct``: from a scan to a Reconstruction. Initial guess, engine, stop rule, result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.base import EngineInput
from diptych.ptycho.engines.flags.known import Known
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.request import Request, TrainedNetwork
from diptych.ptycho.engines.starts.initial import InitialGuess, initial_object, initial_probe, probe_modes
from diptych.ptycho.engines.starts.network import network_guess, opened
from diptych.ptycho.engines.starts.network_image import in_counts, network_image
from diptych.ptycho.engines.thick.asked import refined_positions
from diptych.ptycho.error_bars import with_error_bars
from diptych.ptycho.neural.options import InferenceOptions
from diptych.ptycho.prepare.clean import Cleaned, clean
from diptych.ptycho.prepare.photons import gain_flag, in_photons
from diptych.ptycho.prepare.pixels import limit_of
from diptych.ptycho.prepare.positions import check_memory
from diptych.ptycho.prepare.preparation import prepare
from diptych.ptycho.prepare.preparation_options import preparation_of
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.cpu.parallel import Workers, shared_out
from diptych.runtime.device import ExecutionOptions, choose_device
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    import torch

    from diptych.ptycho.engines.base import Engine
    from diptych.ptycho.engines.checkpoint import Run
    from diptych.ptycho.engines.modes.choice import ModeChoice
    from diptych.ptycho.engines.problem import Problem
    from diptych.ptycho.engines.run import CancelToken

log = logging.getLogger("diptych")


class Interrupted(KeyboardInterrupt):
    """A reconstruction was interrupted (Ctrl-C) or cancelled; ``result`` is the best state so far."""

    def __init__(self, result: Reconstruction) -> None:
        super().__init__("interrupted")
        self.result = result


def reconstruct(
    scan: Scan,
    model: TrainedNetwork | str | Path | None = None,
    options: ReconstructionOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    execution: ExecutionOptions | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    inference: InferenceOptions | None = None,
    folder: str | Path | None = None,
    cancel: CancelToken | None = None,
    known: Known | None = None,
    **overrides: Any,
) -> Reconstruction:
    """Recover the complex object (and the probe) from a scan.

    Parameters
    ----------
    scan : Scan
        Counts, positions and an initial probe.
    model : Model or path, optional
        A trained network, or its file. Its image of the scan is the initial object, unless a flat object is as good;
        ``provenance["start"]`` tells which, and why. It is the result where held-out pixels confirm that it is better
        than the engine's; see ``provenance["network_result"]``.
    options : ReconstructionOptions, optional
        How; by default engine, batches, number of epochs and stop are chosen automatically.
    progress : callable, optional
        Called with a :class:`~diptych.runtime.progress.Progress` after each epoch.
    execution : ExecutionOptions, optional
        Device, precision, threads.
    checkpoint : path, optional
        NPZ file for the state of the run, written every 20 s and at the end.
    resume : bool
        Continue from ``checkpoint`` where it exists; scan and options must be the same (``epochs``, ``stop`` and
        ``error_bars`` may change). On the same machine with as many threads, the result equals that of an uninterrupted
        run.
    inference : InferenceOptions, optional
        How the network is run.
    folder : path, optional
        Where ``inference.log_patch_stats`` writes.
    cancel : CancelToken, optional
        Object whose ``requested`` is checked before each epoch: True ends the run as Ctrl-C does.
    known : Known, optional
        What was found about readings of scans: shared by several runs with one scan, its readings are tried once.
    **overrides
        Single options by name, over those in ``options``.

    Returns
    -------
    Reconstruction
        Object on a canvas in the coordinates of the positions, orthogonal probe modes with sum |P|^2 in photons,
        history, flags.

    Raises
    ------
    InputError
        If the scan has no probe, an initial guess or the model does not fit the scan, or an option is wrong.
    Interrupted
        On Ctrl-C, or when cancelled; its ``result`` is the best state so far.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=64, step=2.0, dose=1e5, seed=0)
    >>> result = diptych.reconstruct(scan)
    >>> result.object.values.dtype.name, result.probe.shape
    ('complex64', (1, 16, 16))
    >>> result.provenance["fit"] < 2
    True
    >>> quick = diptych.reconstruct(scan, engine="rpie", epochs=5)
    >>> len(quick.history["fit"])
    5
    """
    if not isinstance(scan, Scan):
        raise InputError("reconstruct", f"scan is a {type(scan).__name__}", "a Scan", "diptych.load(path) reads one.")
    if options is not None and not isinstance(options, ReconstructionOptions):
        raise InputError("reconstruct", f"options is a {type(options).__name__}", "ReconstructionOptions, or names")
    options = (options or ReconstructionOptions()).with_changes(**overrides)
    network = None if model is None else opened(model, options)
    if options.prepare is not None:
        scan = prepare(scan, preparation_of(options.prepare))
        for step in scan.metadata["preparation"]["steps"]:
            log.info("%s: %s", scan.name, step)
    cleaned = clean(
        scan,
        drop=options.drop,
        bad_frames=options.bad_frames,
        auto_mask=options.auto_mask,
        saturated=options.saturated,
    )
    for flag in cleaned.flags:
        log.warning("%s: %s", scan.name, flag)
    unused = inference is None or (network is None and inference == InferenceOptions())
    check_memory(cleaned.scan)
    request = Request(
        cleaned.scan,
        options,
        execution or ExecutionOptions(),
        network=network,
        inference={} if unused else {"options": inference, "folder": folder},
        progress=progress,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        resume=resume,
        cancel=cancel,
        spoiled=cleaned.spoiled,
        known=known or Known(),
    )
    try:
        result = network_image(request) if options.chosen("engine").build is None else _by_engine(request)
    except Interrupted as stop:
        raise Interrupted(_with_findings(stop.result, cleaned)) from None
    if options.error_bars:
        result = with_error_bars(result, cleaned.scan, seed=options.seed, progress=progress)
    return _with_findings(result, cleaned)


def _with_findings(result: Reconstruction, cleaned: Cleaned) -> Reconstruction:
    """The result with what was left out of the scan in its flags and its provenance."""
    if not cleaned.flags:
        return result
    provenance = {**result.provenance, "left_out": cleaned.record}
    # What was found before comes first: it can be the cause of the rest.
    return replace(result, flags=(*cleaned.flags, *result.flags), provenance=provenance)


def _by_engine(request: Request) -> Reconstruction:
    import torch

    from diptych.ptycho.engines.distance.search import with_distance
    from diptych.ptycho.engines.modes.choice import mode_choice
    from diptych.ptycho.engines.outcome import outcome
    from diptych.ptycho.engines.starts.network_result import network_or_engine
    from diptych.ptycho.engines.thick.stage import after_engine

    began = time.perf_counter()
    declared = request.scan.scale is not None
    scan, gain = in_photons(request.scan)
    request = replace(request, scan=scan)
    for flag in gain_flag(gain, declared):
        log.info("%s", flag)
    device, why = choose_device(request.execution.device)
    log.info("device %s (%s)", device, why)
    with torch.no_grad(), shared_out(device.type == "cpu", request.execution.threads) as workers:
        request, distance = with_distance(replace(request, workers=workers), device, workers)
        probe, note = initial_probe(request.scan, request.options)
        if note:
            log.info("%s", note)
        problem = _problem(request, probe, device, workers)
        run = _iterate(request, problem, probe, choice := mode_choice(request, problem))
        run, found, notes = after_engine(request, problem, run, probe, choice.found)

        def again(other: Request) -> tuple[Problem, Run]:
            made = _problem(other, probe, device, workers)
            run = _iterate(other, made, probe, mode_choice(other, made))
            return made, after_engine(other, made, run, probe, None)[0]

        problem, run, evidence, said = network_or_engine(request, problem, run, probe, again)
        result = outcome(request, problem, run, probe)
        notes = (*notes, *_gains(choice, problem, result))
    seconds = time.perf_counter() - began
    record = {"probe_start": note, "device": str(device), "device_reason": why, "seconds": seconds}
    result = replace(result, flags=(*result.flags, *distance.flags, *notes, *said))
    result = in_counts(result, gain, declared, record | distance.record | found | evidence)
    if run.interrupted:
        raise Interrupted(result)
    return result


def _problem(request: Request, probe: NDArray[np.complex64], device: torch.device, workers: Workers) -> Problem:
    from diptych.ptycho.engines.problem import make_problem, point_spread
    from diptych.ptycho.engines.thick.stage import with_slices
    from diptych.ptycho.physics.probe import power

    options = request.options
    limit = limit_of(request.scan, options.engine) if options.saturated == "limit" else None
    problem = make_problem(
        request.scan,
        device=device,
        double=request.execution.precision == "double",
        subpixel=options.subpixel != "round",
        held_out=options.held_out,
        seed=options.seed,
        power=power(probe) if request.keeps_scale else None,
        workers=workers,
        limit=limit,
    )
    if not isinstance(options.point_spread, str):
        problem.forward.spread = point_spread(problem, (options.point_spread, options.point_spread))
    return with_slices(request, problem)


def _gains(choice: ModeChoice, problem: Problem, result: Reconstruction) -> Iterator[str]:
    """Notes on a background and a point spread that were fitted."""
    from diptych.ptycho.engines.flags.base import BACKGROUND, POINT_SPREAD
    from diptych.ptycho.engines.modes.background import background_flag
    from diptych.ptycho.engines.modes.spread import spread_flag
    from diptych.ptycho.engines.problem import pattern_totals

    if BACKGROUND in choice.gains and result.background is not None:
        counts = float(pattern_totals(problem.counts).mean())
        yield background_flag(result.background, counts, choice.gains[BACKGROUND])
    if POINT_SPREAD in choice.gains and problem.forward.spread is not None:
        yield spread_flag(problem.forward.spread.widths, choice.gains[POINT_SPREAD])


def _iterate(request: Request, problem: Problem, probe: NDArray[np.complex64], choice: ModeChoice) -> Run:
    """Run the engine from the initial guess, or from the checkpoint."""
    from diptych.ptycho.engines.checkpoint import load_checkpoint
    from diptych.ptycho.engines.likelihood.maximum_likelihood import has_many_photons
    from diptych.ptycho.engines.run import run_engine

    options, checkpoint = request.options, request.checkpoint
    rng = np.random.default_rng([options.seed, 2])
    engine, run = _started(request, problem, probe, rng, choice)
    identity = {} if checkpoint is None else request.identity(probe)
    if request.resumes and checkpoint is not None:
        run = load_checkpoint(checkpoint, engine, rng, identity, problem.device)
    return run_engine(
        engine,
        run,
        epochs=options.epochs,
        stop=options.stop,
        rng=rng,
        stage=options.chosen("engine").title,
        progress=request.progress,
        checkpoint=checkpoint,
        identity=identity,
        cancel=request.cancel,
        many_photons=has_many_photons(problem),
    )


def _started(
    request: Request, problem: Problem, probe: NDArray[np.complex64], rng: np.random.Generator, choice: ModeChoice
) -> tuple[Engine, Run]:
    """The engine at its initial guess, and a new run. No reference to the initial guess is kept here: it is large."""
    from diptych.ptycho.engines.checkpoint import Run

    options, modes = request.options, probe_modes(problem, probe, request.options.first_modes)
    if request.network is None or request.resumes:
        # The initial guess of a resumed run is in its checkpoint.
        guess = InitialGuess(initial_object(problem, request.scan, options), modes)
    else:
        guess = network_guess(request, probe, problem)
    if problem.forward.factors is not None:
        problem.forward.factors.fitted = options.frame_factors == "on"
    given = EngineInput(
        problem,
        guess.image,
        guess.probe,
        options.probe != "fixed",
        rng,
        guess.fit,
        modes,
        request.progress,
        options.frame_factors == "auto",
        refined_positions(options),
        request.misread,
        choice,
        None if request.scan.probe is None else probe_modes(problem, request.scan.probe, options.first_modes),
    )
    return options.chosen("engine").build(given, options.own("engine")), Run(start=guess.record)
