"""Numbers that flags are decided by, from the final state of a reconstruction in one pass over its patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import xlogy
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, detect, in_order, share_out, sweep_batch, zero_masked
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.illumination import lit
from diptych.ptycho.physics.likelihood import deviance, expected_deviance
from diptych.ptycho.physics.patches import scatter_add

SEEN_TWICE = 1.25
"""Effective number of positions above which an object pixel counts as seen by more than one: a second position adds
at least an eighth of the light of the first."""


@dataclass(frozen=True)
class Evidence:
    """What the patterns hold and how well they are explained.

    Parameters
    ----------
    patterns : int
        Number of patterns.
    photons : float
        Counts at fitted pixels, sum over all patterns.
    counted : int
        Fitted pixels, over all patterns, where more than one photon is expected.
    unknowns : int
        Two for each lit object pixel, and for each lit pixel of the probe modes where the probe is refined.
    alone : float
        Share of the light that falls on object pixels seen by one position only.
    fit, held_out : float
        Deviance over expected deviance at fitted and at held-out pixels; NaN where nothing is held out.
    error : float
        Standard error of ``level`` from the scatter of the deviances of the held-out pixels.
    expected : float
        Sum of the expected deviances at fitted pixels.
    by_frame : float
        Share of the excess deviance that one factor for each pattern's intensity would explain.
    spread : float
        Relative spread (rms) of the patterns' intensities about the predicted ones, beyond counting noise.
    """

    patterns: int
    photons: float
    counted: int
    unknowns: int
    alone: float
    fit: float
    held_out: float
    error: float
    expected: float
    by_frame: float
    spread: float

    @property
    def level(self) -> float:
        """Mean of fit and held-out fit. Fitting p unknowns to n pixels lowers the one and raises the other by p / n to
        first order; the mean stays at 1 where only photon noise is left.
        """
        return self.fit if np.isnan(self.held_out) else (self.fit + self.held_out) / 2

    @property
    def used(self) -> float:
        """Share of the measured information that went into fitting noise, p / n (see :attr:`level`); NaN where nothing
        is held out.
        """
        return float((self.held_out - self.fit) / max(self.held_out + self.fit, 1e-12))

    def fits(self) -> dict[str, float]:
        """``fit``, ``held_out_fit`` and ``excess`` of :func:`~diptych.ptycho.engines.fit_monitor.full_fit`."""
        return {
            "fit": self.fit,
            "held_out_fit": self.held_out,
            "excess": (self.fit - 1) * self.expected / max(self.photons, 1.0),
        }

    @property
    def excess(self) -> float:
        """Deviance per photon that noise does not explain, free of over-fitting: it hardly depends on the dose."""
        return (self.level - 1) * self.expected / max(self.photons, 1.0)


def gather_evidence(
    problem: Problem, image: Tensor, probe: Tensor, refined: bool, start: Tensor | None = None
) -> Evidence:
    """The evidence of a state.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        Object and probe modes.
    refined : bool
        Whether the probe was fitted too.
    start : (P, N, N) complex tensor, optional
        Initial probe modes. A wrong reading can shrink the refined probe (frames late by one at 1e4 photons: 56 % of
        its light then falls on pixels that one position sees), so the smaller ``alone`` of both counts.
    """
    frames = np.zeros((len(problem), 2))

    def part(batches: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        return sum((_sums(problem, image, probe, batch, frames) for batch in batches), np.zeros(9))

    every = sum(share_out(problem, part, in_order(len(problem), sweep_batch(problem))), np.zeros(9))
    sums, held = every[:4], every[4:]
    fit, held_fit = sums[0] / max(sums[1], 1e-30), held[0] / held[1] if held[1] > 0 else np.nan
    gain, spread = _frame_factors(frames)
    alone, pixels = _light(problem, probe)
    if start is not None:
        alone = min(alone, _light(problem, start)[0])
    surplus = sums[0] - sums[1]
    return Evidence(
        patterns=len(problem),
        photons=float(sums[2]),
        counted=int(sums[3]),
        unknowns=2 * pixels + (2 * _lit_pixels(intensity(probe[:, None])) if refined else 0),
        alone=alone,
        fit=float(fit),
        held_out=float(held_fit),
        error=_level_error(held),
        expected=float(sums[1]),
        by_frame=gain / surplus if surplus > 0 else 0.0,
        spread=spread,
    )


def _sums(
    problem: Problem, image: Tensor, probe: Tensor, batch: NDArray[np.int64], frames: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Over the fitted pixels of a batch: sums of deviances, of their expectations, of counts, and the number where more
    than one photon is expected; then those of :func:`_held_sums`. Writes the totals of the patterns to ``frames``.
    """
    views = problem.forward.views(image, probe, batch)
    _, expected = detect(problem, batch, views.exit_waves())
    weights = torch.ones_like(expected)
    zero_masked(problem, batch, weights)
    counts = problem.counts[views.rows]
    found, predicted = deviance(counts, expected), expected_deviance(expected, problem.read_variance)
    held = _held_sums(problem, batch, found, predicted)
    if shift := problem.read_variance:
        counts, expected = counts - shift, expected - shift
    counts, bright = counts * weights, (expected > 1) * weights
    totals = [float(each.sum(dtype=torch.float64)) for each in (found.mul_(weights), predicted.mul_(weights), counts)]
    both = torch.stack([each.sum((1, 2), dtype=torch.float64) for each in (counts, expected * weights)], 1)
    frames[batch] = both.cpu().numpy()
    return np.array([*totals, float(bright.sum(dtype=torch.float64)), *held])


def _held_sums(problem: Problem, batch: NDArray[np.int64], found: Tensor, predicted: Tensor) -> NDArray[np.float64]:
    """Over valid held-out pixels: sums of D, E, D^2, D E, E^2, where D is the deviance and E its expectation."""
    index = torch.from_numpy(batch).to(problem.device)
    pixels = problem.held[index]
    d, e = (part.flatten(1).gather(1, pixels).double() for part in (found, predicted))
    if problem.invalid is not None:
        invalid = problem.invalid.expand(len(problem), -1, -1)[index].flatten(1).gather(1, pixels)
        d, e = d.masked_fill(invalid, 0.0), e.masked_fill(invalid, 0.0)
    return np.array([float(part.sum()) for part in (d, e, d * d, d * e, e * e)])


def _level_error(held: NDArray[np.float64]) -> float:
    """Standard error of the mean of fit and held-out fit: half that of the held-out fit, which has far fewer pixels."""
    d, e, dd, de, ee = (float(value) for value in held)
    if e <= 0:
        return float("nan")
    return math.sqrt(max(dd - 2 * d / e * de + (d / e) ** 2 * ee, 0.0)) / e / 2


def _frame_factors(frames: NDArray[np.float64]) -> tuple[float, float]:
    """Deviance that one factor for each pattern would remove, and the relative spread of the factors beyond noise.

    ``frames`` (M, 2) holds measured and predicted totals K and L. The best factor is K / L, and removes the deviance of
    the totals, 2 (K log(K / L) - K + L), of which noise explains one for each pattern.
    """
    measured, expected = frames.T
    expected = np.maximum(expected, 1e-8)
    gain = 2 * (xlogy(measured, measured / expected) - measured + expected).sum() - len(frames)
    variance = np.mean((measured / expected - 1) ** 2 - 1 / expected)
    return max(float(gain), 0.0), math.sqrt(max(float(variance), 0.0))


def _light(problem: Problem, probe: Tensor) -> tuple[float, int]:
    """Share of the light on object pixels that one position alone sees, and the number of lit object pixels.

    A pixel with the light I_j of position j is seen by (sum I_j)^2 / sum I_j^2 positions: 1 where one sees it, n where
    n see it equally.
    """
    once = intensity(probe)
    total, squared = (torch.zeros(problem.shape, dtype=once.dtype, device=once.device) for _ in range(2))
    for batch in in_order(len(problem), 256):
        corners = problem.forward.corners[batch]
        scatter_add(total, corners, once.expand(len(batch), -1, -1))
        scatter_add(squared, corners, once.square().expand(len(batch), -1, -1))
    alone = total.square() < SEEN_TWICE * squared
    light = float(total.sum(dtype=torch.float64))
    return float(total[alone].sum(dtype=torch.float64)) / max(light, 1e-30), _lit_pixels(total)


def _lit_pixels(light: Tensor) -> int:
    """Number of lit pixels of (..., H, W)."""
    return sum(int(lit(part.cpu().numpy()).sum()) for part in light.reshape(-1, *light.shape[-2:]))
