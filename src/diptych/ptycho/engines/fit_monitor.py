"""The fit: monitored batch by batch while an engine runs, or computed over all patterns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import (
    Problem,
    detect,
    in_order,
    pattern_totals,
    share_out,
    sweep_batch,
    zero_masked,
)
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.likelihood import fit_sums

FACTORS_SHARE = 0.05
"""Factors of the frames are tried where they vary, and explain this share of the deviance above that of shot noise.

Two kinds of object, 1e4 to 1e6 photons (N = 64, 144 patterns), after PIE: at most 0.02 for constant beams, hot pixels
and wrong readings, 0.12 to 0.3 for intensities within 5 %, 0.6 to 0.7 within 30 %; 0.1 for Gaussian probes."""

LEAST_EXCESS = 0.1
"""Excess over a fit of 1 of which shares are taken at least: where noise is fitted, there is none."""


class FitMeter:
    """Collects expected counts at the held-out and the monitored pixels, batch by batch; computes the fit from them.

    Several threads may add different patterns at the same time.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        # Allocated once: small results kept between large temporary ones would fragment the heap.
        self._watched = torch.zeros(problem.watched.shape, dtype=problem.counts.dtype, device=problem.device)
        self._held = torch.zeros(problem.held.shape, dtype=problem.counts.dtype, device=problem.device)
        self._seen = torch.zeros(len(problem), dtype=torch.bool, device=problem.device)

    def add(self, batch: NDArray[np.int64], expected: Tensor) -> None:
        """Add the expected counts (B, N, N) of a batch."""
        index = torch.from_numpy(batch).to(self._problem.device)
        for pixels, kept in ((self._problem.watched, self._watched), (self._problem.held, self._held)):
            if not compiled.take_pixels(expected, batch, pixels, kept):
                kept[index] = expected.flatten(1).gather(1, pixels[index])
        self._seen[index] = True

    def storage(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Memory (M, w) and (M, h) into which the caller writes the expected counts of a batch, in single precision on
        a CPU.
        """
        self._seen.numpy()[batch] = True
        return self._watched.numpy(), self._held.numpy()

    def values(self) -> dict[str, float]:
        """``fit``, ``held_out_fit`` (NaN where there were no pixels) and ``excess``, the deviance above that of shot
        noise per photon.

        The excess does not depend on the dose where the fit does: at 1e9 photons an excellent object still fits badly.
        """
        problem = self._problem
        found, predicted, photons = self._sums(self._watched, *problem.watched_counts)
        top, bottom, _ = self._sums(self._held, *problem.held_counts)
        nan = float("nan")
        return {
            "fit": found / predicted if predicted > 0 else nan,
            "held_out_fit": top / bottom if bottom > 0 else nan,
            "excess": (found - predicted) / max(photons, 1.0),
        }

    def _sums(self, expected: Tensor, counts: Tensor, valid: Tensor | None) -> tuple[float, float, float]:
        """Deviance, expected deviance and photons over some pixels (M, h), where they are valid and were seen."""
        if not bool(self._seen.all()):
            expected, counts = expected[self._seen], counts[self._seen]
            valid = valid if valid is None else valid[self._seen]
        shift = self._problem.read_variance
        photons = counts.sum() - shift * (counts.numel() if valid is None else valid.sum())
        return *fit_sums(counts, expected, valid, shift), float(photons)


def full_fit(problem: Problem, image: Tensor, probe: Tensor, batch: int = 64) -> dict[str, float]:
    """The fit and the excess (see :class:`FitMeter`) over every fitted pixel, and the fit over the held-out ones."""
    meter = FitMeter(problem)

    def part(some_batches: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        sums = np.zeros(3)
        for some in some_batches:
            views = problem.forward.views(image, probe, some)
            _, expected = detect(problem, some, views.exit_waves())
            meter.add(some, expected)
            fitted = torch.ones_like(expected)
            zero_masked(problem, some, fitted)
            counts = problem.counts[views.rows]
            photons = float(((counts - problem.read_variance) * fitted).sum(dtype=torch.float64))
            sums += (*fit_sums(counts, expected, fitted > 0, problem.read_variance), photons)
        return sums

    found, predicted, photons = sum(share_out(problem, part, in_order(len(problem), batch)), np.zeros(3)).tolist()
    return {**meter.values(), "fit": found / max(predicted, 1e-30), "excess": (found - predicted) / max(photons, 1.0)}


def explained_by_factors(problem: Problem, image: Tensor, probe: Tensor) -> tuple[float, float]:
    """The fit without factors of the frames, and what factors alone would lower it by.

    The second is 0 where the factors do not vary. Then no fit is computed, and the first is NaN: deviances of all
    pixels take several times as long as the factors. Leaves the factors off, with their fitted values.
    """
    factors, batch = problem.forward.factors, sweep_batch(problem)
    assert factors is not None

    def fit_factors(some_batches: Sequence[NDArray[np.int64]]) -> None:
        for some in some_batches:
            detect(problem, some, problem.forward.views(image, probe, some).exit_waves())

    factors.fitted, factors.on_trial = True, False
    share_out(problem, fit_factors, in_order(len(problem), batch))
    if not factors.vary(photons_of_total(problem)):
        factors.fitted = False
        return float("nan"), 0.0
    after = full_fit(problem, image, probe, batch)["fit"]
    factors.fitted = False
    without = full_fit(problem, image, probe, batch)["fit"]
    return without, without - after


def photons_of_total(problem: Problem) -> float:
    """As many photons as have the relative noise of a pattern's total, which read noise adds to."""
    noisy = problem.read_variance * problem.size**2
    total = float(pattern_totals(problem.counts).mean())
    return max(total - noisy, 0.0) ** 2 / max(total, 1e-30)


def factors_needed(problem: Problem, image: Tensor, probe: Tensor, least: float = 0.0) -> bool:
    """Whether factors of the frames alone, at an object and probe, explain some of the excess deviance, and at least
    ``least`` of the fit.
    """
    without, explained = explained_by_factors(problem, image, probe)
    return explained > least and explained > FACTORS_SHARE * max(without - 1, LEAST_EXCESS)


def level(found: dict[str, float]) -> float:
    """Held-out fit of :func:`full_fit`; the fit itself where nothing is held out, infinite where it diverged."""
    fit = found["held_out_fit"] if np.isfinite(found["held_out_fit"]) else found["fit"]
    return float(fit) if np.isfinite(fit) else float("inf")
