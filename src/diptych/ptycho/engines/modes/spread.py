"""The detector's point spread, or that of a source of limited coherence, fitted where held-out pixels ask for it.

Both blur far-field patterns. Probe modes explain a blur, too: each a copy of the probe with another tilt. But it takes
many of them, each with as many unknowns as the probe, where two widths say it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.flags.base import POINT_SPREAD, Flag
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.problem import Problem, in_order, point_spread, share_out, sweep_batch, zero_masked
from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.physics.forward import intensity

PATTERNS = 64
"""Patterns, spread over the scan, from which it is estimated."""

STEPS = 8
"""Steps of Fisher scoring."""

LEAST, MOST = 1e-2, 16.0
"""Variances, pixels^2, that are considered, and from which the steps start at least."""


def spread_flag(widths: tuple[float, float], gain: Gain) -> str:
    """A note on a result with a point spread of these widths (y, x)."""
    text = (
        f"patterns are blurred by {widths[0]:.2g} x {widths[1]:.2g} px (rms, y and x): {gain.text}. point_spread='off' "
        "(--point-spread off) takes them as sharp."
    )
    return str(Flag(POINT_SPREAD, text))


def fitted_spread(problem: Problem, image: Tensor, probe: Tensor) -> PointSpread:
    """The most likely point spread for an object and probe; the problem's becomes it.

    Fisher scoring of the Poisson likelihood in the variances along y and x.

    Parameters
    ----------
    problem : Problem
        Counts; its point spread is where the steps start.
    image, probe : (H, W) and (P, N, N) complex tensors
        Held fixed.
    """
    forward = problem.forward
    rows = np.linspace(0, len(problem) - 1, min(PATTERNS, len(problem))).astype(np.int64)
    batches = [rows[some] for some in in_order(len(rows), sweep_batch(problem))]
    start = (0.0, 0.0) if forward.spread is None else forward.spread.widths
    variances = np.clip(np.square(start), LEAST, MOST)
    for _ in range(STEPS):
        spread = point_spread(problem, np.sqrt(variances))
        work = partial(_derivatives, problem, image, probe, spread)
        total = sum(share_out(problem, work, batches), np.zeros((3, 2)))
        if not np.isfinite(total).all():
            break  # The fit diverged, and says so.
        step = np.linalg.lstsq(total[1:], total[0], rcond=1e-12)[0]
        variances = np.clip(variances + step, np.maximum(variances / 4, LEAST), np.minimum(4 * variances, MOST))
    forward.spread = point_spread(problem, np.sqrt(variances))
    return forward.spread


def _derivatives(
    problem: Problem, image: Tensor, probe: Tensor, spread: PointSpread, batches: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Gradient of the log-likelihood with respect to the variances and its Fisher matrix, the rows of (3, 2)."""
    forward, total = problem.forward, np.zeros((3, 2))
    for batch in batches:
        index = torch.from_numpy(batch).to(problem.device)
        light = intensity(forward.propagator.forward(forward.views(image, probe, batch).exit_waves()))
        if forward.factors is not None and forward.factors.fitted:
            light = light * forward.factors.values[index][:, None, None]
        expected = spread(light)
        expected = (expected if forward.background is None else expected + forward.background).clamp(min=1e-6)
        ratio = problem.counts[index] / expected - 1
        zero_masked(problem, batch, ratio)
        weights = 1 / expected
        zero_masked(problem, batch, weights)
        slopes = spread.slopes(light)
        for i, slope in enumerate(slopes):
            total[0, i] += float((slope * ratio).sum(dtype=torch.float64))
            for j, other in enumerate(slopes):
                total[1 + i, j] += float((slope * other * weights).sum(dtype=torch.float64))
    return total
