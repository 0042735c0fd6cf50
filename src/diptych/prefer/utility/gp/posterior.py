"""Posterior of a utility under a Gaussian-process prior: what the linear and the settings model share.

With K the prior covariance of the m predictors (see :mod:`~diptych.prefer.utility.gp.covariance`), W the curvature of
their likelihood and alpha = K^-1 E[eta], a utility whose prior covariance with the predictors is k has

    mean      k' alpha
    variance  k0 - k' (K + W^-1)^-1 k

(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 3.21 and 3.24).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.base import Agreement
from diptych.prefer.utility.diagnostics.agreement import loo_agreement, train_agreement
from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.inference.laplace import GaussianApproximation
from diptych.prefer.utility.inference.observations import Design, recent_rows

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaussianPosterior(ABC):
    """Posterior of the utility. Utilities are in units of sigma, their prior standard deviation over random latents.

    Attributes
    ----------
    latents : (n, d) float32
        Judged latents.
    prior : Prior
        Prior of the predictors, with the hyperparameters.
    approximation : GaussianApproximation
        Posterior of the predictors.
    screens : (k,) int
        Screens with ratings, as numbered in the ledger.
    first_screen : (n,) int
        Screen on which each latent was first shown.
    """

    latents: NDArray[np.float32]
    prior: Prior
    approximation: GaussianApproximation
    screens: NDArray[np.int64]
    first_screen: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        return int(self.latents.shape[1])

    @property
    def design(self) -> Design:
        """Design matrix and limits of the observations."""
        return self.prior.design

    @abstractmethod
    def expected(self, latents: ArrayLike) -> Array:
        """Posterior mean (k,) of the utility of latents (k, d), sigma."""

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Posterior mean and standard deviation (k,) of the utility of latents (k, d), sigma."""
        points = self._points(latents)
        covariance = self._covariance(points)
        reduction = self.approximation.reduction(covariance * self.prior.hyperparameters.scale)
        return self._mean(points, covariance), np.sqrt(np.maximum(self._variance(points) - reduction, 0.0))

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) if latents (k, d) are rated on a screen.

        The logistic function is averaged over the Gaussian posterior of the logit with MacKay's approximation
        (Neural Computation 4, 720 (1992)), and the logit is multiplied by the calibration factor.

        Parameters
        ----------
        latents : (k, d)
        screen : int, optional
            A screen that has ratings already; the next one if None.
        """
        hyperparameters = self.prior.hyperparameters
        scale = hyperparameters.scale
        covariance, variance = self._adapted(self._points(latents), recent_rows(self.first_screen, screen))
        position = np.flatnonzero(self.screens == screen)
        index = np.array([position[0] if len(position) else len(self.screens)])
        covariance[self.prior.rated] += self.prior.threshold_between(self.prior.screens, index)
        variance = variance + self.prior.threshold_between(index, index)[0, 0]
        logit = scale**2 * (self.approximation.alpha @ covariance)
        variance = scale**2 * np.maximum(variance - self.approximation.reduction(covariance * scale), 0.0)
        return np.asarray(expit(hyperparameters.calibration * logit / np.sqrt(1 + math.pi / 8 * variance)))

    @cached_property
    def train(self) -> Agreement:
        """Agreement of the fit with the judgements that it was fitted to."""
        return train_agreement(self.approximation.eta, self.design, *self.prior.limits())

    def loo_agreement(self) -> Agreement | None:
        """Agreement with each judgement when it is left out of the fit; None if the covariance was not factorized."""
        return self._loo_agreement

    @cached_property
    def _loo_agreement(self) -> Agreement | None:
        if self.approximation.factor is None:
            return None
        return loo_agreement(self.approximation, self.design, *self.prior.limits())

    def _points(self, latents: ArrayLike) -> Array:
        """Latents (k, d) as the kernel takes them."""
        return np.atleast_2d(np.asarray(latents, dtype=np.float64))

    def _mean(self, points: Array, covariance: Array) -> Array:
        """Posterior mean (k,), sigma, from the covariance (m, k) with the predictors."""
        return np.asarray(self.prior.hyperparameters.scale * (self.approximation.alpha @ covariance))

    @abstractmethod
    def _covariance(self, points: Array) -> Array:
        """Prior covariance (m, k) of the predictors with the utilities of points (k, d), in units of s^2."""

    @abstractmethod
    def _variance(self, points: Array) -> Array:
        """Prior variance (k,) of the utilities of points (k, d), in units of s^2."""

    @abstractmethod
    def _adapted(self, points: Array, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Covariance (m, k) and variance (k,) of the utilities less the adaptation times the mean utility of the judged
        latents ``rows``.
        """


def rated_screens(observations: Observations) -> NDArray[np.int64]:
    """Screens (k,) with ratings, in rising order."""
    return np.unique([term.screen for term in observations.terms if term.kind in ("rate", "stars")]).astype(np.int64)
