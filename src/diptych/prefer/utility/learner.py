"""What all models share: the status, the swap of a finished fit, and the rules for what is shown before there is
one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.utility import OK, TRAINING, UNTRAINED, Agreement, Fitted

Array = NDArray[np.float64]


class Learner(ABC):
    """A model whose :meth:`_learn` does the work."""

    name: str

    def __init__(self) -> None:
        self._result: Fitted | str | None = None
        self._fitting = False

    @property
    def fitted(self) -> Fitted | None:
        """What was learned; None unless the status is ``ok``."""
        result = self._result
        return None if result is None or isinstance(result, str) or result.reach == 0 else result

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (the first fit is under way), ``ok`` or ``unavailable: why``."""
        result = self._result
        if isinstance(result, str):
            return f"unavailable: {result}"
        if result is None:
            return TRAINING if self._fitting else UNTRAINED
        return OK if result.reach != 0 else UNTRAINED

    def fit(self, observations: Observations) -> str:
        """Learn from all judgements, from nothing. Returns the status."""
        self._forget()
        return self.add(observations)

    def add(self, observations: Observations) -> str:
        """The same result as :meth:`fit`, sooner, where the record has grown (or lost) a little since the last time."""
        self._fitting = True
        try:
            some = any(term.kind != "skip" for term in observations.terms)
            self._result = self._learn(observations) if some else None
        finally:
            self._fitting = False
        return self.status

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Mean and standard deviation (k,) of the utility of latents (k, d); NaN unless the status is ``ok``."""
        fitted, count = self.fitted, len(np.atleast_2d(latents))
        return (np.full(count, np.nan), np.full(count, np.nan)) if fitted is None else fitted.score(latents)

    def direction(self) -> Array | None:
        """Unit vector (d,) along which utility is expected to rise; None unless the status is ``ok``."""
        fitted = self.fitted
        return None if fitted is None else fitted.direction()

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array | None:
        """Draws (count, d) of the utility's weights; None unless the status is ``ok``."""
        fitted = self.fitted
        return None if fitted is None else fitted.sample(rng, count)

    def _forget(self) -> None:
        """Drop what speeds up the next fit."""
        self._result = None

    @abstractmethod
    def _learn(self, observations: Observations) -> Fitted | str:
        """The fit, or why there is none."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Judgements read as marks of latents: +1 good, the winner, the best; -1 bad and the others; stars from -1 to 1; a
    tie gives none.
    """

    index: NDArray[np.int64]
    mark: Array
    weight: Array


def marks(observations: Observations) -> Rows:
    """Every mark that was given, in order; a latent that was judged twice has two."""
    found = list(_marks(observations))
    index, mark, weight = zip(*found, strict=True) if found else ((), (), ())
    return Rows(np.array(index, dtype=np.int64), np.array(mark, dtype=np.float64), np.array(weight, dtype=np.float64))


def _marks(observations: Observations) -> Iterator[tuple[int, float, float]]:
    for term in observations.terms:
        if term.kind == "rate":
            yield term.rows[0], 1.0 if term.value else -1.0, term.weight
        elif term.kind == "stars":
            yield term.rows[0], (int(term.value) - 3) / 2, term.weight
        elif term.kind in ("pair", "best"):
            yield from ((row, 1.0 if row == term.rows[0] else -1.0, term.weight) for row in term.rows)


def marked_right(mark: Array, score: Array) -> Agreement:
    """Of the marks other than 0, those whose sign the scores have."""
    told = mark != 0
    return Agreement(int((np.sign(mark[told]) == np.sign(score[told])).sum()), int(told.sum()))


@dataclass(frozen=True, eq=False)
class Linear:
    """A utility w.z + c of known weights and unknown uncertainty.

    Attributes
    ----------
    weights : (d,)
        w.
    constant : float
        c.
    train : Agreement
        Agreement with the judgements.
    """

    weights: Array
    constant: float
    train: Agreement

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.weights)

    @property
    def reach(self) -> float:
        """NaN: not known in sigma; 0 where the weights are."""
        return float("nan") if np.linalg.norm(self.weights) > 1e-12 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along the weights."""
        return self.weights / np.linalg.norm(self.weights)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Utility (k,) of latents (k, d), and NaN."""
        values = np.atleast_2d(np.asarray(latents, dtype=np.float64)) @ self.weights + self.constant
        return values, np.full(len(values), np.nan)

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """Logistic function of the utility (k,); not calibrated."""
        return np.asarray(expit(self.score(latents)[0]))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """The weights at unit length, each draw with a draw of the prior, N(0, 1 / d), added."""
        return self.direction() + rng.standard_normal((count, self.dimension)) / math.sqrt(self.dimension)
