"""How much better the patterns would fit at other positions: the score test of each position, and of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, detect, frame_factors, in_order, share_out, sweep_batch, zero_masked


@dataclass(frozen=True)
class PositionScore:
    """Derivatives of the log-likelihood with respect to the positions, object and probe held.

    The score test (Rao, Proc. Cambridge Phil. Soc. 44, 50, 1948): ``g' F^-1 g / 2`` is the gain of one Newton step.

    Parameters
    ----------
    gradient : (M, 2) float array
        Nats per px.
    fisher : (M, 2, 2) float array
        Fisher matrix of each pattern's two coordinates.
    """

    gradient: NDArray[np.float64]
    fisher: NDArray[np.float64]

    def gains(self) -> NDArray[np.float64]:
        """Gain (M,), nats, of moving each position by itself: at correct positions 1 on average, half a nat per
        coordinate.
        """
        ridge = 1e-9 * np.trace(self.fisher, axis1=1, axis2=2).clip(1e-30)
        step = np.linalg.solve(self.fisher + ridge[:, None, None] * np.eye(2), self.gradient[..., None])[..., 0]
        return np.asarray(0.5 * (self.gradient * step).sum(1))

    def common_gain(self, displacements: Sequence[NDArray[np.float64]]) -> float:
        """Gain, nats, of moving all positions along displacements (M, 2): at most half a nat for each at correct
        positions.

        Where object and probe have converged, the gradient along a displacement of all positions is that of the
        likelihood with object and probe refined. The sum over all patterns so tells distortions that the object goes
        along with, each by too little to be seen in a single pattern.
        """
        if not displacements:
            return 0.0
        basis = np.stack(displacements, -1)
        gradient = np.einsum("mik,mi->k", basis, self.gradient)
        fisher = np.einsum("mik,mij,mjl->kl", basis, self.fisher, basis)
        return float(0.5 * gradient @ np.linalg.lstsq(fisher, gradient, rcond=None)[0])


def position_score(problem: Problem, image: Tensor, probe: Tensor) -> PositionScore:
    """The derivatives with respect to the positions.

    Parameters
    ----------
    problem : Problem
        Counts, positions and forward model.
    image, probe : (H, W) and (P, N, N) complex tensors
        Where the derivatives are taken.
    """
    batches = in_order(len(problem), sweep_batch(problem))
    parts = share_out(problem, lambda some: _derivatives(problem, image, probe, some), batches)
    both = np.concatenate(parts)
    return PositionScore(both[:, 0], both[:, 1:])


def _derivatives(
    problem: Problem, image: Tensor, probe: Tensor, batches: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Gradient and Fisher matrix of each pattern as the rows of an array (B, 3, 2)."""
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
            change = forward.seen(2 * (field.real * wave.real + field.imag * wave.imag).sum(1))
            changes.append((change if factors is None else change * factors).mul_(valid))
        gradient = torch.stack([(d * (1 - counts / lit)).sum((1, 2), dtype=torch.float64) for d in changes], -1)
        fisher = torch.stack(
            [torch.stack([(a * b / lit).sum((1, 2), dtype=torch.float64) for b in changes], -1) for a in changes], -1
        )
        found.append(torch.cat([gradient[:, None], fisher], 1).cpu().numpy())
    return np.concatenate(found)
