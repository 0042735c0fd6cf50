"""How much better the patterns would fit at other positions: the score test of each position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, detect, frame_factors, in_order, share_out, sweep_batch, zero_masked


def position_gains(problem: Problem, image: Tensor, probe: Tensor) -> NDArray[np.float64]:
    """Gain in log-likelihood (M,), nats, of moving each position by one Newton step, object and probe held.

    ``g' F^-1 g / 2`` with the gradient g and the Fisher matrix F of each pattern's two coordinates: the score test
    (Rao, Proc. Cambridge Phil. Soc. 44, 50, 1948). At correct positions it is 1 on average: half a nat per coordinate.

    Parameters
    ----------
    problem : Problem
        Counts, positions and forward model.
    image, probe : (H, W) and (P, N, N) complex tensors
        Where the derivatives are taken.
    """
    batches = in_order(len(problem), sweep_batch(problem))
    parts = share_out(problem, lambda some: _gains(problem, image, probe, some), batches)
    return np.concatenate(parts)


def _gains(problem: Problem, image: Tensor, probe: Tensor, batches: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    forward, found = problem.forward, []
    frequency = torch.fft.fftshift(torch.fft.fftfreq(problem.size, dtype=probe.real.dtype, device=probe.device))
    spectrum = torch.fft.fft2(forward.propagator.enter(probe))
    frequencies = [each.expand(problem.size, -1) for each in (frequency[:, None], frequency)]
    slopes = [-2j * math.pi * each * spectrum for each in frequencies]
    for batch in batches:
        views = forward.views(image, probe, batch)
        field, expected = detect(problem, batch, views.exit_waves())
        factors = frame_factors(problem, batch)
        counts, lit = problem.counts[views.rows], expected.clamp(min=1e-6)
        valid = torch.ones_like(expected)
        zero_masked(problem, batch, valid)
        changes = []
        for slope, along in zip(slopes, frequencies, strict=True):
            moved = torch.fft.ifft2(slope[None] if views.ramps is None else slope[None] * views.ramps[:, None])
            wave = forward.propagator.forward(views.changes(moved, along))
            change = 2 * (field.real * wave.real + field.imag * wave.imag).sum(1)
            changes.append((change if factors is None else change * factors).mul_(valid))
        gradient = torch.stack([(d * (1 - counts / lit)).sum((1, 2), dtype=torch.float64) for d in changes], -1)
        fisher = torch.stack(
            [torch.stack([(a * b / lit).sum((1, 2), dtype=torch.float64) for b in changes], -1) for a in changes], -1
        )
        ridge = 1e-9 * fisher.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-30)
        step = torch.linalg.solve(fisher + ridge[:, None, None] * torch.eye(2, dtype=torch.float64), gradient)
        found.append((0.5 * (gradient * step).sum(-1)).cpu().numpy())
    return np.concatenate(found)
