"""Where the slices lie: short trials from several starts.

One slice can only be in one plane, and the fit puts it anywhere inside the sample; the probe that it finds is that of
this plane. The first slice may lie before it, where that probe has not come to yet. Started in the wrong plane, the
slices end in a local minimum (object with edges, two slices 8 depths of field apart, 1e6 photons: held-out fit 10
from the plane of the first slice, 1.3 from that of the last one, or from between).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.checkpoint import Run
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.ptycho.engines.request import Request
from diptych.ptycho.engines.run import DIVERGED, run_engine
from diptych.ptycho.engines.starts.initial import probe_modes
from diptych.ptycho.engines.thick.likelihood import SlicedLikelihood
from diptych.ptycho.physics.thick.slices import between_slices

log = logging.getLogger("diptych")

STEPS = 20
"""Steps of maximum likelihood of each trial."""

Start = tuple[Tensor, Tensor]
"""Slices (S, H, W) and probe modes (P, N, N)."""


def likelihood_settings(request: Request, problem: Problem) -> LikelihoodSettings:
    """Settings of maximum likelihood for slices, without refined positions."""
    own = request.options.own("engine")
    return LikelihoodSettings(
        batch=own.batch or sweep_batch(problem),
        poisson=own.likelihood != "amplitude",
        refine_probe=request.options.probe != "fixed",
    )


def starts(request: Request, problem: Problem, given: Start, initial: NDArray[np.complex64]) -> dict[str, Start]:
    """Starts by what they assume; ``given`` has the probe in the plane of the single slice, ``initial`` is the first.

    A fixed probe stays where it is.
    """
    options, (slices, probe) = request.options, given
    if options.probe == "fixed":
        return {"fixed probe": given}
    found = {}
    for plane in sorted({0.0, (options.slices - 1) / 2, options.slices - 1.0}):
        found[f"one slice lay at slice {plane + 1:g}"] = slices, _back(request, problem, probe, plane)
    modes = probe_modes(problem, initial, options.first_modes)
    return {**found, "initial probe": (slices, modes)}


def best_start(request: Request, problem: Problem, given: Start, initial: NDArray[np.complex64]) -> Run:
    """The trial with the lowest loss, after :data:`STEPS`; its best state is its last. Interrupted where one was."""
    tried = starts(request, problem, given, initial)
    if len(tried) == 1:
        return Run(best=given)
    found: tuple[float, Run] | None = None
    trial = Run()
    for name, start in tried.items():
        engine = SlicedLikelihood(problem, *start, likelihood_settings(request, problem))
        trial = run_engine(
            engine,
            Run(),
            epochs=STEPS,
            stop=False,
            rng=np.random.default_rng([request.options.seed, 6]),
            stage=f"trial of slices: {name}",
            progress=request.progress,
            cancel=request.cancel,
        )
        if trial.interrupted:
            return trial
        log.info("slices, %s: loss %.4g after %d steps", name, engine.loss / problem.counts.numel(), STEPS)
        if not trial.reason.startswith(DIVERGED) and (found is None or engine.loss < found[0]):
            found = engine.loss, replace(trial, best=engine.snapshot())
    return trial if found is None else found[1]


def _back(request: Request, problem: Problem, probe: Tensor, planes: float) -> Tensor:
    """The probe (P, N, N) as many planes upstream."""
    distance = request.options.slice_distance_m
    if not planes or distance is None:
        return probe
    scan, enters = request.scan, problem.forward.propagator
    back = between_slices(scan.geometry, scan.size, -planes * distance, probe.dtype, probe.device, "slices")
    return enters.leave(back.forward(enters.enter(probe)))
