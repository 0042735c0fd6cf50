"""Approximate inverses of B = I + R K R', by which conjugate gradients need few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cho_solve_banded, cholesky, cholesky_banded, solve_triangular

from diptych.prefer.utility.gp.covariance import START, Prior
from diptych.prefer.utility.inference.observations import Curvature

Array = NDArray[np.float64]

REFACTOR = 3.0
"""B is factored anew after steps of more than this, logits: the old factor would no longer help."""

RANK = 32
"""Directions in which the utilities' part of K is known well: what proposals have in common, and some more."""

STILL = 1e-6
"""Least variance of the walk of a threshold, in units of s^2: one that stands still has no inverse."""


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


class Parted:
    """The threshold's part of K as it is, and of the utilities' a low rank and a diagonal.

    The threshold is a walk from screen to screen: the inverse of its covariance has three diagonals, so that it costs
    no more than a vector; what screens have of their own beside it is counted as that of each rating. The low rank
    (Nystroem's approximation from random vectors: Frangella, Tropp and Udell, arXiv 2110.02820) is for what latents
    have in common, and what that leaves of the diagonal stands for the rest.

    Parameters
    ----------
    prior : Prior
        K (m, m).
    """

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        count = len(prior.given)
        drawn = np.random.default_rng(0).standard_normal((count, min(RANK, count)))
        image = prior.utilities(drawn)
        core = drawn.T @ image
        size, ways = np.linalg.eigh((core + core.T) / 2)
        # Products in float32 leave the smallest sizes to chance.
        real = size > 1e-5 * size[-1]
        self._root = image @ (ways[:, real] / np.sqrt(size[real]))
        self._rest = np.maximum(prior.spreads() - (self._root**2).sum(axis=1), 0.0)
        self._rest[prior.rated] += prior.widths.scale**2 * prior.widths.offset

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """(I + R (D + T + F F') R')^-1 as a function, with R taken as its diagonal but for F."""
        by_threshold = self._without_rank(curvature.root)
        wide = curvature.times(self._root)
        half = by_threshold(wide)
        small = cho_factor(np.eye(wide.shape[1]) + wide.T @ half, check_finite=False)

        def solve(vectors: Array) -> Array:
            found = by_threshold(vectors)
            return np.asarray(found - half @ cho_solve(small, wide.T @ found, check_finite=False))

        return solve

    def _without_rank(self, root: Array) -> Callable[[Array], Array]:
        """(I + R (D + T) R)^-1: one band matrix for all screens."""
        rated, screens, widths = self._prior.rated, self._prior.screens, self._prior.widths
        own = 1 / (1 + root**2 * self._rest)
        if not len(rated):
            return lambda vectors: own[:, None] * vectors if vectors.ndim > 1 else own * vectors
        count = int(screens.max()) + 1
        step = 1 / (widths.scale**2 * max(widths.walk, STILL))
        band = np.full((2, count), -step)
        band[1] = 2 * step
        band[1, -1] = step
        band[1, 0] += 1 / (widths.scale**2 * START) - step
        weight = own[rated] * root[rated]
        band[1] += np.bincount(screens, weight * root[rated], count)
        factor = cholesky_banded(band, check_finite=False)

        def solve(vectors: Array) -> Array:
            flat = vectors.reshape(len(vectors), -1)
            found = own[:, None] * flat
            sums = np.zeros((count, flat.shape[1]))
            np.add.at(sums, screens, root[rated, None] * found[rated])
            found[rated] -= weight[:, None] * cho_solve_banded((factor, False), sums, check_finite=False)[screens]
            return np.asarray(found.reshape(vectors.shape))

        return solve


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
    """Factor of about B (m, m), with the ``factor`` (k, k) of about its leading part: m^2 (m - k) operations instead of
    m^3 / 3.

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
