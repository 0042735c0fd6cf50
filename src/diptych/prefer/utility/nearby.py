"""Approximate inverses of B = I + R K R', by which conjugate gradients need few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from diptych.prefer.utility.likelihood import Curvature

Array = NDArray[np.float64]

REFACTOR = 3.0
"""B is factored anew after steps of more than this, logits: the old factor would no longer help."""

RANK = 64
"""Directions in which K is known well: the threshold, what proposals have in common, and some more."""


class Product(Protocol):
    """A symmetric matrix (m, m) as a function."""

    def times(self, vectors: Array) -> Array:
        """Its product with (m,) or (m, k)."""
        ...


class Guess(Protocol):
    """Approximate inverses of B for curvatures that change."""

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """B^-1 as a function, roughly, after a step that changed predictors by as much as ``change``, logits."""
        ...


class Factors:
    """The factor of B as it was at the start, or after the last long step.

    Parameters
    ----------
    full : (m, m)
        K.
    factor : (k, k) or None
        Of about the leading part of B at the start, where that is known.
    """

    def __init__(self, full: Array, factor: Array | None) -> None:
        self._full, self._factor = full, factor

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """The inverse of that B as a function."""
        if self._factor is None or change > REFACTOR:
            self._factor = factored(self._full, curvature)
        elif len(self._factor) < len(self._full):
            self._factor = bordered(self._factor, self._full, curvature)
        return by_factor(self._factor)


class LowRank:
    """K as F F' of low rank (Nystroem's approximation from random vectors: Frangella, Tropp and Udell, arXiv 2110.02820).

    Parameters
    ----------
    covariance : Product
        K (m, m).
    count : int
        m.
    """

    def __init__(self, covariance: Product, count: int) -> None:
        drawn = np.random.default_rng(0).standard_normal((count, min(RANK, count)))
        image = covariance.times(drawn)
        core = drawn.T @ image
        size, ways = np.linalg.eigh((core + core.T) / 2)
        # Products in float32 leave the smallest sizes to chance.
        real = size > 1e-5 * size[-1]
        self._root = image @ (ways[:, real] / np.sqrt(size[real]))

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """(I + R F F' R')^-1 as a function."""
        wide = curvature.times(self._root)
        small = cho_factor(np.eye(wide.shape[1]) + wide.T @ wide, check_finite=False)
        return lambda vectors: vectors - wide @ cho_solve(small, wide.T @ vectors, check_finite=False)


def by_factor(factor: Array) -> Callable[[Array], Array]:
    """The inverse of L L' as a function, L (m, m) the lower factor."""
    return lambda vectors: np.asarray(cho_solve((factor, True), vectors, check_finite=False))


def factored(full: Array, curvature: Curvature) -> Array:
    """Lower Cholesky factor of B = I + R K R'."""
    if len(curvature.factor):
        inner = curvature.times(np.ascontiguousarray(curvature.times(full).T))
    else:
        inner = full * curvature.root
        inner *= curvature.root[:, None]
    inner[np.diag_indices_from(inner)] += 1
    # B is symmetric; its transpose is laid out as LAPACK wants it.
    return np.asarray(cholesky(inner.T, lower=True, overwrite_a=True, check_finite=False))


def bordered(factor: Array, full: Array, curvature: Curvature) -> Array:
    """Factor of about B (m, m), with the ``factor`` (k, k) of about its leading part: m^2 (m - k) operations instead of m^3 / 3.

    It is exact where that is the factor for this curvature, and no choice among several lies on both sides of k.
    """
    have, count = len(factor), len(full)
    chosen = np.zeros((count, count - have))
    chosen[np.arange(have, count), np.arange(count - have)] = 1
    border = curvature.times(full @ curvature.times(chosen, transpose=True)) + chosen
    side = solve_triangular(factor, border[:have], lower=True, check_finite=False)
    whole = np.zeros((count, count), order="F")
    whole[:have, :have] = factor
    whole[have:, :have] = side.T
    # B is above I, and so is what is left of it here; for a leading part that is not quite that of B this needs saying.
    size, ways = np.linalg.eigh(border[have:] - side.T @ side)
    whole[have:, have:] = cholesky(ways * np.maximum(size, 1.0) @ ways.T, lower=True, check_finite=False)
    return whole
