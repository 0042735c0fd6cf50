"""Sum of kernels of the cosine with judged latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.cube import Cube
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.baselines.kernels import KernelSum
from diptych.prefer.utility.baselines.marks import marks
from diptych.prefer.utility.learner import Learner
from diptych.prefer.utility.registry import UtilityModel
from diptych.runtime.registry import NoOptions

SHARPNESS = 5.0
"""Factor of the cosine inside the logistic function."""


class Cosine(Learner):
    """Sum of mark x logistic(5 cosine)."""

    name = "cosine"

    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> KernelSum | str:
        rows = marks(observations)
        if not len(rows.index):
            return "ties alone do not determine similarity to liked images; rate an image or choose between two"
        return KernelSum(observations.latents, rows, _kernel, _slope)


def _kernel(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(expit(SHARPNESS * cosine))


def _slope(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    return SHARPNESS * _kernel(cosine) * (1 - _kernel(cosine))


def _build(options: NoOptions, cube: Cube) -> Cosine:
    return Cosine()


MODEL = UtilityModel("cosine", "Sum of cosine similarities to judged images", NoOptions, space="sphere", build=_build)
