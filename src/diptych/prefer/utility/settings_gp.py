"""The utility of reconstruction settings (``surface``): a Gaussian process on the cube.

Observations, threshold and inference are those of :mod:`~diptych.prefer.utility.linear_gp`; the kernel is a sum of a
linear and an RBF part over the settings (:mod:`~diptych.prefer.utility.gp.settings_kernel`) and a part over features of
the images (:mod:`~diptych.prefer.utility.gp.image_kernel`). Length scales maximize the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import PLAIN, Cube, settled, sobol
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.gp.calibration import calibration_factor
from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.gp.image_kernel import ImageKernel
from diptych.prefer.utility.gp.model_selection import ModelSelection, Sites, compass_search, free_hyperparameters
from diptych.prefer.utility.gp.posterior import GaussianPosterior, rated_screens
from diptych.prefer.utility.gp.settings_kernel import (
    IMAGE_VARIANCE,
    SettingsHyperparameters,
    linear_feature_scales,
    linear_features,
)
from diptych.prefer.utility.inference.ep import ROUGH_TOLERANCE, TOLERANCE, expectation_propagation
from diptych.prefer.utility.inference.laplace import GaussianApproximation, ObservationLikelihood, find_mode
from diptych.prefer.utility.inference.observations import Design, build_design
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.registry import NoOptions

Array = NDArray[np.float64]

MAX_EP = 256
"""Number of observations up to which expectation propagation is used; above, Laplace's approximation, which is faster.
Number of observations up to which expectation propagation is used; above, Laplace's approximation, which is faster."""

JITTER = 1e-6
"""Variance (sigma^2) added to the diagonal of posterior covariances before they are factorized: points of the cube can
be close together."""

SEARCH_POINTS = 256
"""Number of points of the cube among which the best is searched for."""


@dataclass(frozen=True, eq=False)
class SettingsPosterior(GaussianPosterior):
    """Posterior of the utility of settings.

    Attributes
    ----------
    kernel : ImageKernel
        Prior covariance, with the canonical judged points and the image features of the fit.
    hyperparameters : SettingsHyperparameters
        Hyperparameters of the fit.
    """

    kernel: ImageKernel
    hyperparameters: SettingsHyperparameters

    @property
    def previewed(self) -> Array:
        """Points (m, d) whose image features are part of the fit, judged or not."""
        return self.kernel.imaged

    @cached_property
    def reach(self) -> float:
        """Expected utility (sigma) of the best among evenly spread points and the judged ones."""
        points = sobol(SEARCH_POINTS, self.dimension, self.kernel.cube, np.random.default_rng(0))
        highest = float(self.expected(np.vstack([points, self.kernel.points])).max())
        return highest if highest > 1e-9 else 0.0

    def with_features(self, features: FeatureSnapshot) -> SettingsPosterior:
        """The same fit with more image features: predictions for points that have an image change, the posterior of the
        predictors does not.

        Parameters
        ----------
        features : FeatureSnapshot
            Must contain the features of the fit, in the same order.
        """
        return replace(self, kernel=self.kernel.with_features(features))

    def direction(self) -> Array:
        """Unit vector (d,) along the expected gradient of the linear part of the utility."""
        gradient = self._linear_part()[0] * self._feature_scales
        return gradient / max(float(np.linalg.norm(gradient)), 1e-300)

    def expected(self, latents: ArrayLike) -> Array:
        """Posterior mean (k,) of the utility of latents (k, d), sigma."""
        points = self._points(latents)
        return self._mean(points, self._covariance(points))

    def draw(self, latents: ArrayLike, rng: np.random.Generator, count: int = 1) -> Array:
        """Joint draws (count, k) of the utilities of latents (k, d) from the posterior, sigma."""
        points = self._points(latents)
        covariance = self._covariance(points)
        prior = self.kernel.covariance(points, points, self.hyperparameters)
        return self._drawn(self._mean(points, covariance), prior, covariance, rng, count)

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Draws (count, d) of the gradient of the linear part of the utility from the posterior."""
        mean, covariance, prior = self._linear_part()
        return self._drawn(mean, prior, covariance, rng, count) * self._feature_scales

    @property
    def _feature_scales(self) -> Array:
        return linear_feature_scales(self.dimension, self.kernel.settings)

    def _points(self, latents: ArrayLike) -> Array:
        return settled(super()._points(latents), self.kernel.cube)

    def _covariance(self, points: Array) -> Array:
        kernel = self.kernel.covariance(self.kernel.points, points, self.hyperparameters)
        return np.asarray(self.prior.weights @ kernel)

    def _variance(self, points: Array) -> Array:
        return self.kernel.variance(points, self.hyperparameters)

    def _adapted(self, points: Array, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        covariance, variance = self._covariance(points), self._variance(points)
        if len(rows):
            recent, adaptation = self.kernel.points[rows], self.hyperparameters.adaptation
            covariance = covariance - adaptation * self._covariance(recent).mean(axis=1, keepdims=True)
            shared = self.kernel.covariance(recent, points, self.hyperparameters).mean(axis=0)
            own = self.kernel.covariance(recent, recent, self.hyperparameters).mean()
            variance = variance - 2 * adaptation * shared + adaptation**2 * own
        return covariance, variance

    def _linear_part(self) -> tuple[Array, Array, Array]:
        """Weights of the linear features: posterior mean (d,), prior covariance (m, d) with the predictors in units of
        s^2, and prior covariance (d, d).
        """
        share = 1 / (1 + self.hyperparameters.nonlinearity + self.hyperparameters.image_variance)
        covariance = self.prior.weights @ linear_features(self.kernel.points, self.kernel.settings) * share
        mean = self.hyperparameters.scale * (self.approximation.alpha @ covariance)
        return mean, covariance, share * np.eye(self.dimension)

    def _drawn(self, mean: Array, prior: Array, covariance: Array, rng: np.random.Generator, count: int) -> Array:
        """Draws (count, k) of a Gaussian with a posterior mean (k,), prior covariance (k, k), and prior covariance (m,
        k) with the predictors.
        """
        covariance = covariance * self.hyperparameters.scale
        posterior = prior - covariance.T @ self.approximation.whitened(covariance)
        posterior[np.diag_indices_from(posterior)] += JITTER
        factor = cholesky(posterior, check_finite=False)
        return np.asarray(mean + rng.standard_normal((count, len(mean))) @ factor)


class SettingsGP(Learner):
    """The model of settings; a fit yields a :class:`SettingsPosterior`.

    Image features count if they are passed to :meth:`fit` or :meth:`add`; without them the settings alone do.

    Parameters
    ----------
    cube : Cube
        Which points mean the same settings.
    """

    name = "surface"

    def __init__(self, cube: Cube = PLAIN) -> None:
        super().__init__()
        self.cube = cube
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._selection: ModelSelection[SettingsHyperparameters] | None = None
        self._has_features = False

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> SettingsPosterior:
        design = build_design(observations)
        kernel = ImageKernel(observations.latents, self.cube, features)
        if self._selection is None or self._has_features != (features is not None):
            start = SettingsHyperparameters(
                length_scales=(1.0,) * len(kernel.settings), image_variance=0.0 if features is None else IMAGE_VARIANCE
            )
            self._selection = ModelSelection(maximize_settings_evidence, start)
            self._has_features = features is not None
        hyperparameters = self._selection.hyperparameters(kernel, design)
        prior = Prior(kernel.gram(design, hyperparameters), design, hyperparameters)
        approximation = infer(prior, design)
        screens, first_screen = rated_screens(observations), np.asarray(observations.screen)
        return SettingsPosterior(
            observations.latents, prior, approximation, screens, first_screen, kernel, hyperparameters
        )


def maximize_settings_evidence(
    kernel: ImageKernel, design: Design, start: SettingsHyperparameters
) -> SettingsHyperparameters:
    """Compass search for the hyperparameters with the highest evidence, from ``start``; then the calibration factor."""

    def objective(trial: SettingsHyperparameters, sites: Sites) -> tuple[float, Sites]:
        approximation = infer(Prior(kernel.gram(design, trial), design, trial), design, sites, ROUGH_TOLERANCE)
        return approximation.log_evidence + trial.log_prior(), approximation.sites

    image_names = ("image_variance", "image_length") if start.image_variance else ()
    lengths = (f"length_scale{index}" for index in range(len(start.length_scales)))
    names = [*free_hyperparameters(design), "nonlinearity", *image_names, *lengths]
    found = compass_search(start, names, objective)
    prior = Prior(kernel.gram(design, found), design, found)
    return replace(found, calibration=calibration_factor(prior, infer(prior, design)))


def infer(prior: Prior, design: Design, sites: Sites = None, tolerance: float = TOLERANCE) -> GaussianApproximation:
    """Posterior of the predictors: by expectation propagation, or by Laplace's approximation for many observations."""
    if len(design) <= MAX_EP:
        return expectation_propagation(prior, design, prior.limits(), sites, tolerance)
    return find_mode(prior, ObservationLikelihood(design, *prior.limits()), np.zeros(len(design)))


def _build(options: NoOptions, cube: Cube) -> SettingsGP:
    return SettingsGP(cube)


MODEL = UtilityModel(
    "surface",
    "Gaussian process over reconstruction settings and features of their images",
    NoOptions,
    space="cube",
    build=_build,
)
