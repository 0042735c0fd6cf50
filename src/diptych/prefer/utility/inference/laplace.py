"""Mode of the posterior of the predictors by Newton's method.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, algorithms 3.1 and 3.2, for a curvature W = R'R
that need not be diagonal: B = I + R K R'. All likelihoods are log-concave, so the mode is unique.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.inference.observations import Curvature, Design, derivatives, log_likelihood
from diptych.prefer.utility.inference.preconditioners import (
    CholeskyPreconditioner,
    LowRankPreconditioner,
    Preconditioner,
    factorize,
    solver_of,
)

Array = NDArray[np.float64]

TOLERANCE = 1e-5
"""Newton's method stops after a step that changed no predictor by more, logits; steps have a relative error of 1e-4."""

ITERATIVE_TOLERANCE = 3e-4
"""The same with conjugate gradients, where float32 products limit the accuracy to 2e-5; a last step of this size has
the relative error :data:`LAST_RESIDUAL`.
"""

ACCURATE = 1e-4
"""Relative residual of solutions for draws and standard deviations if B is not factorized."""

FIRST_RESIDUAL, LAST_RESIDUAL = 0.2, 2e-2
"""Relative residual of a Newton step: at first, and at the end, where the steps themselves are small."""

REFRESH = 1e-2
"""With single-precision products, predictors are recomputed after steps that changed none by more, logits."""

ALLOWED_LOSS = 1e-6
"""Decrease of the objective that is accepted in a step: rounding."""


@dataclass(frozen=True, eq=False)
class GaussianApproximation:
    """Gaussian approximation of the posterior of the predictors.

    Attributes
    ----------
    eta, alpha : (m,)
        Mode (or mean, by expectation propagation) of the predictors, and K^-1 eta.
    curvature : Curvature
        R, with W = R'R.
    solve : callable
        B^-1 v for (m,) or (m, k).
    factor : (m, m) or None
        Lower Cholesky factor of B; None if B was not formed.
    log_evidence : float
        Log marginal likelihood in the same approximation; NaN if B was not formed.
    sites : tuple of (m + c,) arrays, or None
        Natural parameters (precision, precision times mean) of the sites of expectation propagation.
    """

    eta: Array
    alpha: Array
    curvature: Curvature
    solve: Callable[[Array], Array]
    factor: Array | None
    log_evidence: float
    sites: tuple[Array, Array] | None = None

    def whitened(self, vectors: Array) -> Array:
        """(K + W^-1)^-1 v = R' B^-1 R v."""
        return self.curvature.times(self.solve(self.curvature.times(vectors)), transpose=True)

    def reduction(self, vectors: Array) -> Array:
        """Reduction (k,) of prior variances: v' (K + W^-1)^-1 v for each column v (covariances with eta) of (m, k)."""
        inner = self.curvature.times(vectors)
        if self.factor is not None:
            inner = solve_triangular(self.factor, inner, lower=True, check_finite=False)
            return np.asarray((inner**2).sum(axis=0))
        return np.asarray((inner * self.solve(inner)).sum(axis=0))


class Likelihood(Protocol):
    """A log-concave function of the predictors."""

    def value(self, eta: Array) -> float:
        """Its logarithm."""
        ...

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Gradient (m,) and curvature of the logarithm."""
        ...


@dataclass(frozen=True, eq=False)
class ObservationLikelihood:
    """Likelihood of the observations, with limits (m,) in logits."""

    design: Design
    low: Array
    high: Array

    def value(self, eta: Array) -> float:
        """Log-likelihood."""
        return log_likelihood(eta, self.design, self.low, self.high)

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Gradient (m,) and curvature of the log-likelihood."""
        return derivatives(eta, self.design, self.low, self.high)


def find_mode(
    covariance: Prior,
    likelihood: Likelihood,
    start: Array,
    *,
    iterative: bool = False,
    initial_factor: Array | None = None,
) -> GaussianApproximation:
    """Laplace approximation: Newton's method with step halving.

    Parameters
    ----------
    covariance : Prior
        K (m, m).
    likelihood : Likelihood
        Of the m observations.
    start : (m,)
        Initial alpha.
    iterative : bool
        Solve by conjugate gradients, without forming K or B. Otherwise B is factorized at the start and at the end, and
        the first factor is the preconditioner in between.
    initial_factor : (k, k), optional
        Approximate factor of the leading block of B at the start; it replaces the first factorization.
    """
    tolerance = ITERATIVE_TOLERANCE if iterative else TOLERANCE
    full = None if iterative else covariance.dense()
    times = covariance.times if full is None else full.__matmul__
    alpha, eta = start, times(start)
    value = likelihood.value(eta) - 0.5 * float(alpha @ eta)
    preconditioner: Preconditioner = (
        LowRankPreconditioner(covariance) if full is None else CholeskyPreconditioner(full, initial_factor)
    )
    change, exact = 1.0, True
    for _ in range(60):
        gradient, curvature = likelihood.derivatives(eta)
        # (I + W K) step = gradient - alpha. The right side vanishes at the mode, so a few iterations suffice.
        step, moved = _newton(
            times,
            curvature,
            gradient - alpha,
            preconditioner.inverse(curvature, change),
            min(FIRST_RESIDUAL, max(LAST_RESIDUAL, change)),
        )
        gain, size = -np.inf, 2.0
        while gain < -ALLOWED_LOSS and size > 1e-9:
            size /= 2
            gain = (
                likelihood.value(eta + size * moved) - 0.5 * float((alpha + size * step) @ (eta + size * moved)) - value
            )
        alpha, eta, value = alpha + size * step, eta + size * moved, value + gain
        change = float(np.abs(size * moved).max(initial=0.0))
        exact = full is not None
        if full is None and change < REFRESH:
            # Recompute, so that accumulated single-precision errors do not make the result depend on the path.
            eta, exact = times(alpha), True
            value = likelihood.value(eta) - 0.5 * float(alpha @ eta)
        if change < tolerance:
            break
    if not exact:
        eta = times(alpha)
    curvature = likelihood.derivatives(eta)[1]
    if full is None:
        solve = _conjugate_gradient_solver(times, curvature, preconditioner.inverse(curvature, change), ACCURATE)
        return GaussianApproximation(eta, alpha, curvature, solve, None, float("nan"))
    factor = factorize(full, curvature)
    log_evidence = value - float(np.log(np.diag(factor)).sum())
    return GaussianApproximation(eta, alpha, curvature, solver_of(factor), factor, log_evidence)


def _newton(
    times: Callable[[Array], Array],
    curvature: Curvature,
    off: Array,
    precondition: Callable[[Array], Array],
    tolerance: float,
) -> tuple[Array, Array]:
    """The Newton step (I + W K)^-1 v, and K times it, with one product per iteration.

    The step is v - R' x with B x = R K v. The iterations start where R' x is as close to v as possible, because the
    remaining right side is then small while R K v is not.
    """
    start = curvature.solve_transposed(off)
    rest = off - curvature.times(start, transpose=True)
    image = times(rest) if rest.any() else np.zeros_like(rest)
    goal, inner, last = tolerance * float(np.linalg.norm(off)), np.zeros_like(off), np.zeros_like(off)

    def product(vector: Array) -> Array:
        nonlocal last
        last = times(curvature.times(vector, transpose=True))
        return vector + curvature.times(last)

    def on_step(length: Array) -> None:
        nonlocal inner
        inner = inner + length * last

    def converged(residual: Array) -> bool:
        return float(np.linalg.norm(curvature.times(residual, transpose=True))) <= goal

    found = conjugate_gradients(product, curvature.times(image) - start, 1e-12, precondition, on_step, converged)
    return rest - curvature.times(found, transpose=True), image - inner


def _conjugate_gradient_solver(
    times: Callable[[Array], Array], curvature: Curvature, precondition: Callable[[Array], Array], tolerance: float
) -> Callable[[Array], Array]:
    """B^-1 as a function; ``precondition`` is an approximate inverse of B."""

    def product(vector: Array) -> Array:
        return vector + curvature.times(times(curvature.times(vector, transpose=True)))

    return lambda vectors: conjugate_gradients(product, vectors, tolerance, precondition)


def conjugate_gradients(
    product: Callable[[Array], Array],
    right: Array,
    tolerance: float,
    precondition: Callable[[Array], Array] = lambda vector: vector,
    on_step: Callable[[Array], None] = lambda length: None,
    converged: Callable[[Array], bool] = lambda residual: False,
) -> Array:
    """Solve B x = right by preconditioned conjugate gradients.

    Parameters
    ----------
    product : callable
        v to B v.
    right : (m,) or (m, k)
        Right sides; columns are solved simultaneously.
    tolerance : float
        Relative residual of each column, in the norm of the preconditioner.
    precondition : callable
        Approximate inverse of B.
    on_step : callable
        Called with the length of each step, along the vector of the last ``product``.
    converged : callable
        Stops the iterations when it is true of the residual.
    """
    x: Array = np.zeros_like(right)
    residual = right
    direction = close = precondition(residual)
    power = (residual * close).sum(axis=0)
    goal = tolerance**2 * power
    for _ in range(300):
        if np.all(power <= goal) or converged(residual):
            break
        image = product(direction)
        step = power / np.maximum((direction * image).sum(axis=0), 1e-300)
        x, residual = x + step * direction, residual - step * image
        on_step(step)
        close = precondition(residual)
        after = (residual * close).sum(axis=0)
        direction = close + (after / np.maximum(power, 1e-300)) * direction
        power = after
    return x
