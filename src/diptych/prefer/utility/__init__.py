"""Utility models: what a person likes, learned from judgements.

All models meet :class:`Utility`. What a fit yields is a :class:`Fitted`, which never changes: a model that is fitted
anew swaps in another, so that whoever holds one may go on using it from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.named import make_named

Array = NDArray[np.float64]

UNTRAINED, TRAINING, OK = "untrained", "training", "ok"

_HOMES = {
    "contrastive": ("linear_gp", "Contrastive"),
    "ridge": ("baselines.ridge", "Ridge"),
    "logistic": ("baselines.logistic", "Logistic"),
    "xgboost": ("baselines.boosted", "Boosted"),
    "distance": ("baselines.distance", "Distance"),
    "cosine": ("baselines.cosine", "Cosine"),
    "surface": ("settings_gp", "Surface"),
}

NAMES = tuple(_HOMES)
"""The models there are."""

OF_CUBES = ("surface",)
"""Those for settings in a cube; all others are for latents on a sphere."""


@dataclass(frozen=True)
class Agreement:
    """``hits`` of ``total`` judgements."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        """Hits as a part of the total; NaN where there is none."""
        return self.hits / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Advice:
    """Utility (sigma) that ``labels`` more judgements are expected to add to the best latent."""

    labels: int
    gain: float


class Fitted(Protocol):
    """What a model learned. It never changes."""

    @property
    def dimension(self) -> int:
        """D."""
        ...

    @property
    def reach(self) -> float:
        """Expected utility of the best latent of the sphere, sigma; NaN for a model that does not know. 0: nothing was
        learned.
        """
        ...

    @property
    def train(self) -> Agreement:
        """Of the judgements, how many the model agrees with."""
        ...

    def direction(self) -> Array:
        """Unit vector (d,) along which utility is expected to rise."""
        ...

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Mean and standard deviation (k,) of the utility of latents (k, d); NaN for a deviation that the model does
        not know.
        """
        ...

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) of latents (k, d) rated on a screen; on the next one when None."""
        ...

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """Draws (count, d) of the utility's weights: from the posterior, or about the estimate with the spread of the
        prior.
        """
        ...


@runtime_checkable
class Utility(Protocol):
    """A model that learns. ``observations`` are those of :class:`diptych.prefer.judgement.Observations`."""

    name: str

    @property
    def fitted(self) -> Fitted | None:
        """What was learned; None unless the status is ``ok``."""
        ...

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (the first fit is under way), ``ok`` or ``unavailable: why``."""
        ...

    def fit(self, observations: Any) -> str:
        """Learn from all judgements, from nothing. Returns the status."""
        ...

    def add(self, observations: Any) -> str:
        """The same result as :meth:`fit`, sooner, where the record has grown (or lost) a little since the last time."""
        ...

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """As :meth:`Fitted.score`; NaN, shown as n/a, unless the status is ``ok``."""
        ...

    def direction(self) -> Array | None:
        """As :meth:`Fitted.direction`; None unless the status is ``ok``."""
        ...

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array | None:
        """As :meth:`Fitted.sample`; None unless the status is ``ok``."""
        ...


def make(name: str, **options: Any) -> Utility:
    """The model of a name.

    Raises
    ------
    InputError
        There is none of that name.
    """
    made: Utility = make_named(_HOMES, __name__, "utility model", "Utility", name, options)
    return made


def expected(fitted: Fitted, latents: NDArray[Any]) -> Array:
    """What orders latents (k, d) by mean utility: sooner than :meth:`Fitted.score`, whose deviations take time."""
    mean = getattr(fitted, "expected", None)
    return np.asarray(
        latents @ fitted.direction().astype(np.float32) if mean is None else mean(latents), dtype=np.float64
    )
