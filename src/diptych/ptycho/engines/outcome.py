"""From the state in which an engine ended to a result: its gauge, its flags and its provenance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.engines.starts.initial import probe_modes
from diptych.ptycho.physics.illumination import illumination, measured_frames
from diptych.ptycho.physics.probe import probe_diameter
from diptych.ptycho.scan import Canvas, Reconstruction

if TYPE_CHECKING:
    from diptych.ptycho.engines.checkpoint import Run
    from diptych.ptycho.engines.flags.evidence import Evidence
    from diptych.ptycho.engines.problem import Problem
    from diptych.ptycho.engines.request import Request

log = logging.getLogger("diptych")


def outcome(request: Request, problem: Problem, run: Run, start: NDArray[np.complex64]) -> Reconstruction:
    """The best state in the gauge of the problem, with its fit over all pixels, flags and provenance.

    Parameters
    ----------
    request : Request
        What was asked for.
    problem : Problem
        What was solved; it is left at the positions of the best state.
    run : Run
        How the engine ended.
    start : (P, N, N) complex array
        The initial probe.

    Raises
    ------
    InputError
        If the engine diverged before any usable state.
    """
    from diptych.ptycho.engines.flags.evidence import gather_evidence
    from diptych.ptycho.engines.positions.placing import position_flag, settle_positions
    from diptych.ptycho.engines.starts.gauge import varied_probe
    from diptych.ptycho.engines.thick.result import settled_object

    scan, options = request.scan, request.options
    state, probe, *refined = _finite(request, run)
    recorded = scan.positions if options.subpixel != "round" else np.floor(scan.positions + 0.5)
    positions = settle_positions(problem, state, refined, recorded)
    first_probe = probe_modes(problem, start, options.first_modes)
    factors = problem.forward.factors
    if factors is not None and factors.on_trial:
        factors.fitted = False
    evidence = gather_evidence(problem, state, probe, options.probe != "fixed", first_probe)
    state, probe, lattice = _gauged(request, problem, state, probe)
    measured = measured_frames(scan.mask, len(scan))
    light = illumination(probe.cpu().numpy(), positions, problem.origin, problem.shape, measured)
    settled, slices = settled_object(problem, state, probe, light, positions, measured)
    # Before the flags, which fit factors anew.
    values = factors.values.double().cpu().numpy() if factors is not None and factors.fitted else None
    fitted = None
    if scan.background is None and not problem.read_variance and problem.forward.background is not None:
        fitted = problem.forward.background.to(torch.float32).cpu().numpy()
    moved = not np.array_equal(positions, recorded)
    # Flags of the state that was fitted: at few photons, settling unlit pixels raises a right reading's fit by 15 %.
    flags = _flags(request, problem, (state, probe), evidence, run, moved)
    return Reconstruction(
        object=Canvas(settled, problem.origin, scan.pixel_m),
        probe=probe.to(torch.complex64).cpu().numpy(),
        positions=positions,
        history=run.history,
        frame_factors=values,
        background=fitted,
        recorded_positions=recorded if moved else None,
        flags=(*flags, *position_flag(positions, recorded, probe_diameter(probe.cpu().numpy()))),
        provenance=_provenance(request, problem, run, evidence.fits(), lattice),
        name=scan.name,
        geometry=scan.geometry,
        illumination=light,
        slices=slices,
        **varied_probe(problem, probe),
        slice_distance_m=None if slices is None else options.slice_distance_m,
    )


def _finite(request: Request, run: Run) -> tuple[Tensor, ...]:
    """The best state; refused where it is not finite."""
    assert run.best is not None
    if not all(bool(torch.isfinite(torch.view_as_real(each)).all()) for each in run.best[:2]):
        name = request.options.chosen("engine").title
        raise InputError(
            f"reconstruct {request.scan.name}",
            f"the engine {name} diverged in epoch {run.epochs}, before any usable state",
            remedy="Give a smaller step or momentum, a larger alpha, or leave them to be chosen automatically.",
        )
    return tuple(run.best)


def _gauged(request: Request, problem: Problem, state: Tensor, probe: Tensor) -> tuple[Tensor, Tensor, float]:
    """Object and probe with what the counts leave free put right, and the share of the lattice that was removed.

    Factors of the frames get a mean of 1, an unknown probe no copies of the raster and the photons of the scan.
    """
    from diptych.ptycho.engines.starts.gauge import photons_on_probe, without_factor_ramp
    from diptych.ptycho.engines.starts.lattice import without_lattice
    from diptych.ptycho.engines.thick.result import first_slice, with_first

    image, factors, lattice = first_slice(state), problem.forward.factors, 0.0
    free = request.options.probe != "fixed"
    if factors is not None and factors.fitted:
        if free:
            image, probe, factors.values = without_factor_ramp(problem, image, probe)
        # The mean of the factors is 1; their scale goes to the photons.
        image, factors.values = image * factors.values.mean().sqrt(), factors.values / factors.values.mean()
    if free and not request.keeps_scale:
        image, probe, lattice = without_lattice(problem, image, probe)
    if free:
        image, probe = photons_on_probe(problem, image, probe)
    return with_first(state, image), probe, lattice


def _flags(
    request: Request, problem: Problem, state: tuple[Tensor, Tensor], evidence: Evidence, run: Run, refined: bool
) -> tuple[str, ...]:
    """What is to be said of the result, positions apart; ``refined``: whether they are not the recorded ones."""
    from diptych.ptycho.engines.flags.base import wrong_reading
    from diptych.ptycho.engines.flags.result import result_flags
    from diptych.ptycho.engines.run import DIVERGED

    flags = result_flags(
        request.scan,
        problem,
        state,
        evidence,
        epochs=run.epochs,
        converged=not run.reason.startswith("all "),
        interrupted=run.interrupted,
        diverged=run.reason if run.reason.startswith(DIVERGED) else "",
        tried=lambda: request.verdict_at(refined),
        held=request.known.faint,
        spoiled=request.spoiled,
        likelihood=request.options.engine in ("auto", "ml") and run.start.get("kept") != "network",
    )
    if (factors := problem.forward.factors) is None:
        return tuple(flags)
    photons = evidence.photons / evidence.patterns
    return (*flags, *factors.flag(evidence.fits()["held_out_fit"], photons, wrong_reading(flags)))


def _provenance(request: Request, problem: Problem, run: Run, fits: dict[str, float], lattice: float) -> dict[str, Any]:
    """How the result came about."""
    scan, name, spread = request.scan, request.options.chosen("engine").title, problem.forward.spread
    log.info("%s: stopped, %s; fit %.3f, held out %.3f", name, run.reason, fits["fit"], fits["held_out_fit"])
    return {
        "engine": name,
        "stop_reason": run.reason,
        "epochs": run.epochs,
        "best_epoch": run.best_epoch,
        **fits,
        "options": request.options.resolved(),
        "scan": scan.name,
        **{key: found for key in ("load", "preparation") if (found := scan.metadata.get(key)) is not None},
        **({"start": run.start} if run.start else {}),
        **({"lattice_removed": lattice} if lattice else {}),
        **({"point_spread": list(spread.widths)} if spread is not None else {}),
    }
