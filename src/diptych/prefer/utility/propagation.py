"""Expectation propagation: the posterior of the predictors by matched moments.

The mode of a decided person's good / bad answers lies far below their mean: with s = 3.3 and 100 ratings, Laplace's approximation foretells
three quarters of the utility that is then found, matched moments all of it.
Rasmussen and Williams, Gaussian Processes for Machine Learning, section 3.6, all sites at once; choices among several keep the sites of
Laplace's approximation, expanded about the mean.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import log_expit, roots_hermitenorm

from diptych.prefer.utility.laplace import Covariance, Mode, Plain, factored, find_mode
from diptych.prefer.utility.likelihood import Curvature, Predictors, derivatives, log_likelihood, log_likelihood_of_choices

Array = NDArray[np.float64]

SETTLED = 1e-8
"""Sweeps end when no site changes by more."""

SWEEPS = 200

_NODES, _WEIGHTS = roots_hermitenorm(24)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())


def match_moments(covariance: Covariance, given: Predictors, limits: tuple[Array, Array], start: tuple[Array, Array] | None = None) -> Mode:
    """The Gaussian whose marginals have the moments of the statements' posteriors.

    Parameters
    ----------
    covariance : Covariance
        K (m, m), which is formed.
    given : Predictors
        The m statements.
    limits : (m,), (m,)
        Their limits, logits.
    start : (m,), (m,), optional
        Sites (precision, precision times mean) to start from.
    """
    full = covariance.dense()
    single = given.choice < 0
    precision, shift = (np.full(len(given), 0.1), np.zeros(len(given))) if start is None else start
    choice_curvature, mean = derivatives(np.zeros(len(given)), given, *limits)[1], np.zeros(len(given))
    damping = 1.0 if single.all() else 0.7
    for _ in range(SWEEPS):
        curvature = _curvature(precision, single, choice_curvature)
        factor = factored(full, curvature)
        inner = solve_triangular(factor, curvature.times(full), lower=True, check_finite=False)
        variance = np.diag(full) - (inner**2).sum(axis=0)
        mean = full @ shift - inner.T @ (inner @ shift)
        cavity = np.maximum(1 / variance - precision, 1e-10)
        centre = (mean / variance - shift) / cavity
        log_norm, matched, spread = _moments(centre, 1 / cavity, given, *limits)
        new_precision = np.where(single, np.maximum(1 / spread - cavity, 1e-10), 0.0)
        new_shift = np.where(single, matched / spread - cavity * centre, 0.0)
        slope, choice_curvature = derivatives(mean, given, *limits)
        bend = choice_curvature.times(choice_curvature.times(mean), transpose=True) + slope
        new_shift = np.where(single, new_shift, bend)
        change = max(np.abs(new_precision - precision)[single].max(initial=0.0), np.abs(new_shift - shift).max(initial=0.0))
        if change < SETTLED:
            break
        precision = precision + damping * (new_precision - precision)
        shift = shift + damping * (new_shift - shift)
    own = (mean / variance) ** 2 * variance - cavity * centre**2
    evidence = float((log_norm + 0.5 * np.log1p(precision / cavity) - 0.5 * own)[single].sum()) + 0.5 * float(shift @ mean)
    evidence -= float(np.log(np.diag(factor)).sum())
    if not single.all():
        evidence += log_likelihood_of_choices(mean, given) - float((shift * mean)[~single].sum())
        evidence += 0.5 * float((curvature.times(np.where(single, 0.0, mean)) ** 2).sum())
    alpha = shift - curvature.times(curvature.times(mean), transpose=True)

    def solve(vectors: Array) -> Array:
        return np.asarray(cho_solve((factor, True), vectors, check_finite=False))

    return Mode(mean, alpha, curvature, solve, factor, evidence, (precision, shift))


class Cavity:
    """The function of the means whose mode has the moments that propagation matches, for given cavity variances.

    A site that matches moments at the cavity N(c, v) has alpha = g(c), g the derivative of the logarithm of Z(c) = integral of likelihood
    times N(c, v); and the mean is c + v alpha. The function with that gradient is log Z(c) + v alpha^2 / 2; its curvature is the
    site's precision.
    Z is taken in MacKay's form, the likelihood itself with all logits divided by k = (1 + pi v / 8)^(1/2) (v times the weight, for weights
    above 1, which keeps the function concave). Newton's method on it costs as much as on the likelihood, so it serves where sweeps would
    take too long.

    Parameters
    ----------
    plain : Plain
        The statements. Choices among several are taken as they are.
    variance : (m,)
        v.
    """

    def __init__(self, plain: Plain, variance: Array) -> None:
        self.plain = plain
        self._single = plain.given.choice < 0
        self._variance = np.where(self._single, variance, 0.0)
        self._k = np.sqrt(1 + math.pi / 8 * self._variance * np.maximum(plain.given.weight, 1.0))
        self._low, self._high = plain.low / self._k, plain.high / self._k

    def value(self, eta: Array) -> float:
        """The function."""
        centre, slope, _ = self._solved(eta)
        return log_likelihood(centre / self._k, self.plain.given, self._low, self._high) + 0.5 * float(self._variance @ slope**2)

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Its gradient and curvature."""
        _, slope, curvature = self._solved(eta)
        bend = curvature.root**2 / self._k**2
        root = np.where(self._single, np.sqrt(bend / (1 - self._variance * bend)), curvature.root)
        return slope, Curvature(root, curvature.choice, curvature.vector, curvature.factor)

    def _solved(self, eta: Array) -> tuple[Array, Array, Curvature]:
        """The cavities' centres c, g(c), and the curvature of the likelihood there: Newton's method on c + v g(c) = eta, which rises."""
        centre = eta
        for _ in range(100):
            slope, curvature = derivatives(centre / self._k, self.plain.given, self._low, self._high)
            off = centre + self._variance * slope / self._k - eta
            if np.abs(off).max(initial=0.0) < 1e-11:
                break
            centre = centre - off / (1 - self._variance * np.where(self._single, curvature.root, 0.0) ** 2 / self._k**2)
        return centre, slope / self._k, curvature


def find_matched(
    covariance: Covariance, plain: Plain, starts: tuple[Array, Array], own: Array, share: float, *, iterative: bool = False
) -> tuple[Mode, tuple[Array, Array]]:
    """What :func:`match_moments` finds, with one ratio of cavity to prior variance for all statements, reckoned on a few of them.

    Parameters
    ----------
    covariance, iterative
        As in :func:`diptych.prefer.utility.laplace.find_mode`.
    starts : (m,), (m,)
        alpha to start from in the first round, with ``share``, and in the second, with the ratio found.
    plain : Plain
        The m statements.
    own : (m,)
        Diagonal of K.
    share : float
        That ratio to begin with.

    Returns
    -------
    Mode
        Of the second round.
    (m,), (m,)
        alpha of both rounds, for a start next time.
    """
    few = np.unique(np.linspace(0, len(own) - 1, 4 if iterative else 32).astype(int))
    columns = np.zeros((len(own), len(few)))
    columns[few, np.arange(len(few))] = 1
    columns = covariance.times(columns) if iterative else covariance.dense()[:, few]
    mode = find_mode(covariance, Cavity(plain, share * own), starts[0], iterative=iterative, final=False)
    left = own[few] - mode.reduction(columns)
    cavity = 1 / np.maximum(1 / np.maximum(left, 1e-9) - mode.curvature.root[few] ** 2, 1e-9)
    share = float(np.clip(np.median(cavity / own[few]), 1e-3, 1.0))
    other = find_mode(covariance, Cavity(plain, share * own), starts[1], iterative=iterative, nearby=mode.nearby)
    return other, (mode.alpha, other.alpha)


def _curvature(precision: Array, single: NDArray[np.bool_], choices: Curvature) -> Curvature:
    return Curvature(np.where(single, np.sqrt(precision), choices.root), choices.choice, choices.vector, choices.factor)


def _moments(mean: Array, variance: Array, given: Predictors, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Log of the integral, mean and variance (m,) of N(mean, variance) times each statement's likelihood."""
    eta = mean[:, None] + np.sqrt(variance)[:, None] * _NODES
    above, below = high[:, None] - eta, low[:, None] - eta
    with np.errstate(divide="ignore"):
        # The limits of a choice's differences are infinite: its likelihood here is 1, and what comes out is not used.
        tail = np.log1p(-np.exp(below - above))
    logs = given.weight[:, None] * (log_expit(above) + log_expit(-below) + tail) + _LOG_WEIGHTS
    top = logs.max(axis=1, keepdims=True)
    parts = np.exp(logs - top)
    total = parts.sum(axis=1)
    parts /= total[:, None]
    centre = (parts * eta).sum(axis=1)
    return top[:, 0] + np.log(total), centre, (parts * (eta - centre[:, None]) ** 2).sum(axis=1)
