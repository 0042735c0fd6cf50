"""The one door to the solvers: a scan in, a Reconstruction out, with no magic numbers to set."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.starts.network import Start, Starter, network_start, opened, place
from diptych.ptycho.neural.options import InferenceOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions, choose_device
from diptych.runtime.parallel import Workers, shared_out
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diptych.ptycho.engines.problem import Problem
    from diptych.ptycho.engines.run import Engine

log = logging.getLogger("diptych")

TUNABLE = {
    "ml": {"batch", "alpha", "step", "momentum", "likelihood"},
    "rpie": {"batch", "alpha", "step", "momentum", "likelihood"},
    "epie": {"step", "likelihood"},
    "dm": {"batch"},
    "raar": {"batch", "step"},
    "network": set(),
}
"""The engine settings that each engine has."""

POOR_FIT = 3.0
"""A fit above this many times the expected deviance is flagged as poor."""

FAIR_FIT = 1.5
"""Above this fit, something other than photon noise limits the result, and the flag says what to try."""

BATCH_UPDATES = 16
"""A pass over the scan takes at least this many updates where the scan allows it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a reconstruction; ``result`` is the best state so far."""

    def __init__(self, result: Reconstruction) -> None:
        super().__init__("interrupted")
        self.result = result


def reconstruct(
    scan: Scan,
    model: Starter | str | Path | None = None,
    options: ReconstructionOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    execution: ExecutionOptions | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    inference: InferenceOptions | None = None,
    folder: str | Path | None = None,
    **overrides: Any,
) -> Reconstruction:
    """Recover the complex object (and the probe) from a scan.

    Parameters
    ----------
    scan : Scan
        Counts, positions and the start of the probe.
    model : Model or path, optional
        A trained network, or its file. Its image of the scan is the start, unless a flat object promises as much;
        ``provenance["start"]`` tells which, and why.
    options : ReconstructionOptions, optional
        How; the defaults choose engine, batches, iterations and the stop by themselves.
    progress : callable, optional
        Called with a :class:`~diptych.runtime.progress.Progress` after each epoch.
    execution : ExecutionOptions, optional
        Device, precision, threads.
    checkpoint : path, optional
        NPZ file in which the state is kept, every 20 s and at the end.
    resume : bool
        Go on from ``checkpoint`` where it exists; scan and options must be the same (``epochs`` and ``stop`` may
        change).
    inference : InferenceOptions, optional
        How the network is run.
    folder : path, optional
        Where ``inference.log_patch_stats`` writes.
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
        If the scan has no probe, a start or the model does not fit the scan, or an option is wrong.
    Interrupted
        On Ctrl-C; its ``result`` is the best state so far.

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
        raise InputError(
            f"reconstruct: expected a Scan, got {type(scan).__name__}; diptych.load(path) makes one from a file."
        )
    options = (options or ReconstructionOptions()).with_changes(**overrides)
    _check_options(options, scan)
    network = None if model is None else opened(model, options)
    execution = execution or ExecutionOptions()
    if network is None and inference not in (None, InferenceOptions()):
        raise InputError(
            "reconstruct: inference options say how a network is run, and there is none; pass model=... (--model "
            "FILE) too."
        )
    more = {} if inference is None else {"options": inference, "folder": folder}
    if options.engine == "network":
        return _by_network(scan, network, options, execution, progress, more)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    if resume and checkpoint is None:
        raise InputError("reconstruct: resume=True needs a checkpoint file to go on from; pass checkpoint=PATH.")
    if checkpoint is not None and not checkpoint.parent.is_dir():
        raise InputError(f"{checkpoint}: its folder does not exist; make it first, or give another checkpoint.")
    began = time.perf_counter()

    import torch

    device, why = choose_device(execution.device)
    log.info("device %s (%s)", device, why)
    with torch.no_grad(), shared_out(device.type == "cpu", execution.threads) as workers:
        probe, note = starting_probe(scan, options)
        if note:
            log.info("%s", note)
        result, interrupted = _solve(
            scan, network, probe, options, execution, device, workers, progress, checkpoint, resume, more
        )
    provenance = {
        **result.provenance,
        "probe_start": note,
        "device": str(device),
        "device_reason": why,
        "seconds": time.perf_counter() - began,
    }
    result = replace(result, provenance=provenance)
    if interrupted:
        raise Interrupted(result)
    return result


def _by_network(
    scan: Scan,
    network: Starter | None,
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    progress: ProgressCallback | None,
    inference: dict[str, Any],
) -> Reconstruction:
    """The image of a trained network, under the start of the probe."""
    from diptych.ptycho.neural.model import Model

    if not isinstance(network, Model):
        raise InputError(
            "reconstruct: engine network needs a trained network; pass model=... (--model FILE), or choose another "
            "engine."
        )
    probe, note = starting_probe(scan, options)
    seen = replace(scan, probe=probe, probe_calibrated=scan.probe_calibrated and options.probe in ("refine", "fixed"))
    result = network.reconstruct(seen, progress, execution=execution, **inference)
    return replace(result, provenance={**result.provenance, "model": network.digest, "probe_start": note})


def _check_options(options: ReconstructionOptions, scan: Scan) -> None:
    """Raise where an option cannot reach what it is meant for."""
    name = "ml" if options.engine == "auto" else options.engine
    for key in sorted(set().union(*TUNABLE.values()) - TUNABLE[name]):
        if getattr(options, key) != type(options).model_fields[key].default:
            known = ", ".join(sorted(engine for engine, keys in TUNABLE.items() if key in keys))
            raise InputError(
                f"reconstruct: {key} has no meaning for the engine {options.engine}; leave it out, or choose one of "
                f"{known}."
            )
    given = 0 if scan.probe is None else len(scan.probe)
    if options.probe == "fixed" and options.modes is not None and options.modes != given:
        raise InputError(
            f"reconstruct: modes = {options.modes} with a fixed probe of {given} modes; a fixed probe is used as it "
            f"is: leave modes out, "
            "or let the probe be refined (probe='refine')."
        )


def starting_probe(scan: Scan, options: ReconstructionOptions) -> tuple[NDArray[np.complex64], str]:
    """The probe (P, N, N) that ``options.probe`` asks for, and what was done to it.

    Raises
    ------
    InputError
        If there is none.
    """
    from diptych.ptycho.engines.starts.estimate import estimate_probe, refocus

    if options.probe == "estimate":
        return estimate_probe(scan), "the probe start was estimated from the mean pattern"
    if options.probe not in ("refine", "fixed"):
        from diptych.ptycho.io import read_probe

        return read_probe(options.probe, scan.size), f"the probe start was read from {options.probe}"
    if scan.probe is None:
        raise InputError(
            f"{scan.name}: holds no probe to start from; give one with probe='FILE' (--probe FILE), "
            "or let it be made from the mean pattern with probe='estimate' (--probe estimate)."
        )
    if options.probe == "refine" and options.engine == "auto":
        return refocus(scan, scan.probe)
    return scan.probe, ""


def _solve(
    scan: Scan,
    network: Starter | None,
    start: NDArray[np.complex64],
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    device: torch.device,
    workers: Workers,
    progress: ProgressCallback | None,
    checkpoint: Path | None,
    resume: bool,
    inference: dict[str, Any],
) -> tuple[Reconstruction, bool]:
    import torch

    from diptych.ptycho.engines.fit_monitor import full_fit
    from diptych.ptycho.engines.modes import orthogonal_modes, start_modes
    from diptych.ptycho.engines.problem import prepare, sweep_batch
    from diptych.ptycho.engines.run import Run, load_checkpoint, run_engine
    from diptych.ptycho.engines.waves import intensity

    keep_scale = scan.probe_calibrated and options.probe in ("refine", "fixed")
    problem = prepare(
        scan,
        device=device,
        double=execution.precision == "double",
        subpixel=options.positions != "round",
        held_out=options.held_out,
        seed=options.seed,
        power=float((np.abs(start.astype(np.complex128)) ** 2).sum()) if keep_scale else None,
        workers=workers,
    )

    def ready(given: NDArray[np.complex64]) -> Tensor:
        modes = torch.from_numpy(given.copy()).to(device, problem.complex_dtype)
        if options.modes is not None:
            modes = start_modes(modes, options.modes)
        return modes * (problem.power / intensity(modes).sum()).sqrt()

    probe = ready(start)
    name = "ml" if options.engine == "auto" else options.engine
    rng = np.random.default_rng([options.seed, 2])
    resumed = resume and checkpoint is not None and checkpoint.exists()
    if network is None or resumed:
        # What a resumed run started from is in its checkpoint.
        chosen = Start(_starting_image(problem, scan, options), probe)
    else:
        chosen = network_start(network, scan, start, problem, ready, options, execution, progress, inference)
    engine = _make_engine(name, problem, chosen, probe, options, rng, progress, warm=network is not None)
    run = Run(start=chosen.record)
    # The start's memory: the engine holds it as long as it needs it.
    del chosen
    identity = {} if checkpoint is None else _identity(scan, start, options, execution, network)
    if resumed and checkpoint is not None:
        run = load_checkpoint(checkpoint, engine, rng, identity, device)
    run_engine(
        engine,
        run,
        epochs=options.epochs,
        stop=options.stop,
        rng=rng,
        stage=name,
        progress=progress,
        checkpoint=checkpoint,
        identity=identity,
    )
    assert run.best is not None
    image, probe = run.best
    # The free scale between object and probe is fixed by the gauge: the probe carries the photons.
    scale = (problem.power / intensity(probe).sum()).sqrt()
    final = full_fit(problem, image, probe, sweep_batch(problem))
    probe = orthogonal_modes(probe * scale) if options.probe != "fixed" else probe
    image = image / scale if options.probe != "fixed" else image
    log.info("%s: stopped, %s; fit %.3f, held out %.3f", name, run.reason, final["fit"], final["held_out_fit"])
    outcome = {
        "engine": name,
        "stop_reason": run.reason,
        "epochs": run.epochs,
        "best_epoch": run.best_epoch,
        **final,
        "options": options.model_dump(mode="json"),
        "scan": scan.name,
        **({"start": run.start} if run.start else {}),
    }
    result = Reconstruction(
        object=Canvas(image.to(torch.complex64).cpu().numpy(), problem.origin, scan.pixel_m),
        probe=probe.to(torch.complex64).cpu().numpy(),
        positions=scan.positions if options.positions != "round" else np.floor(scan.positions + 0.5),
        history=run.history,
        flags=_flags(final, run.interrupted, len(probe)),
        provenance=outcome,
        name=scan.name,
        geometry=scan.geometry,
    )
    return result, run.interrupted


def _identity(
    scan: Scan,
    start: NDArray[np.complex64],
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    network: Starter | None,
) -> dict[str, Any]:
    """What must agree for a checkpoint to be resumed: options, and the data and the network by their SHA-256."""
    digest = hashlib.sha256()
    for array in (scan.counts, scan.positions, scan.mask, scan.background, start):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
    kept = options.model_dump(mode="json", exclude={"epochs", "stop"})
    kept["model"] = None if network is None else network.digest
    return {
        **kept,
        "patterns": len(scan),
        "size": scan.size,
        "precision": execution.precision,
        "data_sha256": digest.hexdigest(),
    }


def _flags(final: dict[str, float], interrupted: bool, modes: int) -> tuple[str, ...]:
    flags = []
    worst = np.nanmax([final["fit"], final["held_out_fit"]])
    if not worst <= POOR_FIT:
        flags.append(
            f"poor fit: {worst:.2f} times the deviance that photon noise explains (limit {POOR_FIT:g}). Run `diptych "
            f"check` on the scan: "
            "wrong orientation, position sign or centring is the commonest cause; too few probe modes (--modes 3) "
            "the next."
        )
    elif final["fit"] > FAIR_FIT:
        more = (
            f"More probe modes than {modes} (--modes {modes + 2}) often explain"
            if modes < 8
            else "Positions or background may explain"
        )
        flags.append(
            f"not limited by photon noise: the fit is {final['fit']:.2f} times what noise explains. {more} the rest."
        )
    if interrupted:
        flags.append("interrupted: the best state up to then, not a finished result.")
    return tuple(flags)


def _starting_image(problem: Problem, scan: Scan, options: ReconstructionOptions) -> Tensor:
    """A transparent object, or that of a result file placed by its coordinates."""
    import torch

    image = torch.ones(problem.shape, dtype=problem.complex_dtype, device=problem.device)
    if options.start == "flat":
        return image
    from diptych.ptycho.io import load
    from diptych.ptycho.validation import windows_inside

    found = load(options.start)
    canvas = found.object if isinstance(found, Reconstruction) else found.truth
    if canvas is None:
        raise InputError(f"{options.start}: holds no object to start from; expected a result file, or start='flat'.")
    windows_inside(scan.positions, scan.size, canvas, "the object to start from", options.start)
    return place(canvas, image, problem.origin)


def _make_engine(
    name: str,
    problem: Problem,
    start: Start,
    probe: Tensor,
    options: ReconstructionOptions,
    rng: np.random.Generator,
    progress: ProgressCallback | None,
    *,
    warm: bool,
) -> Engine:
    """The engine with the settings that suit this scan, as far as the options leave them open; ``warm`` where a network
    was asked.

    ``probe`` (P, N, N) is what the scan and the options say, for a start from flat after all.
    """
    from diptych.ptycho.engines.automatic import StagedLikelihood
    from diptych.ptycho.engines.automatic_warm import WarmLikelihood
    from diptych.ptycho.engines.maximum_likelihood import LikelihoodSettings
    from diptych.ptycho.engines.pie import Pie, PieSettings
    from diptych.ptycho.engines.problem import sweep_batch
    from diptych.ptycho.engines.projection import Projections, ProjectionSettings

    def chosen(value: Any, default: Any) -> Any:
        return default if value is None else value

    image, mode = start.image, start.probe
    poisson, refine = options.likelihood != "amplitude", options.probe != "fixed"
    sweep = chosen(options.batch, sweep_batch(problem))
    if name in ("dm", "raar"):
        _announce_memory(name, problem, len(probe), progress)
        beta = 1.0 if name == "dm" else chosen(options.step, 0.9)
        return Projections(problem, image, mode, ProjectionSettings(beta, sweep, refine_probe=refine))
    if name == "epie":
        settings = PieSettings(
            1, 1.0, chosen(options.step, 1.0), 0.0, poisson=options.likelihood == "poisson", refine_probe=refine
        )
        return Pie(problem, image, mode, settings, rng)
    settings = PieSettings(
        batch=chosen(options.batch, int(np.clip(len(problem) // BATCH_UPDATES, 1, 64))),
        alpha=chosen(options.alpha, 0.3),
        step=chosen(options.step, 1.0),
        momentum=chosen(options.momentum, 0.8),
        poisson=poisson,
        refine_probe=refine,
    )
    if name == "rpie":
        return Pie(problem, image, mode, settings, rng)
    then = LikelihoodSettings(batch=sweep, poisson=poisson, refine_probe=refine)
    if warm:
        return WarmLikelihood(problem, image, mode, settings, then, rng, start.fit, probe)
    return StagedLikelihood(problem, image, mode, settings, then, rng)


def _announce_memory(name: str, problem: Problem, modes: int, progress: ProgressCallback | None) -> None:
    size = len(problem) * modes * problem.size**2 * problem.complex_dtype.itemsize
    log.warning("%s keeps the exit waves of all patterns: %.0f MB more than the other engines", name, size / 1e6)
    if progress is not None:
        progress(Progress(f"{name}: exit waves need {size / 1e6:.0f} MB", 0, 0))


ReconstructCall = Callable[..., Reconstruction]
"""The type of :func:`reconstruct`, for those who take it as an argument."""
