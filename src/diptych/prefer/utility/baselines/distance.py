"""Sum of kernels of the distance to judged latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.baselines.kernels import KernelSum
from diptych.prefer.utility.baselines.marks import marks
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.options import Options

Array = NDArray[np.float64]


class DistanceOptions(Options):
    """Options of the distance model."""

    exponent: float = Field(2.0, gt=0, description="Exponent p of exp(-(distance / s)^p)")


class Distance(Learner):
    """Sum of mark x exp(-(distance / s)^p), with s the median distance between judged latents.

    Random latents are all about sqrt(2 d) apart, so a fixed s would not do.
    """

    name = "distance"

    def __init__(self, options: DistanceOptions | None = None) -> None:
        super().__init__()
        self.options = options or DistanceOptions()
        self._gram = Gram()

    def _reset(self) -> None:
        super()._reset()
        self._gram = Gram()

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> KernelSum | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone do not determine distances to liked images; rate an image or choose between two"
        self._gram.update(observations.latents)
        inner = self._gram.dense()
        norm = np.sqrt(np.diag(inner))
        squared = np.maximum(2 - 2 * inner / np.outer(norm, norm), 0.0)
        upper = squared[np.triu_indices(len(squared), 1)]
        # Squared distances in units of d; 2 is that between random latents, for when there is only one.
        usual = float(np.median(upper)) if len(upper) else 2.0
        power = self.options.exponent / 2

        def kernel(cosine: Array) -> Array:
            return np.exp(-((np.maximum(2 - 2 * cosine, 1e-9) / usual) ** power))

        def slope(cosine: Array) -> Array:
            ratio = np.maximum(2 - 2 * cosine, 1e-9) / usual
            return np.exp(-(ratio**power)) * power * ratio ** (power - 1) * 2 / usual

        return KernelSum(observations.latents, rows, kernel, slope)


def _build(options: DistanceOptions, cube: Cube) -> Distance:
    return Distance(options)


MODEL = UtilityModel(
    "distance", "Sum of kernels of the distance to judged images", DistanceOptions, space="sphere", build=_build
)
