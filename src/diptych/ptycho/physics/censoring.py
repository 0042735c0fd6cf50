"""Counts of a saturated detector pixel: "at least s photons" instead of a number.

With lambda photons expected, the pixel is saturated with the probability P(k >= s) = P(s, lambda), the regularised
lower incomplete gamma function (DLMF 8.4.10). Such counts are censored, and the likelihood takes that probability for
them (Tobin, Econometrica 26, 24, 1958, for the normal distribution). Masking them loses what they say: that the light
there is bright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_PROBABILITY = 1e-250
"""Below this the probability is taken from the first terms of its series: double precision ends at 1e-308."""


def censored_terms(expected: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of saturated pixels, and its derivative.

    Parameters
    ----------
    expected : (n,) float64 tensor
        Expected photons, positive.
    level : float
        Photons s at which the pixel saturates, at least 1.

    Returns
    -------
    loss : (n,) float64 tensor
        -log P(k >= s), nats; 0 for large ``expected``.
    derivative : (n,) float64 tensor
        With respect to ``expected``: -p(s - 1) / P(k >= s), where p is the Poisson probability. Never positive.
    """
    s = torch.tensor(level, dtype=torch.float64, device=expected.device)
    probability = torch.special.gammainc(s.expand_as(expected), expected)
    usual = probability > LEAST_PROBABILITY
    # P(s, x) = p(s) (1 + x / (s + 1) + ...); far below s the terms fall as a geometric series.
    series = -torch.log1p(-(expected / (s + 1)).clamp(max=1 - 1e-12))
    below = s * expected.log() - expected - torch.lgamma(s + 1)
    log_probability = torch.where(usual, probability.clamp(min=LEAST_PROBABILITY).log(), below + series)
    derivative = -((s - 1) * expected.log() - expected - torch.lgamma(s) - log_probability).exp()
    return -log_probability, derivative


def saturated_counts(
    counts: NDArray[Any], mask: NDArray[np.bool_] | None, saturation: float | None
) -> NDArray[np.bool_] | None:
    """True at the valid counts (M, N, N) from ``saturation`` on; None where there are none."""
    if saturation is None:
        return None
    high = np.asarray(counts >= saturation)
    if mask is not None:
        high &= mask
    return high if high.any() else None


@dataclass(frozen=True, eq=False)
class Censored:
    """Saturated pixels, without the held-out ones.

    Parameters
    ----------
    starts : (M + 1,) int64
        Pattern m has the entries ``starts[m]`` to ``starts[m + 1]`` of ``pixels``.
    pixels : (n,) int64 tensor
        Flat indices of the pixels in their pattern.
    level : float
        Photons at which the detector saturates.
    """

    starts: NDArray[np.int64]
    pixels: Tensor
    level: float

    @classmethod
    def found(cls, high: NDArray[np.bool_], held: Tensor, level: float) -> Censored:
        """From the saturated counts (M, N, N) and the held-out pixels (M, h)."""
        flat = high.reshape(len(high), -1).copy()
        np.put_along_axis(flat, held.cpu().numpy(), values=False, axis=1)
        starts = np.concatenate([[0], np.cumsum(flat.sum(1))])
        return cls(starts, torch.from_numpy(np.nonzero(flat)[1]).to(held.device), level)

    def put(self, where: tuple[Tensor, Tensor], expected: Tensor, terms: Tensor, weights: Tensor) -> None:
        """Write loss and derivative at saturated pixels into ``terms`` and ``weights`` (B, N, N)."""
        loss, derivative = censored_terms(expected.double(), self.level)
        terms.view(len(terms), -1)[where] = loss.to(terms.dtype)
        weights.view(len(weights), -1)[where] = derivative.to(weights.dtype)

    def where(self, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Rows of a batch and flat pixel indices (n,) of its saturated pixels."""
        first, number = self.starts[batch], self.starts[batch + 1] - self.starts[batch]
        rows = np.repeat(np.arange(len(batch)), number)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(number) - number, number)
        entries = torch.from_numpy(np.repeat(first, number) + within).to(self.pixels.device)
        return torch.from_numpy(rows).to(self.pixels.device), self.pixels[entries]
