"""Angles between latents, for tests of the preference panel."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def angle_between(first: ArrayLike, second: ArrayLike) -> float:
    """The angle between two vectors, rad; accurate for small angles, too."""
    a, b = (np.asarray(vector, dtype=np.float64) / np.linalg.norm(vector) for vector in (first, second))
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))
