"""The default utility: linear on the sphere, learned from every kind of judgement at once, with its uncertainty.

u(z) ~ GP(0, s^2 z.z'/d) and a drifting threshold for ratings; see :mod:`likelihood` for the statements and :mod:`prior`
for the threshold. All work is in the dual, so that it grows with the number of judgements and hardly with d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.utility import Advice, Agreement
from diptych.prefer.utility.diagnostics.agreement import leave_one_out, train_agreement
from diptych.prefer.utility.gp.covariance import Contrasted, Prior, Widths
from diptych.prefer.utility.gp.gram import Gram, cross, spread
from diptych.prefer.utility.gp.model_selection import Evidence, search
from diptych.prefer.utility.inference.asymptotic_ep import cavities
from diptych.prefer.utility.inference.ep import Cavity, match_moments
from diptych.prefer.utility.inference.laplace import Mode, Plain, find_mode
from diptych.prefer.utility.inference.observations import Predictors, predictors, recent_rows
from diptych.prefer.utility.learner import Learner

Array = NDArray[np.float64]

DENSE = 1200
"""Statements up to which the covariance is formed and factored; above, conjugate gradients are quicker and need less
memory."""

MATCHED = 256
"""Statements up to which each has its own cavity variance; above, they follow from their number (:mod:`cavities`): much
quicker."""

SORTED = 600
"""The same where images were chosen among several: what is quicker then takes the mode for the mean."""


BORDER = 64
"""New statements up to which the factor of the last fit is bordered rather than made anew."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is believed of a person's utility after some judgements. Utilities are in units of their spread over random
    latents, sigma.

    Attributes
    ----------
    latents : (n, d) float32
        The judged latents.
    prior : Prior
        Statements, widths and covariance.
    mode : Mode
        The fit.
    mean : (d,)
        Posterior mean w of the utility u(z) = w.z.
    screens : (k,) int
        Screens with ratings, as numbered in the record.
    seen : (n,) int
        Screen on which each latent was first shown.
    """

    latents: NDArray[np.float32]
    prior: Prior
    mode: Mode
    mean: Array
    screens: NDArray[np.int64]
    seen: NDArray[np.int64]

    @property
    def widths(self) -> Widths:
        """The variances in use."""
        return self.prior.widths

    @property
    def given(self) -> Predictors:
        """The statements."""
        return self.prior.given

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def reach(self) -> float:
        """Expected utility of the best latent of the sphere, sqrt(d) unit(mean), sigma."""
        length = float(np.linalg.norm(self.mean)) * math.sqrt(self.dimension)
        return length if length > 1e-9 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along which utility is expected to rise."""
        return self.mean / np.linalg.norm(self.mean)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Posterior mean and standard deviation (k,) of the utility of latents (k, d), sigma."""
        given = np.atleast_2d(np.asarray(latents, dtype=np.float64))
        shared = self._shared(given)
        own = (given**2).sum(axis=1) / self.dimension
        variance = own - self.mode.reduction(shared * self.widths.scale)
        return given @ self.mean, np.sqrt(np.maximum(variance, 0.0))

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) of latents (k, d) rated on a screen: one that has ratings already, or the next (None)."""
        given = np.atleast_2d(np.asarray(latents, dtype=np.float64))
        if len(rows := recent_rows(self.seen, screen)):
            given = given - self.widths.adaptation * self.latents[rows].mean(axis=0, dtype=np.float64)
        shared = self._shared(given)
        place = np.flatnonzero(self.screens == screen)
        index = np.array([place[0] if len(place) else len(self.screens)])
        shared[self.prior.rated] += self.prior.threshold_between(self.prior.screens, index)
        scale = self.widths.scale
        own = (given**2).sum(axis=1) / self.dimension + self.prior.threshold_between(index, index)[0, 0]
        mean = scale**2 * (self.mode.alpha @ shared)
        variance = scale**2 * np.maximum(own - self.mode.reduction(shared * scale), 0.0)
        return np.asarray(expit(self.widths.trust * mean / np.sqrt(1 + math.pi / 8 * variance)))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Exact draws (count, d) of w from the posterior by Matheron's rule: a draw of the prior, corrected by what it
        gets wrong.
        """
        root = math.sqrt(self.dimension)
        drawn = rng.standard_normal((count, self.dimension), dtype=np.float32).astype(np.float64)
        if not len(self.given):
            return drawn / root
        wrong = self.prior.weights @ (cross(drawn, self.latents).T * root) + self.prior.draw_threshold(rng, count)
        noise = rng.standard_normal(wrong.shape)
        curvature, scale = self.mode.curvature, self.widths.scale
        inner = self.mode.solve(curvature.times(scale * wrong) + noise)
        weights = self.prior.weights.T @ curvature.times(inner, transpose=True)
        drawn = drawn / root - spread(np.ascontiguousarray(weights.T) * (scale / self.dimension), self.latents)
        return drawn + self.mean

    def advice(self, labels: int = 20, angle: float = math.pi / 3) -> Advice:
        """Utility that ``labels`` more ratings are expected to add to the best latent, when proposals lie at an angle
        (rad) to the mean.

        Under the model |mean|^2 grows by what the trace of the covariance falls; a label on a new direction takes sin^2
        / (v + 1 / (s^2 W)) of it, with v the variance of its predictor and W the curvature of its likelihood.
        """
        scale = self.widths.scale
        best = self.direction() * math.sqrt(self.dimension) if self.reach else self.mean
        along = float(self.score(best)[1][0] ** 2) if self.reach else 1.0
        variance = math.sin(angle) ** 2 + math.cos(angle) ** 2 * along + self.widths.walk + self.widths.offset
        spread_of_bend = 0.25 / math.sqrt(1 + math.pi / 4 * scale**2 * variance)
        per_label = math.sin(angle) ** 2 / (variance + 1 / (scale**2 * spread_of_bend))
        return Advice(labels, math.sqrt(self.reach**2 + labels * per_label) - self.reach)

    @cached_property
    def train(self) -> Agreement:
        """Of the judgements, how many the fit agrees with."""
        return train_agreement(self.mode.eta, self.given, *self.prior.limits())

    @cached_property
    def left_out(self) -> Agreement | None:
        """The same, each judged by the fit without it; None for more than :data:`DENSE` statements, where it would take
        minutes.
        """
        return None if self.mode.factor is None else leave_one_out(self.mode, self.given, *self.prior.limits())

    def _shared(self, given: Array) -> Array:
        """Covariance (m, k) of the predictors with the utilities of latents (k, d), in units of s^2."""
        return np.asarray(self.prior.weights @ cross(given, self.latents).T)


class Contrastive(Learner):
    """The default model; what it learns is a :class:`Posterior`."""

    name = "contrastive"

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    @property
    def posterior(self) -> Posterior | None:
        """What was learned, with all that is particular to this model."""
        return cast("Posterior | None", self.fitted)

    def _forget(self) -> None:
        super()._forget()
        self._gram, self._evidence = Gram(), Evidence(search, Widths())
        self._last = cast("Posterior | None", None)
        self._inner: Contrasted | None = None

    def _learn(self, observations: Observations) -> Posterior:
        given = predictors(observations)
        latents = observations.latents
        kept = self._gram.update(latents)
        widths = self._evidence.widths(self._gram, given)
        self._inner = Contrasted(self._gram, given, self._inner, kept)
        last = self._last
        prior = Prior(self._inner, given, widths, None if last is None else last.prior)
        if len(given) <= (SORTED if (given.choice >= 0).any() else MATCHED):
            mode = match_moments(prior, given, prior.limits())
        else:
            mode = self._shared_cavities(prior, given, last)
        weights = prior.weights.T @ mode.alpha
        mean = spread(weights[None] * (widths.scale / latents.shape[1]), latents)[0]
        screens = np.unique([term.screen for term in observations.terms if term.kind in ("rate", "stars")]).astype(
            np.int64
        )
        self._last = Posterior(latents, prior, mode, mean, screens, np.asarray(observations.screen))
        return self._last

    def _shared_cavities(self, prior: Prior, given: Predictors, last: Posterior | None) -> Mode:
        """The fit where cavities have variances that follow from their number, begun from the last one."""
        start = np.zeros(len(given)) if last is None else _lengthened(last.mode.alpha, len(given))
        likelihood = Cavity(Plain(given, *prior.limits()), cavities(prior, self._gram.dimension))
        if len(given) > DENSE:
            return find_mode(prior, likelihood, start, iterative=True)
        kept = given.uncut(prior.kept)
        near = (
            None
            if last is None or last.mode.factor is None or len(given) - kept > BORDER
            else last.mode.factor[:kept, :kept]
        )
        return find_mode(prior, likelihood, start, nearby=near)


def _lengthened(start: Array, count: int) -> Array:
    """The first ``count`` of these numbers, zeros after them."""
    return np.concatenate([start[:count], np.zeros(max(count - len(start), 0))])
