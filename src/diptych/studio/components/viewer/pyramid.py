"""An array at several resolutions, each level half the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SMALLEST = 256
"""Longest side of the coarsest level, pixels."""


def halved(values: NDArray[Any]) -> NDArray[Any]:
    """Means over blocks of 2 x 2 pixels, (ceil(H / 2), ceil(W / 2)); an odd edge is repeated once."""
    h, w = values.shape
    if h % 2 or w % 2:
        values = np.pad(values, ((0, h % 2), (0, w % 2)), mode="edge")
    total: NDArray[Any] = values[::2, ::2] + values[1::2, ::2]
    total += values[::2, 1::2]
    total += values[1::2, 1::2]
    total *= values.dtype.type(0.25)
    return total


@dataclass(frozen=True, eq=False)
class Pyramid:
    """An image (H, W), then block means over 2, 4, 8, ... pixels, until both sides are at most :data:`SMALLEST`."""

    levels: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From an image (H, W) of floating-point or complex values, which becomes level 0 without a copy."""
        levels = [values]
        while max(levels[-1].shape) > SMALLEST:
            levels.append(halved(levels[-1]))
        return cls(tuple(levels))

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self.levels)
