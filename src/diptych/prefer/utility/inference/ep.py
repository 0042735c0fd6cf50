"""Expectation propagation: the posterior of the predictors by matched moments.

The mode of a decided person's good / bad answers lies far below their mean: with s = 3.3 and 100 ratings, Laplace's
approximation foretells three quarters of the utility that is then found, matched moments all of it.
Rasmussen and Williams, Gaussian Processes for Machine Learning, section 3.6, all sites at once. Choices among several
are taken apart into statements of one number each, which makes them as exact: Laplace's approximation foretells half of
what is then found.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.sparse import csr_array
from scipy.special import gammaln

from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.inference.laplace import Mode, Plain
from diptych.prefer.utility.inference.observations import Curvature, Predictors, derivatives, log_likelihood
from diptych.prefer.utility.inference.preconditioners import factored
from diptych.prefer.utility.inference.quadrature import outdone, within

Array = NDArray[np.float64]

SETTLED = 1e-6
"""Sweeps end when no site changes by more,"""

ROUGH = 1e-3
"""or by this, where only the evidence is wanted: it changes with the square of what is missing at the sites."""

SWEEPS = 200


def match_moments(
    covariance: Prior,
    given: Predictors,
    limits: tuple[Array, Array],
    start: tuple[Array, Array] | None = None,
    settled: float = SETTLED,
) -> Mode:
    """The Gaussian whose marginals have the moments of the statements' posteriors.

    Parameters
    ----------
    covariance : Prior
        K (m, m), which is formed.
    given : Predictors
        The m statements, among them c choices.
    limits : (m,), (m,)
        Their limits, logits.
    start : (m + c,), (m + c,), optional
        Sites (precision, precision times mean) to start from.
    settled : float
        Sweeps end when no site changes by more.
    """
    full = covariance.dense()
    choices = _Choices(given)
    precision, shift = (np.full(choices.sites, 0.1), np.zeros(choices.sites)) if start is None else start
    damping = 0.85 if choices.count else 1.0
    for _ in range(SWEEPS):
        curvature, linear, level = choices.without(precision, shift)
        factor = factored(full, curvature)
        inner = solve_triangular(factor, curvature.times(full), lower=True, check_finite=False)
        mean = full @ linear - inner.T @ (inner @ linear)
        own, variance = choices.marginals(full, inner, mean, precision, level)
        cavity = np.maximum(1 / variance - precision, 1e-10)
        centre = (own / variance - shift) / cavity
        log_norm, matched, spread = _moments(centre, 1 / cavity, choices, *limits)
        new_precision = np.maximum(1 / spread - cavity, 1e-10)
        new_shift = matched / spread - cavity * centre
        change = max(np.abs(new_precision - precision).max(initial=0.0), np.abs(new_shift - shift).max(initial=0.0))
        if change < settled:
            break
        precision = precision + damping * (new_precision - precision)
        shift = shift + damping * (new_shift - shift)
    evidence = float(
        (log_norm + 0.5 * np.log1p(precision / cavity) - 0.5 * (own**2 / variance - cavity * centre**2)).sum()
    )
    evidence += 0.5 * float(linear @ mean) - float(np.log(np.diag(factor)).sum()) + choices.log_mass(precision, level)
    alpha = linear - curvature.times(curvature.times(mean), transpose=True)

    def solve(vectors: Array) -> Array:
        return np.asarray(cho_solve((factor, True), vectors, check_finite=False))

    return Mode(mean, alpha, curvature, solve, factor, evidence, (precision, shift))


def cavity_precisions(prior: Prior, mode: Mode) -> tuple[Array, Array]:
    """Variance (m,) of each statement's predictor, and the precision (m,) that its cavity has, at moments that were
    matched.
    """
    assert mode.sites is not None
    full = prior.dense()
    variance = np.diag(full) - mode.reduction(full)
    return variance, np.maximum(1 / variance - mode.sites[0][: len(variance)], 1e-10)


class _Choices:
    """Choices among several as statements of one number each.

    A choice with differences eta_j has the probability 1 / (1 + sum_j exp(-eta_j)), which is the integral over g of a
    log-gamma density, exp(-w g - exp(-g)) / Gamma(w) with w the weight, times prod_j exp(-exp(-(eta_j + g))): what was
    chosen had the luck g, and each other one its own, a Gumbel variable (Luce, 1959; Yellott, J. Math. Psychol. 15, 109
    (1977)). Sites stand at eta of the m statements (at eta_j + g within choices), and then at the c numbers g, which
    have no other prior. Without g, W = D - sum_c p_c p_c' / total_c.

    Parameters
    ----------
    given : Predictors
        The m statements.
    """

    def __init__(self, given: Predictors) -> None:
        self.given = given
        self.inside = np.flatnonzero(given.choice >= 0)
        self.choice = given.choice[self.inside]
        self.count = int(given.choice.max(initial=-1)) + 1
        self.ends = np.searchsorted(self.choice, np.arange(self.count + 1))
        self.sites = len(given) + self.count
        self.weight = np.zeros(self.count)
        self.weight[self.choice] = given.weight[self.inside]

    def without(self, precision: Array, shift: Array) -> tuple[Curvature, Array, Array]:
        """Curvature and linear part (m,) of the sites on eta alone, and the mean (c,) of each g where eta is 0."""
        m = len(self.given)
        total = self._total(precision)
        level = (shift[m:] + np.bincount(self.choice, shift[self.inside], self.count)) / total
        linear = shift[:m].copy()
        linear[self.inside] -= precision[self.inside] * level[self.choice]
        root, vector = np.sqrt(precision[:m]), np.zeros(m)
        vector[self.inside] = root[self.inside]
        factor = 1 / (total * (1 + np.sqrt(precision[m:] / total)))
        return Curvature(root, self.given.choice, vector, factor), linear, level

    def marginals(self, full: Array, inner: Array, mean: Array, precision: Array, level: Array) -> tuple[Array, Array]:
        """Mean and variance (m + c,) of what each site stands at; the posterior covariance of eta is ``full`` -
        ``inner``' ``inner``.
        """
        own, variance = mean, np.diag(full) - (inner**2).sum(axis=0)
        if not self.count:
            return own, variance
        m = len(self.given)
        total = self._total(precision)
        share = precision[self.inside] / total[self.choice]
        # g falls by its share of eta; what is given is the covariance of that with eta.
        falls = csr_array((share, self.inside, self.ends), shape=(self.count, m))
        shared = falls @ full - (falls @ inner.T) @ inner
        lowest, fallen = level - falls @ mean, np.asarray(falls.multiply(shared).sum(axis=1)) + 1 / total
        own, variance = np.concatenate([own, lowest]), np.concatenate([variance, fallen])
        own[self.inside] += lowest[self.choice]
        variance[self.inside] += fallen[self.choice] - 2 * shared[self.choice, self.inside]
        return own, variance

    def _total(self, precision: Array) -> Array:
        """Precision (c,) of each g where eta is known."""
        return np.asarray(precision[len(self.given) :] + np.bincount(self.choice, precision[self.inside], self.count))

    def log_mass(self, precision: Array, level: Array) -> float:
        """Logarithm of the integral of the sites over all g, where eta is 0."""
        total = self._total(precision)
        return float(0.5 * (np.log(2 * math.pi / total) + total * level**2).sum())


class Cavity:
    """The function of the means whose mode has the moments that propagation matches, for given cavity variances.

    A site that matches moments at the cavity N(c, v) has alpha = g(c), g the derivative of the logarithm of Z(c) =
    integral of likelihood times N(c, v); and the mean is c + v alpha. The function with that gradient is log Z(c) + v
    alpha^2 / 2; its curvature is the site's precision.
    Z is taken in MacKay's form, the likelihood itself with all logits divided by k = (1 + pi v / 8)^(1/2) (v times the
    weight, for weights above 1, which keeps the function concave). Newton's method on it costs as much as on the
    likelihood, so it serves where sweeps would take too long.

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
        return log_likelihood(centre / self._k, self.plain.given, self._low, self._high) + 0.5 * float(
            self._variance @ slope**2
        )

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Its gradient and curvature."""
        _, slope, curvature = self._solved(eta)
        bend = curvature.root**2 / self._k**2
        root = np.where(self._single, np.sqrt(bend / (1 - self._variance * bend)), curvature.root)
        return slope, Curvature(root, curvature.choice, curvature.vector, curvature.factor)

    def _solved(self, eta: Array) -> tuple[Array, Array, Curvature]:
        """The cavities' centres c, g(c), and the curvature of the likelihood there: Newton's method on c + v g(c) =
        eta, which rises.
        """
        centre = eta
        for _ in range(100):
            slope, curvature = derivatives(centre / self._k, self.plain.given, self._low, self._high)
            off = centre + self._variance * slope / self._k - eta
            if np.abs(off).max(initial=0.0) < 1e-11:
                break
            centre = centre - off / (1 - self._variance * np.where(self._single, curvature.root, 0.0) ** 2 / self._k**2)
        return centre, slope / self._k, curvature


def _moments(centre: Array, variance: Array, choices: _Choices, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Log of the integral, mean and variance (m + c,) of N(centre, variance) times the likelihood at each site."""
    m, single = len(choices.given), choices.given.choice < 0
    found = [np.zeros(choices.sites) for _ in range(3)]
    parts = within(centre[:m][single], variance[:m][single], low[single], high[single], choices.given.weight[single])
    for whole, part in zip(found, parts, strict=True):
        whole[:m][single] = part
    if choices.count:
        # exp(-w g) moves a normal density down by w times its variance.
        own, weight, place = (
            variance[m:],
            choices.weight,
            np.concatenate([choices.inside, m + np.arange(choices.count)]),
        )
        moved = np.concatenate([centre[choices.inside], centre[m:] - weight * own])
        for whole, part in zip(found, outdone(moved, variance[place]), strict=True):
            whole[place] = part
        found[0][m:] += -weight * centre[m:] + 0.5 * weight**2 * own - gammaln(weight)
    return found[0], found[1], found[2]
