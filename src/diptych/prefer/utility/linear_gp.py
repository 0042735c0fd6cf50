"""The default utility for images (``contrastive``): a Gaussian process with a linear kernel on the sphere.

    u(z) ~ GP(0, s^2 z.z' / d)

It learns from every kind of judgement at once (:mod:`~diptych.prefer.utility.inference.observations`); ratings are
relative to a threshold that drifts (:mod:`~diptych.prefer.utility.gp.covariance`). All matrices are of the size of the
number m of observations (the dual, or function-space, view), so the cost hardly depends on d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.base import Advice
from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram, cross, spread
from diptych.prefer.utility.gp.model_selection import ModelSelection, maximize_evidence
from diptych.prefer.utility.gp.posterior import GaussianPosterior, rated_screens
from diptych.prefer.utility.inference.asymptotic_ep import cavity_variances
from diptych.prefer.utility.inference.ep import CavityLikelihood, expectation_propagation
from diptych.prefer.utility.inference.laplace import GaussianApproximation, ObservationLikelihood, find_mode
from diptych.prefer.utility.inference.observations import Design, build_design
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.registry import NoOptions

Array = NDArray[np.float64]

MAX_DENSE = 1200
"""Number of observations up to which the covariance is formed and factorized; above, conjugate gradients are faster and
need less memory."""

MAX_EP = 256
"""Number of observations up to which expectation propagation is used; above, cavity variances follow from their number
(:mod:`~diptych.prefer.utility.inference.asymptotic_ep`), which is much faster."""

MAX_EP_CHOICES = 600
"""The same if there are choices among several images, for which the faster method uses the mode instead of the mean."""

MAX_EXTENSION = 64
"""Number of new observations up to which the Cholesky factor of the last fit is extended instead of computed again."""


@dataclass(frozen=True, eq=False)
class LinearPosterior(GaussianPosterior):
    """Posterior of a linear utility.

    Attributes
    ----------
    mean : (d,) float64
        Posterior mean of the weights w, u(z) = w.z.
    """

    mean: Array

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of the fit."""
        return self.prior.hyperparameters

    @property
    def reach(self) -> float:
        """Expected utility (sigma) of the best latent of the sphere, which is sqrt(d) times the unit mean."""
        length = float(np.linalg.norm(self.mean)) * math.sqrt(self.dimension)
        return length if length > 1e-9 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along the posterior mean."""
        return self.mean / np.linalg.norm(self.mean)

    def expected(self, latents: ArrayLike) -> Array:
        """Posterior mean (k,) of the utility of latents (k, d), sigma, in the precision of the latents."""
        rows = np.asarray(latents)
        return np.asarray(rows @ self.mean.astype(rows.dtype), dtype=np.float64)

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Exact draws (count, d) of the weights from the posterior.

        Matheron's rule: a draw from the prior, minus the regression on its residual at the observations (Wilson et al.,
        Efficiently sampling functions from Gaussian process posteriors, ICML 2020).
        """
        root = math.sqrt(self.dimension)
        drawn = rng.standard_normal((count, self.dimension), dtype=np.float32).astype(np.float64)
        if not len(self.design):
            return drawn / root
        residual = self.prior.weights @ (cross(drawn, self.latents).T * root) + self.prior.draw_threshold(rng, count)
        noise = rng.standard_normal(residual.shape)
        curvature, scale = self.approximation.curvature, self.hyperparameters.scale
        inner = self.approximation.solve(curvature.times(scale * residual) + noise)
        weights = self.prior.weights.T @ curvature.times(inner, transpose=True)
        drawn = drawn / root - spread(np.ascontiguousarray(weights.T) * (scale / self.dimension), self.latents)
        return drawn + self.mean

    def advice(self, labels: int = 20, angle: float = math.pi / 3) -> Advice:
        """Expected gain in the utility of the best latent from more ratings.

        In expectation |mean|^2 grows by as much as the trace of the posterior covariance decreases. A rating in a new
        direction decreases it by sin^2(angle) / (v + 1 / (s^2 W)), with v the variance of its predictor and W the
        curvature of its likelihood.

        Parameters
        ----------
        labels : int
            Number of further ratings.
        angle : float
            Angle between the proposed latents and the mean, rad.
        """
        hyperparameters = self.hyperparameters
        scale = hyperparameters.scale
        best = self.direction() * math.sqrt(self.dimension) if self.reach else self.mean
        along = float(self.score(best)[1][0] ** 2) if self.reach else 1.0
        variance = math.sin(angle) ** 2 + math.cos(angle) ** 2 * along + hyperparameters.walk + hyperparameters.offset
        curvature = 0.25 / math.sqrt(1 + math.pi / 4 * scale**2 * variance)
        per_label = math.sin(angle) ** 2 / (variance + 1 / (scale**2 * curvature))
        return Advice(labels, math.sqrt(self.reach**2 + labels * per_label) - self.reach)

    def _mean(self, points: Array, covariance: Array) -> Array:
        return np.asarray(points @ self.mean)

    def _covariance(self, points: Array) -> Array:
        return np.asarray(self.prior.weights @ cross(points, self.latents).T)

    def _variance(self, points: Array) -> Array:
        return np.asarray((points**2).sum(axis=1) / self.dimension)

    def _adapted(self, points: Array, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        if len(rows):
            points = points - self.hyperparameters.adaptation * self.latents[rows].mean(axis=0, dtype=np.float64)
        return self._covariance(points), self._variance(points)


class LinearGP(Learner):
    """The default model; a fit yields a :class:`LinearPosterior`."""

    name = "contrastive"

    def __init__(self) -> None:
        super().__init__()
        self._reset()

    @property
    def posterior(self) -> LinearPosterior | None:
        """The last fit; None unless the status is ``ok``."""
        return cast("LinearPosterior | None", self.fitted)

    def _reset(self) -> None:
        super()._reset()
        self._gram, self._selection = Gram(), ModelSelection(maximize_evidence, Hyperparameters())
        self._last = cast("LinearPosterior | None", None)
        self._inner: ObservationGram | None = None

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> LinearPosterior:
        design = build_design(observations)
        latents = observations.latents
        kept = self._gram.update(latents)
        hyperparameters = self._selection.hyperparameters(self._gram, design)
        self._inner = ObservationGram(self._gram, design, self._inner, kept)
        last = self._last
        prior = Prior(self._inner, design, hyperparameters, None if last is None else last.prior)
        if len(design) <= (MAX_EP_CHOICES if (design.choice >= 0).any() else MAX_EP):
            approximation = expectation_propagation(prior, design, prior.limits())
        else:
            approximation = self._asymptotic_ep(prior, design, last)
        weights = prior.weights.T @ approximation.alpha
        mean = spread(weights[None] * (hyperparameters.scale / latents.shape[1]), latents)[0]
        screens, first_screen = rated_screens(observations), np.asarray(observations.screen)
        self._last = LinearPosterior(latents, prior, approximation, screens, first_screen, mean)
        return self._last

    def _asymptotic_ep(self, prior: Prior, design: Design, last: LinearPosterior | None) -> GaussianApproximation:
        """Approximate posterior for many observations, started from the last fit."""
        start = np.zeros(len(design)) if last is None else _padded(last.approximation.alpha, len(design))
        likelihood = CavityLikelihood(
            ObservationLikelihood(design, *prior.limits()), cavity_variances(prior, self._gram.dimension)
        )
        if len(design) > MAX_DENSE:
            return find_mode(prior, likelihood, start, iterative=True)
        kept = design.uncut(prior.kept)
        factor = None if last is None else last.approximation.factor
        initial_factor = None if factor is None or len(design) - kept > MAX_EXTENSION else factor[:kept, :kept]
        return find_mode(prior, likelihood, start, initial_factor=initial_factor)


def _padded(start: Array, count: int) -> Array:
    """The first ``count`` values, padded with zeros."""
    return np.concatenate([start[:count], np.zeros(max(count - len(start), 0))])


def _build(options: NoOptions, cube: Cube) -> LinearGP:
    return LinearGP()


MODEL = UtilityModel(
    "contrastive",
    "Gaussian process, linear in the latent, with uncertainty (default for images)",
    NoOptions,
    space="sphere",
    build=_build,
)
