"""Approximate inverses of B = I + R K R', as preconditioners of conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cho_solve_banded, cholesky, cholesky_banded, solve_triangular

from diptych.prefer.utility.gp.covariance import INITIAL_VARIANCE, Prior
from diptych.prefer.utility.inference.observations import Curvature

Array = NDArray[np.float64]

REFACTOR = 3.0
"""B is factorized again after steps of more than this, logits."""

RANK = 32
"""Rank of the approximation of the utilities' part of K."""

MIN_WALK = 1e-6
"""Smallest variance of the random walk of the threshold, in units of s^2: at 0 its covariance is singular."""


class Preconditioner(Protocol):
    """Approximate inverses of B for changing curvatures."""

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """B^-1, approximately, as a function; ``change`` is the size of the last step in the predictors, logits."""
        ...


class CholeskyPreconditioner:
    """The Cholesky factor of B from the start or from the last long step.

    Parameters
    ----------
    full : (m, m)
        K.
    factor : (k, k) or None
        Approximate factor of the leading block of B at the start, if known.
    """

    def __init__(self, full: Array, factor: Array | None) -> None:
        self._full, self._factor = full, factor

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """The inverse of that B as a function."""
        if self._factor is None or change > REFACTOR:
            self._factor = factorize(self._full, curvature)
        elif len(self._factor) < len(self._full):
            self._factor = extend_factor(self._factor, self._full, curvature)
        return solver_of(self._factor)


class LowRankPreconditioner:
    """The threshold's part of K exactly, and a low-rank plus diagonal approximation of the utilities' part.

    The threshold is a random walk over screens, so its precision matrix is tridiagonal and solving with it takes linear
    time; the independent offset of each screen is treated as that of each rating. The low rank is a Nystroem
    approximation from random vectors (Frangella, Tropp and Udell, Randomized Nystroem Preconditioning, arXiv
    2110.02820), and the diagonal keeps the prior variances.

    Parameters
    ----------
    prior : Prior
        K (m, m).
    """

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        count = len(prior.design)
        drawn = np.random.default_rng(0).standard_normal((count, min(RANK, count)))
        image = prior.utility_product(drawn)
        core = drawn.T @ image
        size, eigenvectors = np.linalg.eigh((core + core.T) / 2)
        # The smallest eigenvalues are rounding errors of the float32 products.
        real = size > 1e-5 * size[-1]
        self._root = image @ (eigenvectors[:, real] / np.sqrt(size[real]))
        self._residual = np.maximum(prior.prior_variances() - (self._root**2).sum(axis=1), 0.0)
        self._residual[prior.rated] += prior.hyperparameters.scale**2 * prior.hyperparameters.offset

    def inverse(self, curvature: Curvature, change: float) -> Callable[[Array], Array]:
        """(I + R (D + T + F F') R')^-1 as a function; R is taken as its diagonal except for F."""
        by_threshold = self._without_rank(curvature.root)
        wide = curvature.times(self._root)
        half = by_threshold(wide)
        small = cho_factor(np.eye(wide.shape[1]) + wide.T @ half, check_finite=False)

        def solve(vectors: Array) -> Array:
            found = by_threshold(vectors)
            return np.asarray(found - half @ cho_solve(small, wide.T @ found, check_finite=False))

        return solve

    def _without_rank(self, root: Array) -> Callable[[Array], Array]:
        """(I + R (D + T) R)^-1, with one banded matrix for all screens."""
        rated, screens, hyperparameters = self._prior.rated, self._prior.screens, self._prior.hyperparameters
        own = 1 / (1 + root**2 * self._residual)
        if not len(rated):
            return lambda vectors: own[:, None] * vectors if vectors.ndim > 1 else own * vectors
        count = int(screens.max()) + 1
        step = 1 / (hyperparameters.scale**2 * max(hyperparameters.walk, MIN_WALK))
        band = np.full((2, count), -step)
        band[1] = 2 * step
        band[1, -1] = step
        band[1, 0] += 1 / (hyperparameters.scale**2 * INITIAL_VARIANCE) - step
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


def solver_of(factor: Array) -> Callable[[Array], Array]:
    """The inverse of L L' as a function, with L (m, m) a lower factor."""
    return lambda vectors: np.asarray(cho_solve((factor, True), vectors, check_finite=False))


def factorize(full: Array, curvature: Curvature) -> Array:
    """Lower Cholesky factor of B = I + R K R'."""
    if len(curvature.factor):
        inner = curvature.times(np.ascontiguousarray(curvature.times(full).T))
    else:
        inner = full * curvature.root
        inner *= curvature.root[:, None]
    inner[np.diag_indices_from(inner)] += 1
    # B is symmetric; its transpose has the memory layout of LAPACK.
    return np.asarray(cholesky(inner.T, lower=True, overwrite_a=True, check_finite=False))


def extend_factor(factor: Array, full: Array, curvature: Curvature) -> Array:
    """Approximate factor of B (m, m), given the ``factor`` (k, k) of its leading block: m^2 (m - k) operations instead
    of m^3 / 3.

    It is exact if ``factor`` is that for this curvature and no choice among several has differences on both sides of k.
    """
    have, count = len(factor), len(full)
    chosen = np.zeros((count, count - have))
    chosen[np.arange(have, count), np.arange(count - have)] = 1
    border = curvature.times(full @ curvature.times(chosen, transpose=True)) + chosen
    side = solve_triangular(factor, border[:have], lower=True, check_finite=False)
    whole = np.zeros((count, count), order="F")
    whole[:have, :have] = factor
    whole[have:, :have] = side.T
    # The Schur complement is >= I for an exact factor; clip its eigenvalues for an approximate one.
    size, vectors = np.linalg.eigh(border[have:] - side.T @ side)
    whole[have:, have:] = cholesky(vectors * np.maximum(size, 1.0) @ vectors.T, lower=True, check_finite=False)
    return whole
