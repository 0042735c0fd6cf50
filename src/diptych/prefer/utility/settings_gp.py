"""The utility of settings: a Gaussian process on the cube, learned from every kind of judgement at once, with its
uncertainty.

The statements, the threshold of ratings and the inference are those of the default for images (:mod:`contrastive`); the
prior is that of
:mod:`relief`, whose lengths are found by evidence from what is usual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import PLAIN, Cube, settled, sobol
from diptych.prefer.spaces.image_features import Gallery
from diptych.prefer.utility import Agreement
from diptych.prefer.utility.diagnostics.agreement import leave_one_out, train_agreement
from diptych.prefer.utility.gp.calibration import trust
from diptych.prefer.utility.gp.covariance import Prior
from diptych.prefer.utility.gp.image_kernel import Places
from diptych.prefer.utility.gp.model_selection import Evidence, Sites, climb, free_widths
from diptych.prefer.utility.gp.settings_kernel import SIGHT, Shape, plane, slopes
from diptych.prefer.utility.inference.ep import ROUGH, SETTLED, match_moments
from diptych.prefer.utility.inference.laplace import Mode, Plain, find_mode
from diptych.prefer.utility.inference.observations import Predictors, predictors, recent_rows
from diptych.prefer.utility.learner import Learner

Array = NDArray[np.float64]

MATCHED = 256
"""Statements up to which moments are matched; Laplace's approximation is quicker."""

JITTER = 1e-6
"""Variance, sigma^2, added to draws: points of the cube lie close together."""

LOOKED = 256
"""Points of the cube among which the best is looked for."""


@dataclass(frozen=True, eq=False)
class SurfacePosterior:
    """What is believed of the utility of settings, in units of its spread over the cube, sigma.

    Attributes
    ----------
    latents : (n, d) float32
        The judged points as they were shown.
    places : Places
        The same, settled.
    prior : Prior
        Statements, widths and covariance.
    shape : Shape
        The widths.
    mode : Mode
        The fit.
    screens : (k,) int
        Screens with ratings, as numbered in the record.
    seen : (n,) int
        Screen on which each point was first shown.
    """

    latents: NDArray[np.float32]
    places: Places
    prior: Prior
    shape: Shape
    mode: Mode
    screens: NDArray[np.int64]
    seen: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.latents.shape[1])

    @property
    def looked(self) -> Array:
        """Points (m, d) of which there are pictures by now, judged or not."""
        return self.places.looked

    @cached_property
    def reach(self) -> float:
        """Expected utility of the best of some points all over the cube, and of those judged, sigma."""
        some = sobol(LOOKED, self.dimension, self.places.cube, np.random.default_rng(0))
        highest = float(self.expected(np.vstack([some, self.places.points])).max())
        return highest if highest > 1e-9 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along which the plane rises that the utility is expected to have in it."""
        rise = self._plane()[0] * self._slopes
        return rise / max(float(np.linalg.norm(rise)), 1e-300)

    def expected(self, latents: ArrayLike) -> Array:
        """Posterior mean (k,) of the utility of latents (k, d), sigma."""
        return np.asarray(self.shape.scale * (self.mode.alpha @ self._shared(self._settled(latents))))

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Posterior mean and standard deviation (k,) of the utility of latents (k, d), sigma."""
        points = self._settled(latents)
        shared = self._shared(points)
        left = self.places.variance(points, self.shape) - self.mode.reduction(shared * self.shape.scale)
        return self.shape.scale * (self.mode.alpha @ shared), np.sqrt(np.maximum(left, 0.0))

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) of latents (k, d) rated on a screen: one that has ratings already, or the next (None)."""
        points, scale, adaptation = self._settled(latents), self.shape.scale, self.shape.adaptation
        shared, own = self._shared(points), self.places.variance(points, self.shape)
        if len(rows := recent_rows(self.seen, screen)):
            before = self.places.points[rows]
            shared = shared - adaptation * self._shared(before).mean(axis=1, keepdims=True)
            own = own - 2 * adaptation * self.places.kernel(before, points, self.shape).mean(axis=0)
            own = own + adaptation**2 * self.places.kernel(before, before, self.shape).mean()
        place = np.flatnonzero(self.screens == screen)
        index = np.array([place[0] if len(place) else len(self.screens)])
        shared[self.prior.rated] += self.prior.threshold_between(self.prior.screens, index)
        own = own + self.prior.threshold_between(index, index)[0, 0]
        left = scale**2 * np.maximum(own - self.mode.reduction(shared * scale), 0.0)
        logit = scale**2 * (self.mode.alpha @ shared) / np.sqrt(1 + math.pi / 8 * left)
        return np.asarray(expit(self.shape.trust * logit))

    def draw(self, latents: ArrayLike, rng: np.random.Generator, count: int = 1) -> Array:
        """Joint draws (count, k) of the utility of latents (k, d) from the posterior, sigma."""
        points = self._settled(latents)
        shared = self._shared(points)
        own = self.places.kernel(points, points, self.shape)
        return self._drawn(self.shape.scale * (self.mode.alpha @ shared), own, shared, rng, count)

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Draws (count, d) from the posterior of the slopes of the plane that is part of the utility."""
        mean, shared, own = self._plane()
        return self._drawn(mean, own, shared, rng, count) * self._slopes

    @cached_property
    def train(self) -> Agreement:
        """Of the judgements, how many the fit agrees with."""
        return train_agreement(self.mode.eta, self.prior.given, *self.prior.limits())

    @cached_property
    def left_out(self) -> Agreement | None:
        """The same, each judged by the fit without it."""
        return None if self.mode.factor is None else leave_one_out(self.mode, self.prior.given, *self.prior.limits())

    @property
    def _slopes(self) -> Array:
        return slopes(self.dimension, self.places.settings)

    def _settled(self, latents: ArrayLike) -> Array:
        return settled(np.atleast_2d(np.asarray(latents, dtype=np.float64)), self.places.cube)

    def _shared(self, points: Array) -> Array:
        """Covariance (m, k) of the predictors with the utilities of settled points (k, d), in units of s^2."""
        return np.asarray(self.prior.weights @ self.places.kernel(self.places.points, points, self.shape))

    def _plane(self) -> tuple[Array, Array, Array]:
        """Of the weights of the plane's features: mean (d,), covariance (m, d) with the predictors in units of s^2, and
        prior (d, d).
        """
        share = 1 / (1 + self.shape.bend + self.shape.sight)
        shared = self.prior.weights @ plane(self.places.points, self.places.settings) * share
        return self.shape.scale * (self.mode.alpha @ shared), shared, share * np.eye(self.dimension)

    def _drawn(self, mean: Array, own: Array, shared: Array, rng: np.random.Generator, count: int) -> Array:
        """Draws (count, k) of what has this posterior mean (k,), prior covariance (k, k), and covariance (m, k) with
        the predictors.
        """
        shared = shared * self.shape.scale
        left = own - shared.T @ self.mode.whitened(shared)
        left[np.diag_indices_from(left)] += JITTER
        return np.asarray(mean + rng.standard_normal((count, len(mean))) @ cholesky(left, check_finite=False))


class Surface(Learner):
    """The model of settings; what it learns is a :class:`SurfacePosterior`.

    Parameters
    ----------
    cube : Cube
        Which points mean the same settings.
    gallery : Gallery, optional
        What pictures look like; without it settings alone count.
    """

    name = "surface"

    def __init__(self, cube: Cube = PLAIN, gallery: Gallery | None = None) -> None:
        super().__init__()
        self.cube, self.gallery = cube, gallery
        self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._evidence: Evidence[Shape] | None = None

    def _learn(self, observations: Observations) -> SurfacePosterior:
        given = predictors(observations)
        places = Places(observations.latents, self.cube, self.gallery)
        if self._evidence is None:
            sight = 0.0 if self.gallery is None else SIGHT
            self._evidence = Evidence(search_shape, Shape(lengths=(1.0,) * len(places.settings), sight=sight))
        shape = self._evidence.widths(places, given)
        prior = Prior(places.contrasted(given, shape), given, shape)
        mode = infer(prior, given)
        screens = np.unique([term.screen for term in observations.terms if term.kind in ("rate", "stars")]).astype(
            np.int64
        )
        return SurfacePosterior(
            observations.latents, places, prior, shape, mode, screens, np.asarray(observations.screen)
        )


def search_shape(places: Places, given: Predictors, start: Shape) -> Shape:
    """Climb from ``start`` by the evidence of these statements: widths, part of the hills, lengths along each setting;
    then the trust.
    """

    def height(trial: Shape, sites: Sites) -> tuple[float, Sites]:
        mode = infer(Prior(places.contrasted(given, trial), given, trial), given, sites, ROUGH)
        return mode.evidence + trial.log_prior(), mode.sites

    pictures = ("sight", "focus") if start.sight else ()
    shape = climb(
        start,
        [*free_widths(given), "bend", *pictures, *(f"length{index}" for index in range(len(start.lengths)))],
        height,
    )
    prior = Prior(places.contrasted(given, shape), given, shape)
    return replace(shape, trust=trust(prior, infer(prior, given)))


def infer(prior: Prior, given: Predictors, sites: Sites = None, settled: float = SETTLED) -> Mode:
    """The posterior of the predictors by matched moments; of many, by Laplace's approximation."""
    if len(given) <= MATCHED:
        return match_moments(prior, given, prior.limits(), sites, settled)
    return find_mode(prior, Plain(given, *prior.limits()), np.zeros(len(given)))
