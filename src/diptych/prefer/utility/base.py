"""What every utility model provides: protocols, small data types and status strings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.image_features import FeatureSnapshot

Array = NDArray[np.float64]

UNTRAINED, TRAINING, OK = "untrained", "training", "ok"

CLEARLY = 2.0
"""Standard deviations of the hits of guessing by which an agreement has to exceed them to be clearly above chance."""


@dataclass(frozen=True)
class Agreement:
    """Number of judgements that a model predicts correctly.

    Parameters
    ----------
    hits, total : int
        Correctly predicted judgements, and all judgements.
    chance : float
        Number of them that guessing is expected to get right, see
        :func:`diptych.prefer.utility.diagnostics.agreement.guessed`; NaN if it was not computed.
    spread : float
        Standard deviation of that number.
    """

    hits: int
    total: int
    chance: float = math.nan
    spread: float = math.nan

    @property
    def share(self) -> float:
        """Fraction of hits; NaN if there are no judgements."""
        return self.hits / self.total if self.total else float("nan")

    @property
    def above_chance(self) -> bool:
        """Whether the hits exceed those of guessing by more than :data:`CLEARLY` standard deviations."""
        return self.hits > self.chance + CLEARLY * self.spread

    def __str__(self) -> str:
        if not self.total:
            return "n/a"
        chance = "" if math.isnan(self.chance) else f" (chance: {self.chance:.3g})"
        return f"{self.hits} of {self.total}{chance}"


@dataclass(frozen=True)
class Advice:
    """Expected gain (sigma) in the utility of the best latent from ``labels`` more judgements."""

    labels: int
    gain: float


class Fitted(Protocol):
    """The immutable result of one fit.

    Latents are rows of (k, d) arrays. Utilities are in units of sigma, their standard deviation over random latents,
    for the Gaussian-process models; other models have arbitrary units.
    """

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        ...

    @property
    def reach(self) -> float:
        """Expected utility (sigma) of the best latent; NaN if the model has no scale; 0 if nothing was learned."""
        ...

    @property
    def train(self) -> Agreement:
        """Agreement with the judgements that the model was fitted to."""
        ...

    def direction(self) -> Array:
        """Unit vector (d,) along which the utility is expected to increase."""
        ...

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Mean and standard deviation (k,) of the utility; NaN deviations if the model has no uncertainty."""
        ...

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) if the latents are rated on a screen; None stands for the next screen."""
        ...

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Draws (count, d) of the weights of the utility: from the posterior where there is one, else the estimated
        direction plus noise N(0, 1 / d).
        """
        ...


@runtime_checkable
class Expects(Protocol):
    """A fit that computes posterior means without standard deviations, which is faster than :meth:`Fitted.score`."""

    def expected(self, latents: ArrayLike) -> Array:
        """Posterior mean (k,) of the utility of latents (k, d)."""
        ...


@runtime_checkable
class CrossValidates(Protocol):
    """A fit that has leave-one-out predictions in closed form."""

    def loo_agreement(self) -> Agreement | None:
        """Agreement with each judgement when it is left out of the fit; None if it would take too long."""
        ...


@runtime_checkable
class Advises(Protocol):
    """A fit that predicts the value of further judgements."""

    def advice(self, labels: int = 20) -> Advice:
        """Expected gain from ``labels`` more judgements."""
        ...


@runtime_checkable
class Utility(Protocol):
    """A utility model: it is fitted to judgements, and :attr:`fitted` is the result."""

    name: str

    @property
    def fitted(self) -> Fitted | None:
        """The last fit; None unless the status is ``ok``."""
        ...

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (during the first fit), ``ok`` or ``unavailable: reason``."""
        ...

    def fit(self, observations: Observations, features: FeatureSnapshot | None = None) -> str:
        """Fit to all judgements from scratch.

        Parameters
        ----------
        observations : Observations
            Judged latents and judgements.
        features : FeatureSnapshot, optional
            Image features of settings, for models that use them. The fit keeps this immutable snapshot.

        Returns
        -------
        str
            The status.
        """
        ...

    def add(self, observations: Observations, features: FeatureSnapshot | None = None) -> str:
        """The same result as :meth:`fit`, faster if the judgements changed little since the last fit."""
        ...


def expected(fitted: Fitted, latents: NDArray[Any]) -> Array:
    """Values (k,) that order latents (k, d) by expected utility, without computing standard deviations."""
    if isinstance(fitted, Expects):
        return np.asarray(fitted.expected(latents), dtype=np.float64)
    return np.asarray(latents @ fitted.direction().astype(np.float32), dtype=np.float64)
