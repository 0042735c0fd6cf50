"""Where components of the probe start: what most patterns' own updates of the probe have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, detect, in_order, share_out, sweep_batch, zero_masked
from diptych.ptycho.physics.likelihood import LEAST_EXPECTED

PASSES = 6
"""Passes over the scan in which the leading shapes are found (subspace iteration)."""

SPARE = 2
"""Shapes that are iterated besides those asked for: they speed up convergence."""


def common_updates(
    problem: Problem, image: Tensor, probe: Tensor, count: int, rng: np.random.Generator, passes: int = PASSES
) -> tuple[Tensor, Tensor]:
    """The ``count`` leading singular vectors of all patterns' updates of the first probe mode, and their coefficients.

    An update is the step down the gradient of the likelihood of one pattern, without its part along the first mode.
    The matrix of all updates is never stored: the shapes are found by subspace iteration, a pass over the scan each.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        The fit of a constant probe.

    Returns
    -------
    components : (K, N, N) complex tensor
        Orthogonal to the first mode and each other, each with its norm.
    mixing : (M, K + 1) complex tensor
        Coefficients: 1 of the first mode.
    """
    size, dtype = problem.size, probe.dtype
    drawn = rng.normal(size=(2, count + SPARE, size * size))
    shapes = _orthonormal(torch.from_numpy(drawn[0] + 1j * drawn[1]).to(problem.device, dtype), probe[0])
    for _ in range(passes):
        amounts, sums = _pass(problem, image, probe, shapes)
        shapes = _orthonormal(sums, probe[0])
    amounts, _ = _pass(problem, image, probe, shapes)
    left, lengths, right = torch.linalg.svd(amounts, full_matrices=False)
    shapes = (right @ shapes)[:count]
    norm = torch.linalg.vector_norm(probe[0])
    mixing = torch.cat([torch.ones_like(left[:, :1]), (left * lengths)[:, :count] / norm], 1)
    return (shapes * norm).view(count, size, size), mixing


def _pass(problem: Problem, image: Tensor, probe: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (M, C) of all updates in orthonormal shapes (C, N^2), and the sum of updates with them (C, N^2)."""

    def part(some_batches: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        amounts, sums = [], torch.zeros_like(shapes)
        for some in some_batches:
            updates = _updates(problem, image, probe, some)
            amounts.append(updates @ shapes.conj().T)
            sums += amounts[-1].conj().T @ updates
        return torch.cat(amounts), sums

    parts = share_out(problem, part, in_order(len(problem), sweep_batch(problem)))
    return torch.cat([each[0] for each in parts]), torch.stack([each[1] for each in parts]).sum(0)


def _updates(problem: Problem, image: Tensor, probe: Tensor, batch: NDArray[np.int64]) -> Tensor:
    """Step of the first probe mode (B, N^2) that each pattern of a batch asks for."""
    forward = problem.forward
    views = forward.views(image, probe, batch)
    field, expected = detect(problem, batch, views.exit_waves())
    index = torch.from_numpy(batch).to(problem.device)
    weights = (problem.counts[index] / expected.clamp(min=LEAST_EXPECTED)).sub_(1)
    # Few photons where even fewer are expected would outweigh all others.
    weights.clamp_(max=1.0)
    zero_masked(problem, batch, weights)
    waves = views.unplaced(forward.back(field, weights))[:, 0]
    steps = waves * views.patches.conj()
    if views.ramps is not None:
        steps = torch.fft.ifft2(torch.fft.fft2(steps) * views.ramps.conj())
    steps = forward.propagator.leave(steps[:, None])[:, 0].flatten(1)
    transparency = views.patches.abs().square().mean()
    first = probe[0].flatten()
    along = (steps @ first.conj()) / first.abs().square().sum()
    return (steps - along[:, None] * first) / transparency


def _orthonormal(shapes: Tensor, first: Tensor) -> Tensor:
    """Orthonormal rows that span those of ``shapes`` (C, N^2), orthogonal to ``first`` (N, N)."""
    both = torch.cat([first.flatten()[None], shapes])
    flat: Tensor = torch.linalg.qr(both.T)[0]
    return flat.T[1:].contiguous()
