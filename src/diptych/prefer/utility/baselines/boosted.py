"""Boosted trees (xgboost) on the leading principal coordinates of the judged latents.

On 16,384 raw coordinates a fit takes half a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.linalg import eigh
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.base import Agreement
from diptych.prefer.utility.baselines.linear import noisy
from diptych.prefer.utility.baselines.marks import marks, sign_agreement
from diptych.prefer.utility.gp.gram import Gram, cross, spread
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.options import Options

Array = NDArray[np.float64]

COORDINATES = 32
"""Number of principal coordinates."""


LAMBDA = 1e-3
"""Penalty of the leaves' values."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees over principal coordinates.

    Attributes
    ----------
    booster : xgboost.Booster
    latents : (n, d) float32
        Judged latents X.
    basis : (n, k)
        The coordinates of a latent z are z X' / d times this.
    train : Agreement
        Agreement with the marks that it was fitted to.
    lam : float
        Penalty of the leaves' values.
    """

    booster: Any
    latents: NDArray[np.float32]
    basis: Array
    train: Agreement
    lam: float = LAMBDA

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        return int(self.latents.shape[1])

    @property
    def reach(self) -> float:
        """NaN, because the scale is unknown; 0 if the output is constant."""
        return float("nan") if np.linalg.norm(self._slope) > 1e-12 else 0.0

    def direction(self) -> Array:
        """Unit vector (d,) along the linear least-squares fit of the output over the judged latents: trees have no
        gradient.
        """
        return self._slope / np.linalg.norm(self._slope)

    def score(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Log-odds of good (k,) for latents (k, d), and NaN."""
        values = self._margin(cross(np.atleast_2d(np.asarray(latents, dtype=np.float64)), self.latents) @ self.basis)
        return values, np.full(len(values), np.nan)

    def predict(self, latents: ArrayLike, screen: int | None = None) -> Array:
        """P(good) (k,) according to the trees."""
        return np.asarray(expit(self.score(latents)[0]))

    def sample(self, rng: np.random.Generator, count: int = 1) -> Array:
        """The direction plus noise N(0, 1 / d), (count, d)."""
        return noisy(self.direction(), rng, count)

    @cached_property
    def _slope(self) -> Array:
        coordinates = cross(self.latents, self.latents) @ self.basis
        margin = self._margin(coordinates)
        plane = np.linalg.lstsq(coordinates, margin - margin.mean(), rcond=None)[0]
        return np.asarray(spread((self.basis @ plane)[None], self.latents)[0])

    def _margin(self, coordinates: Array) -> Array:
        xgboost = import_module("xgboost")
        return np.asarray(
            self.booster.predict(xgboost.DMatrix(coordinates.astype(np.float32)), output_margin=True), dtype=np.float64
        )


class BoostedOptions(Options):
    """Options of boosted trees."""

    trees: int = Field(50, ge=1, description="Number of trees")
    depth: int = Field(3, ge=1, description="Depth of a tree")


class Boosted(Learner):
    """Boosted trees on marks; good and bad marks are both required."""

    name = "xgboost"

    def __init__(self, options: BoostedOptions | None = None) -> None:
        super().__init__()
        self.options = options or BoostedOptions()
        self._gram = Gram()

    def _reset(self) -> None:
        super()._reset()
        self._gram = Gram()

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> Trees | str:
        try:
            xgboost = import_module("xgboost")
        except ImportError:
            return "xgboost is not installed; install diptych[prefer]"
        rows = marks(observations)
        used = rows.mark != 0
        if len(np.unique(rows.mark[used] > 0)) < 2:
            return "trees need good and bad judgements, but all are of one kind so far"
        self._gram.update(observations.latents)
        basis = _principal(self._gram.dense())
        coordinates = (self._gram.dense() @ basis)[rows.index[used]]
        data = xgboost.DMatrix(
            coordinates.astype(np.float32), label=(rows.mark[used] > 0).astype(float), weight=rows.weight[used]
        )
        settings = {
            "objective": "binary:logistic",
            "max_depth": self.options.depth,
            "eta": 0.1,
            "subsample": 0.9,
            "colsample_bytree": 0.9,
        }
        booster = xgboost.train(
            {**settings, "lambda": LAMBDA, "nthread": 1, "seed": 0, "verbosity": 0},
            data,
            num_boost_round=self.options.trees,
        )
        agreement = sign_agreement(
            rows.mark[used], np.asarray(booster.predict(data, output_margin=True), dtype=np.float64)
        )
        return Trees(booster, observations.latents, basis, agreement)


def _principal(gram: Array) -> Array:
    """Combinations (n, k) of the latents whose products with a latent are its leading principal coordinates, scaled to
    unit variance.
    """
    count = min(len(gram), COORDINATES)
    values, vectors = eigh(gram, subset_by_index=[len(gram) - count, len(gram) - 1])
    keep = values > 1e-9 * values.max()
    return np.asarray(vectors[:, keep] / values[keep] * math.sqrt(len(gram)))


def _build(options: BoostedOptions, cube: Cube) -> Boosted:
    return Boosted(options)


MODEL = UtilityModel("xgboost", "Boosted trees on principal coordinates", BoostedOptions, space="sphere", build=_build)
