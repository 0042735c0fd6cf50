"""The most probable predictors given judgements: Newton's method in the dual.

Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithms 3.1 and 3.2, for a curvature W = R'R that
need not be diagonal: B = I + R K R'. All likelihoods are log-concave, so that the mode is one and depends on nothing
but the judgements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.inference.observations import Curvature, Predictors, derivatives, log_likelihood
from diptych.prefer.utility.inference.preconditioners import Factors, Guess, Parted, by_factor, factored

Array = NDArray[np.float64]

SETTLED = 1e-5
"""Newton stops after a step that changed no predictor by more, logits: steps are accurate to 1e-4 of themselves."""

ITERATIVE_SETTLED = 3e-4
"""The same where float32 products set the limit, 2e-5: a last step of this size is accurate to :data:`LAST` of
itself."""

ACCURATE = 1e-4
"""Relative residual of the solutions for draws and deviations, where B is not factored."""

FIRST, LAST = 0.2, 2e-2
"""Residual of a Newton step, as a part of what it is to mend: at first, and at the end, where the steps themselves are
small."""

REFRESH = 1e-2
"""Predictors are multiplied anew after steps that changed none by more, logits, where products are in single
precision."""

LOSS = 1e-6
"""Steps may lose this much, which is rounding."""


@dataclass(frozen=True, eq=False)
class Mode:
    """The most probable predictors, and what is needed to go on from there.

    Attributes
    ----------
    eta, alpha : (m,)
        Predictors at the mode, and K^-1 eta, which is the gradient of the log-likelihood there.
    curvature : Curvature
        R.
    solve : callable
        B^-1 v for (m,) or (m, k).
    factor : (m, m) or None
        Lower Cholesky factor of B; None where B was never formed.
    evidence : float
        Log marginal likelihood in the same approximation; NaN where B was never formed.
    sites : (m,), (m,) or None
        Precision, and precision times mean, of each statement's site, where moments were matched.
    """

    eta: Array
    alpha: Array
    curvature: Curvature
    solve: Callable[[Array], Array]
    factor: Array | None
    evidence: float
    sites: tuple[Array, Array] | None = None

    def whitened(self, vectors: Array) -> Array:
        """(K + W^-1)^-1 v = R' B^-1 R v."""
        return self.curvature.times(self.solve(self.curvature.times(vectors)), transpose=True)

    def reduction(self, vectors: Array) -> Array:
        """V' (K + W^-1)^-1 v of each column of ``vectors`` (m, k): by how much a variance falls whose covariances with
        eta these are.
        """
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
class Plain:
    """The statements themselves, their limits (m,) in logits."""

    given: Predictors
    low: Array
    high: Array

    def value(self, eta: Array) -> float:
        """Log-likelihood."""
        return log_likelihood(eta, self.given, self.low, self.high)

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Of the log-likelihood."""
        return derivatives(eta, self.given, self.low, self.high)


def find_mode(
    covariance: Prior,
    likelihood: Likelihood,
    start: Array,
    *,
    iterative: bool = False,
    nearby: Array | None = None,
) -> Mode:
    """Newton's method with step halving.

    Parameters
    ----------
    covariance : Prior
        K (m, m).
    likelihood : Likelihood
        Of the m statements.
    start : (m,)
        alpha to start from.
    iterative : bool
        Solve by conjugate gradients, without forming K or B. Otherwise B is factored at the start and at the end;
        between, the first factor is the preconditioner.
    nearby : (k, k), optional
        Factor of about the leading part of B at the start, which spares the first factorisation.
    """
    settled = ITERATIVE_SETTLED if iterative else SETTLED
    full = None if iterative else covariance.dense()
    times = covariance.times if full is None else full.__matmul__
    alpha, eta = start, times(start)
    height = likelihood.value(eta) - 0.5 * float(alpha @ eta)
    guess: Guess = Parted(covariance) if full is None else Factors(full, nearby)
    change, exact = 1.0, True
    for _ in range(60):
        slope, curvature = likelihood.derivatives(eta)
        # (I + W K) step = slope - alpha: the right side vanishes at the mode, so that a few iterations suffice for each
        # step.
        step, moved = _newton(
            times, curvature, slope - alpha, guess.inverse(curvature, change), min(FIRST, max(LAST, change))
        )
        gain, size = -np.inf, 2.0
        while gain < -LOSS and size > 1e-9:
            size /= 2
            gain = (
                likelihood.value(eta + size * moved)
                - 0.5 * float((alpha + size * step) @ (eta + size * moved))
                - height
            )
        alpha, eta, height = alpha + size * step, eta + size * moved, height + gain
        change = float(np.abs(size * moved).max(initial=0.0))
        exact = full is not None
        if full is None and change < REFRESH:
            # Products in single precision: sums of their errors would make the end depend on the way to it.
            eta, exact = times(alpha), True
            height = likelihood.value(eta) - 0.5 * float(alpha @ eta)
        if change < settled:
            break
    if not exact:
        eta = times(alpha)
    curvature = likelihood.derivatives(eta)[1]
    if full is None:
        solve = _iterations(times, curvature, guess.inverse(curvature, change), ACCURATE)
        return Mode(eta, alpha, curvature, solve, None, float("nan"))
    factor = factored(full, curvature)
    evidence = height - float(np.log(np.diag(factor)).sum())
    return Mode(eta, alpha, curvature, by_factor(factor), factor, evidence)


def _newton(
    times: Callable[[Array], Array],
    curvature: Curvature,
    off: Array,
    nearly: Callable[[Array], Array],
    tolerance: float,
) -> tuple[Array, Array]:
    """(I + W K)^-1 v, and K times that, without a product more than the iterations take.

    That is v - R' x with B x = R K v. The iterations start from where R' x is v, as far as it can be: what is left is
    small, where R K v is not.
    """
    start = curvature.under(off)
    rest = off - curvature.times(start, transpose=True)
    image = times(rest) if rest.any() else np.zeros_like(rest)
    goal, inner, last = tolerance * float(np.linalg.norm(off)), np.zeros_like(off), np.zeros_like(off)

    def product(vector: Array) -> Array:
        nonlocal last
        last = times(curvature.times(vector, transpose=True))
        return vector + curvature.times(last)

    def taken(length: Array) -> None:
        nonlocal inner
        inner = inner + length * last

    def near(residual: Array) -> bool:
        return float(np.linalg.norm(curvature.times(residual, transpose=True))) <= goal

    found = conjugate_gradients(product, curvature.times(image) - start, 1e-12, nearly, taken, near)
    return rest - curvature.times(found, transpose=True), image - inner


def _iterations(
    times: Callable[[Array], Array], curvature: Curvature, nearly: Callable[[Array], Array], tolerance: float
) -> Callable[[Array], Array]:
    """B^-1 as a function, by conjugate gradients; ``nearly`` is the inverse of a B nearby."""

    def product(vector: Array) -> Array:
        return vector + curvature.times(times(curvature.times(vector, transpose=True)))

    return lambda vectors: conjugate_gradients(product, vectors, tolerance, nearly)


def conjugate_gradients(
    product: Callable[[Array], Array],
    right: Array,
    tolerance: float,
    nearly: Callable[[Array], Array] = lambda vector: vector,
    taken: Callable[[Array], None] = lambda length: None,
    near: Callable[[Array], bool] = lambda residual: False,
) -> Array:
    """Solve B x = right for (m,) or the columns of (m, k) at once, until each residual is ``tolerance`` of its right
    side.

    ``nearly`` is an approximate inverse of B; lengths are measured by it, so that what is large in B does not hide what
    is not. ``taken`` is told the length of each step, along the vector of the last ``product``.
    """
    x: Array = np.zeros_like(right)
    residual = right
    direction = close = nearly(residual)
    power = (residual * close).sum(axis=0)
    goal = tolerance**2 * power
    for _ in range(300):
        if np.all(power <= goal) or near(residual):
            break
        image = product(direction)
        step = power / np.maximum((direction * image).sum(axis=0), 1e-300)
        x, residual = x + step * direction, residual - step * image
        taken(step)
        close = nearly(residual)
        after = (residual * close).sum(axis=0)
        direction = close + (after / np.maximum(power, 1e-300)) * direction
        power = after
    return x
