"""Expectation propagation (EP) for the posterior of the predictors.

For consistent good / bad answers the mode of the posterior is much smaller than its mean: with s = 3.3 and 100 ratings,
Laplace's approximation predicts three quarters of the utility that is then realised, EP all of it. All sites are
updated in parallel (Rasmussen and Williams, 2006, section 3.6; Minka, Expectation Propagation for approximate Bayesian
inference, UAI 2001). Choices among several are augmented to observations of one variable each, for which EP is as
accurate; Laplace's approximation predicts half of the realised utility.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.sparse import csr_array
from scipy.special import gammaln

from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.inference.laplace import GaussianApproximation, ObservationLikelihood
from diptych.prefer.utility.inference.observations import Curvature, Design, derivatives, log_likelihood
from diptych.prefer.utility.inference.preconditioners import factorize
from diptych.prefer.utility.inference.quadrature import gumbel_moments, interval_moments

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""Sweeps end when no site changes by more."""

ROUGH_TOLERANCE = 1e-3
"""The same if only the evidence is needed: its error is quadratic in that of the sites."""

MAX_SWEEPS = 200


def expectation_propagation(
    covariance: Prior,
    design: Design,
    limits: tuple[Array, Array],
    start: tuple[Array, Array] | None = None,
    tolerance: float = TOLERANCE,
) -> GaussianApproximation:
    """Gaussian approximation whose marginals match the moments of the tilted distributions.

    Parameters
    ----------
    covariance : Prior
        K (m, m), which is formed.
    design : Design
        The m observations, among them c choices.
    limits : (m,), (m,)
        Their limits, logits.
    start : (m + c,), (m + c,), optional
        Natural parameters of the sites (precision, precision times mean) to start from.
    tolerance : float
        Sweeps end when no site changes by more.
    """
    full = covariance.dense()
    choices = _ChoiceSites(design)
    precision, shift = (np.full(choices.sites, 0.1), np.zeros(choices.sites)) if start is None else start
    damping = 0.85 if choices.count else 1.0
    for _ in range(MAX_SWEEPS):
        curvature, linear, level = choices.marginalize_g(precision, shift)
        factor = factorize(full, curvature)
        inner = solve_triangular(factor, curvature.times(full), lower=True, check_finite=False)
        mean = full @ linear - inner.T @ (inner @ linear)
        own, variance = choices.marginals(full, inner, mean, precision, level)
        cavity = np.maximum(1 / variance - precision, 1e-10)
        centre = (own / variance - shift) / cavity
        log_norm, matched, spread = _moments(centre, 1 / cavity, choices, *limits)
        new_precision = np.maximum(1 / spread - cavity, 1e-10)
        new_shift = matched / spread - cavity * centre
        change = max(np.abs(new_precision - precision).max(initial=0.0), np.abs(new_shift - shift).max(initial=0.0))
        if change < tolerance:
            break
        precision = precision + damping * (new_precision - precision)
        shift = shift + damping * (new_shift - shift)
    log_evidence = float(
        (log_norm + 0.5 * np.log1p(precision / cavity) - 0.5 * (own**2 / variance - cavity * centre**2)).sum()
    )
    log_evidence += (
        0.5 * float(linear @ mean) - float(np.log(np.diag(factor)).sum()) + choices.log_mass(precision, level)
    )
    alpha = linear - curvature.times(curvature.times(mean), transpose=True)

    def solve(vectors: Array) -> Array:
        return np.asarray(cho_solve((factor, True), vectors, check_finite=False))

    return GaussianApproximation(mean, alpha, curvature, solve, factor, log_evidence, (precision, shift))


def cavity_precisions(prior: Prior, approximation: GaussianApproximation) -> tuple[Array, Array]:
    """Marginal posterior variance (m,) of each predictor, and the precision (m,) of its cavity distribution."""
    assert approximation.sites is not None
    full = prior.dense()
    variance = np.diag(full) - approximation.reduction(full)
    return variance, np.maximum(1 / variance - approximation.sites[0][: len(variance)], 1e-10)


class _ChoiceSites:
    """Choices among several as observations of one variable each.

    A choice with differences eta_j has the probability 1 / (1 + sum_j exp(-eta_j)). With a weight w it is the integral
    over g of a log-gamma density, exp(-w g - exp(-g)) / Gamma(w), times prod_j exp(-exp(-(eta_j + g))): every image has
    a Gumbel noise of its own, and g is that of the chosen one (Luce, Individual Choice Behavior, 1959; Yellott, J.
    Math. Psychol. 15, 109 (1977)). There are sites at the m predictors (at eta_j + g within choices) and at the c
    variables g, which have no other prior. With g marginalized, W = D - sum_c p_c p_c' / total_c.

    Parameters
    ----------
    design : Design
        The m observations.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self.inside = np.flatnonzero(design.choice >= 0)
        self.choice = design.choice[self.inside]
        self.count = int(design.choice.max(initial=-1)) + 1
        self.ends = np.searchsorted(self.choice, np.arange(self.count + 1))
        self.sites = len(design) + self.count
        self.weight = np.zeros(self.count)
        self.weight[self.choice] = design.weight[self.inside]

    def marginalize_g(self, precision: Array, shift: Array) -> tuple[Curvature, Array, Array]:
        """Curvature and linear term (m,) of the sites as functions of eta alone, and the mean (c,) of each g at eta =
        0.
        """
        m = len(self.design)
        total = self._total(precision)
        level = (shift[m:] + np.bincount(self.choice, shift[self.inside], self.count)) / total
        linear = shift[:m].copy()
        linear[self.inside] -= precision[self.inside] * level[self.choice]
        root, vector = np.sqrt(precision[:m]), np.zeros(m)
        vector[self.inside] = root[self.inside]
        factor = 1 / (total * (1 + np.sqrt(precision[m:] / total)))
        return Curvature(root, self.design.choice, vector, factor), linear, level

    def marginals(self, full: Array, inner: Array, mean: Array, precision: Array, level: Array) -> tuple[Array, Array]:
        """Posterior mean and variance (m + c,) of the variable of each site; ``full`` - ``inner``' ``inner`` is the
        posterior covariance of eta.
        """
        own, variance = mean, np.diag(full) - (inner**2).sum(axis=0)
        if not self.count:
            return own, variance
        m = len(self.design)
        total = self._total(precision)
        share = precision[self.inside] / total[self.choice]
        # The mean of g given eta is level - share' eta; this is the covariance of share' eta with eta.
        regression = csr_array((share, self.inside, self.ends), shape=(self.count, m))
        shared = regression @ full - (regression @ inner.T) @ inner
        mean_of_g, variance_of_g = (
            level - regression @ mean,
            np.asarray(regression.multiply(shared).sum(axis=1)) + 1 / total,
        )
        own, variance = np.concatenate([own, mean_of_g]), np.concatenate([variance, variance_of_g])
        own[self.inside] += mean_of_g[self.choice]
        variance[self.inside] += variance_of_g[self.choice] - 2 * shared[self.choice, self.inside]
        return own, variance

    def _total(self, precision: Array) -> Array:
        """Precision (c,) of each g given eta."""
        return np.asarray(precision[len(self.design) :] + np.bincount(self.choice, precision[self.inside], self.count))

    def log_mass(self, precision: Array, level: Array) -> float:
        """Log of the integral of the sites over all g, at eta = 0."""
        total = self._total(precision)
        return float(0.5 * (np.log(2 * math.pi / total) + total * level**2).sum())


class CavityLikelihood:
    """Function of the means whose mode has the moments of EP, for given cavity variances.

    A site that matches moments for a cavity N(c, v) has alpha = g(c), with g the derivative of log Z(c) and Z(c) the
    integral of the likelihood times N(c, v); the mean is c + v alpha (Opper and Winther, Neural Computation 12, 2655
    (2000)). The function with that gradient is log Z(c) + v alpha^2 / 2, and its curvature is the precision of the
    site. Z is MacKay's approximation: the likelihood with all logits divided by k = (1 + pi v / 8)^(1/2), with v times
    the weight for weights above 1, which keeps the function concave. Newton's method costs as much as for the
    likelihood itself, so this is used where EP would take too long.

    Parameters
    ----------
    likelihood : ObservationLikelihood
        The observations. Choices among several are used as they are, without a cavity.
    variance : (m,)
        v.
    """

    def __init__(self, likelihood: ObservationLikelihood, variance: Array) -> None:
        self.likelihood = likelihood
        self._single = likelihood.design.choice < 0
        self._variance = np.where(self._single, variance, 0.0)
        self._scale = np.sqrt(1 + math.pi / 8 * self._variance * np.maximum(likelihood.design.weight, 1.0))
        self._low, self._high = likelihood.low / self._scale, likelihood.high / self._scale

    def value(self, eta: Array) -> float:
        """Value of the function."""
        centre, gradient, _ = self._solve_centre(eta)
        return log_likelihood(centre / self._scale, self.likelihood.design, self._low, self._high) + 0.5 * float(
            self._variance @ gradient**2
        )

    def derivatives(self, eta: Array) -> tuple[Array, Curvature]:
        """Gradient (m,) and curvature of the function."""
        _, gradient, curvature = self._solve_centre(eta)
        precision = curvature.root**2 / self._scale**2
        root = np.where(self._single, np.sqrt(precision / (1 - self._variance * precision)), curvature.root)
        return gradient, Curvature(root, curvature.choice, curvature.vector, curvature.factor)

    def _solve_centre(self, eta: Array) -> tuple[Array, Array, Curvature]:
        """Cavity means c, g(c), and the curvature of the likelihood there: Newton's method for c + v g(c) = eta."""
        centre = eta
        for _ in range(100):
            gradient, curvature = derivatives(centre / self._scale, self.likelihood.design, self._low, self._high)
            off = centre + self._variance * gradient / self._scale - eta
            if np.abs(off).max(initial=0.0) < 1e-11:
                break
            centre = centre - off / (
                1 - self._variance * np.where(self._single, curvature.root, 0.0) ** 2 / self._scale**2
            )
        return centre, gradient / self._scale, curvature


def _moments(
    centre: Array, variance: Array, choices: _ChoiceSites, low: Array, high: Array
) -> tuple[Array, Array, Array]:
    """Log integral, mean and variance (m + c,) of N(centre, variance) times the likelihood at each site."""
    m, single = len(choices.design), choices.design.choice < 0
    found = [np.zeros(choices.sites) for _ in range(3)]
    parts = interval_moments(
        centre[:m][single], variance[:m][single], low[single], high[single], choices.design.weight[single]
    )
    for whole, part in zip(found, parts, strict=True):
        whole[:m][single] = part
    if choices.count:
        # exp(-w g) shifts a normal density by -w times its variance.
        own, weight, index = (
            variance[m:],
            choices.weight,
            np.concatenate([choices.inside, m + np.arange(choices.count)]),
        )
        moved = np.concatenate([centre[choices.inside], centre[m:] - weight * own])
        for whole, part in zip(found, gumbel_moments(moved, variance[index]), strict=True):
            whole[index] = part
        found[0][m:] += -weight * centre[m:] + 0.5 * weight**2 * own - gammaln(weight)
    return found[0], found[1], found[2]
