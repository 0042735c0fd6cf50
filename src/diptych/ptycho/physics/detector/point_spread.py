"""Point spread: part of the light that falls on a detector pixel is counted by its neighbours.

The expected counts are convolved along each axis with a discrete Gaussian, T(n) = exp(-t) I_n(t), whose variance is
t = width^2 pixels^2 exactly, however narrow it is (Lindeberg, IEEE Trans. Pattern Anal. Mach. Intell. 12, 234, 1990). A
source whose coherence falls off as a Gaussian blurs far-field patterns in the same way. Beyond its edges a pattern is
dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ive
from torch import Tensor

from diptych.errors import InputError

MOST_WIDTH = 16.0
"""Largest width, detector pixels."""

NEGLIGIBLE = 1e-7
"""Share of the light beyond which a kernel is cut off."""


def kernel(variance: float, most: int) -> NDArray[np.float64]:
    """Share of the light of a pixel that each neighbour gets, at distances 0 to at most ``most`` pixels: (r + 1,)."""
    shares: NDArray[np.float64] = ive(np.arange(most + 1), variance)
    return shares[: max(int(np.count_nonzero(shares > NEGLIGIBLE)), 1)]


def recorded_widths(provenance: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Widths (y, x) with which a result was made, detector pixels; 0 where patterns were taken as sharp.

    Raises
    ------
    InputError
        If the provenance of the result ``name`` holds something else.
    """
    found = provenance.get("point_spread", (0.0, 0.0))
    right = isinstance(found, Sequence) and len(found) == 2 and all(isinstance(each, int | float) for each in found)
    if not right or not all(0 <= each <= MOST_WIDTH for each in found):
        wanted = f"two widths of 0 to {MOST_WIDTH:g} detector pixels"
        raise InputError(f"{name}: point_spread", f"{found!r} in the provenance", wanted)
    return float(found[0]), float(found[1])


@dataclass(frozen=True, eq=False)
class PointSpread:
    """Point spread of a detector.

    Parameters
    ----------
    widths : (float, float)
        Standard deviations along y and x, detector pixels.
    size : int
        N, the side of a pattern.
    dtype : torch.dtype
        float32 or float64.
    device : torch.device
        Of the counts.
    """

    widths: tuple[float, float]
    size: int
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def kernels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """:func:`kernel` along y and x."""
        first, second = (kernel(width**2, self.size - 1) for width in self.widths)
        return first, second

    @cached_property
    def _matrices(self) -> list[Tensor]:
        return [self._matrix(shares) for shares in self.kernels]

    @cached_property
    def _slopes(self) -> list[Tensor]:
        """Derivatives of the matrices by the variance: half the second difference of the kernel."""
        found = []
        for width in self.widths:
            shares = ive(np.abs(np.arange(-1, self.size + 1)), width**2)
            found.append(self._matrix((shares[:-2] - 2 * shares[1:-1] + shares[2:]) / 2))
        return found

    def _matrix(self, shares: NDArray[np.float64]) -> Tensor:
        """(N, N), symmetric: a row for each pixel, the share of its neighbours in it."""
        apart = np.abs(np.subtract.outer(np.arange(self.size), np.arange(self.size)))
        padded = np.zeros(self.size)
        padded[: len(shares)] = shares[: self.size]
        return torch.from_numpy(padded[apart]).to(self.device, self.dtype)

    def __call__(self, counts: Tensor) -> Tensor:
        """Counts (..., N, N) as the detector sees them. Linear, and its own adjoint."""
        rows, columns = self._matrices
        return rows @ counts @ columns

    def slopes(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of what the detector sees by the variance along y and along x, pixels^2."""
        (rows, columns), (in_rows, in_columns) = self._matrices, self._slopes
        return in_rows @ counts @ columns, rows @ counts @ in_columns
