"""Background counts that the scan does not tell: a smooth one, fitted where held-out pixels ask for it.

Air scatter, stray light or dark counts are the same in every frame. Without them in the model, object and probe take
them up as structure that changes from frame to frame, and more probe modes seem to be there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from diptych.ptycho.engines.flags.base import BACKGROUND, Flag
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.problem import Problem, detect, in_order, share_out, sweep_batch, zero_masked

SMOOTH = 1 / 8
"""Standard deviation of the smoothing, of the side of a pattern."""

PATTERNS = 128
"""Patterns, spread over the scan, from which it is estimated."""

STEPS = 6
"""Steps of Fisher scoring."""

LEAST, FALL = 1e-3, 0.25
"""Counts per pixel to start from, and the share of it that a step may fall to."""


def background_flag(background: NDArray[np.float32], counts: float, gain: Gain) -> str:
    """A note on a result with a background (N, N), of which ``counts`` are the mean counts of a pattern."""
    share = 100 * float(background.sum()) / max(counts, 1e-30)
    text = (
        f"{background.mean():.3g} counts per pixel ({share:.2g} % of all) were fitted: {gain.text}. background='off' "
        "(--background off) leaves them out."
    )
    return str(Flag(BACKGROUND, text))


def fitted_background(problem: Problem, image: Tensor, probe: Tensor) -> Tensor:
    """The most likely smooth background (N, N), counts, for an object and probe; the problem's becomes it.

    Fisher scoring of the Poisson likelihood of each pixel, whose sums over frames are averaged over neighbours with
    Gaussian weights: local likelihood (Tibshirani and Hastie, J. Am. Stat. Assoc. 82, 559, 1987).

    Parameters
    ----------
    problem : Problem
        Counts; its background is where the steps start.
    image, probe : (H, W) and (P, N, N) complex tensors
        Held fixed.
    """
    forward = problem.forward
    rows = np.linspace(0, len(problem) - 1, min(PATTERNS, len(problem))).astype(np.int64)
    batches = [rows[some] for some in in_order(len(rows), sweep_batch(problem))]
    if forward.background is None:
        forward.background = torch.full_like(problem.counts[0], LEAST)
    for _ in range(STEPS):
        forward.background = forward.background.clamp(min=LEAST)
        slopes, information = sum(
            share_out(problem, lambda some: _derivatives(problem, image, probe, some), batches),
            np.zeros((2, problem.size, problem.size)),
        )
        width = SMOOTH * problem.size
        slope, known = (gaussian_filter(each, width, mode="nearest") for each in (slopes, information))
        step = torch.from_numpy(slope / known.clip(1e-30)).to(forward.background)
        forward.background = torch.maximum(forward.background + step, FALL * forward.background)
    return forward.background


def _derivatives(
    problem: Problem, image: Tensor, probe: Tensor, batches: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Derivative of the log-likelihood with respect to the background, and its Fisher information, summed over frames:
    (2, N, N).
    """
    sums = torch.zeros((2, problem.size, problem.size), dtype=torch.float64, device=problem.device)
    for batch in batches:
        views = problem.forward.views(image, probe, batch)
        _, expected = detect(problem, batch, views.exit_waves())
        fitted = torch.ones_like(expected)
        zero_masked(problem, batch, fitted)
        ratio = problem.counts[torch.from_numpy(batch).to(problem.device)] / expected
        sums[0] += ((ratio - 1) * fitted).sum(0)
        sums[1] += (fitted / expected).sum(0)
    return sums.cpu().numpy()
