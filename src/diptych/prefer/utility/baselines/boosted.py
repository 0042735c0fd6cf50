"""Boosted trees (xgboost) on the leading principal coordinates of the judged latents: on 16,384 raw ones a fit takes
half a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.utility import Agreement
from diptych.prefer.utility.gp.gram import Gram, cross, spread
from diptych.prefer.utility.learner import Learner, marked_right, marks

Array = NDArray[np.float64]

COORDINATES = 32


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees over coordinates ``basis`` (n, k), whose columns combine the judged latents (n, d)."""

    booster: Any
    latents: NDArray[np.float32]
    basis: Array
    train: Agreement

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.latents.shape[1])

    @property
    def reach(self) -> float:
        """NaN: not known in sigma; 0 where the trees tell nothing apart."""
        return float("nan") if np.linalg.norm(self._slope) > 1e-12 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) of the plane that fits the trees' output best over the judged latents: trees have no
        gradient.
        """
        return self._slope / np.linalg.norm(self._slope)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Log-odds of good (k,) of latents (k, d), and NaN."""
        values = self._margin(cross(np.atleast_2d(np.asarray(latents, dtype=np.float64)), self.latents) @ self.basis)
        return values, np.full(len(values), np.nan)

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) according to the trees."""
        return np.asarray(expit(self.score(latents)[0]))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """The direction, each draw with a draw of the prior, N(0, 1 / d), added."""
        return self.direction() + rng.standard_normal((count, self.dimension)) / math.sqrt(self.dimension)

    @cached_property
    def _slope(self) -> Array:
        places = cross(self.latents, self.latents) @ self.basis
        margin = self._margin(places)
        plane = np.linalg.lstsq(places, margin - margin.mean(), rcond=None)[0]
        return np.asarray(spread((self.basis @ plane)[None], self.latents)[0])

    def _margin(self, places: Array) -> Array:
        xgboost = import_module("xgboost")
        return np.asarray(
            self.booster.predict(xgboost.DMatrix(places.astype(np.float32)), output_margin=True), dtype=np.float64
        )


class Boosted(Learner):
    """Trees on marks; both good and bad ones are needed.

    Parameters
    ----------
    trees, depth : int
        How many, and how deep.
    """

    name = "xgboost"

    def __init__(self, trees: int = 50, depth: int = 3) -> None:
        super().__init__()
        self.trees, self.depth = trees, depth
        self._gram = Gram()

    def _forget(self) -> None:
        super()._forget()
        self._gram = Gram()

    def _learn(self, observations: Observations) -> Trees | str:
        try:
            xgboost = import_module("xgboost")
        except ImportError:
            return "xgboost is not installed; install diptych[prefer]"
        rows = marks(observations)
        used = rows.mark != 0
        if len(np.unique(rows.mark[used] > 0)) < 2:
            return "trees need good and bad judgements; so far all are of one kind"
        self._gram.update(observations.latents)
        basis = _principal(self._gram.dense())
        places = (self._gram.dense() @ basis)[rows.index[used]]
        data = xgboost.DMatrix(
            places.astype(np.float32), label=(rows.mark[used] > 0).astype(float), weight=rows.weight[used]
        )
        settings = {
            "objective": "binary:logistic",
            "max_depth": self.depth,
            "eta": 0.1,
            "subsample": 0.9,
            "colsample_bytree": 0.9,
        }
        booster = xgboost.train(
            {**settings, "lambda": 1e-3, "nthread": 1, "seed": 0, "verbosity": 0}, data, num_boost_round=self.trees
        )
        agreement = marked_right(
            rows.mark[used], np.asarray(booster.predict(data, output_margin=True), dtype=np.float64)
        )
        return Trees(booster, observations.latents, basis, agreement)


def _principal(gram: Array) -> Array:
    """Combinations (n, k) of the latents whose products with a latent are its leading principal coordinates, of spread
    1.
    """
    count = min(len(gram), COORDINATES)
    values, vectors = eigh(gram, subset_by_index=[len(gram) - count, len(gram) - 1])
    keep = values > 1e-9 * values.max()
    return np.asarray(vectors[:, keep] / values[keep] * math.sqrt(len(gram)))
