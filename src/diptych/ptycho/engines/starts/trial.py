"""Short reconstructions of part of a scan: rank initial probes or orientations by the fit of a few epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, make_problem, sweep_batch
from diptych.ptycho.physics.modes import scaled_to
from diptych.ptycho.scan import Scan

SEED = 0
"""Seed of the batches of every trial."""


def central_part(scan: Scan, patterns: int) -> Scan:
    """The ``patterns`` patterns nearest to the centre of the scan: their overlap is that of the whole scan."""
    if len(scan) <= patterns:
        return replace(scan, truth=None)
    chosen = central_patterns(scan.positions, patterns)
    mask = scan.mask[chosen] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    return replace(scan, counts=scan.counts[chosen], positions=scan.positions[chosen], mask=mask, truth=None)


def central_patterns(positions: NDArray[np.float64], patterns: int) -> NDArray[np.int64]:
    """Which ``patterns`` of the positions (M, 2) are nearest to the centre, in order; all where there are fewer."""
    distance = np.square(positions - np.median(positions, axis=0)).sum(1)
    return np.sort(np.argsort(distance, kind="stable")[:patterns])


class Trial(NamedTuple):
    """Fit and excess (deviance above that of shot noise, per photon) that a trial reached; infinite where it
    diverged.
    """

    fit: float
    excess: float


def try_out(scan: Scan, probe: NDArray[np.complex64], epochs: int) -> Trial:
    """A few epochs of rPIE from a flat object and this initial probe (P, N, N), with a factor for each frame.

    Without factors, a beam that varies by 30 % dominates every trial, and the probe that fits best is one so broad
    that it hides the variation.
    """
    with torch.no_grad():
        problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.0, seed=SEED)
        if problem.forward.factors is not None:
            problem.forward.factors.fitted = True
        return run_trial(
            problem, problem.flat_object(), scaled_to(torch.from_numpy(probe.copy()), problem.power), epochs
        )


def run_trial(problem: Problem, image: Tensor, probe: Tensor, epochs: int, *, refine_probe: bool = True) -> Trial:
    """A few epochs of rPIE from an object (H, W) and probe modes (P, N, N)."""
    settings = PieSettings(batch=int(np.clip(len(problem) // 16, 1, 64)), refine_probe=refine_probe)
    engine = Pie(problem, image, probe, settings, np.random.default_rng(SEED))
    for _ in range(epochs):
        engine.epoch()
    found = full_fit(problem, engine.image, engine.probe, sweep_batch(problem))
    if not np.isfinite(found["fit"]):
        return Trial(float("inf"), float("inf"))
    return Trial(found["fit"], found["excess"])
