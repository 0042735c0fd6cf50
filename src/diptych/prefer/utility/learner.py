"""Base class of the models: status, and replacing the result when a fit has finished."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.base import OK, TRAINING, UNTRAINED, Fitted, expected


class Learner(ABC):
    """A utility model; subclasses implement :meth:`_fit`."""

    name: str

    def __init__(self) -> None:
        self._result: Fitted | str | None = None
        self._fitting = False

    @property
    def fitted(self) -> Fitted | None:
        """The last fit; None unless the status is ``ok``."""
        result = self._result
        return None if result is None or isinstance(result, str) or result.reach == 0 else result

    @property
    def status(self) -> str:
        """``untrained``, ``training`` (during the first fit), ``ok`` or ``unavailable: reason``."""
        result = self._result
        if isinstance(result, str):
            return f"unavailable: {result}"
        if result is None:
            return TRAINING if self._fitting else UNTRAINED
        return OK if result.reach != 0 else UNTRAINED

    def fit(self, observations: Observations, features: FeatureSnapshot | None = None) -> str:
        """Fit to all judgements from scratch; see :meth:`diptych.prefer.utility.Utility.fit`."""
        self._reset()
        return self.add(observations, features)

    def add(self, observations: Observations, features: FeatureSnapshot | None = None) -> str:
        """The same result as :meth:`fit`, faster if the judgements changed little since the last fit."""
        self._fitting = True
        try:
            informative = any(term.kind != "skip" for term in observations.terms)
            self._result = self._checked_fit(observations, features) if informative else None
        finally:
            self._fitting = False
        return self.status

    def _checked_fit(self, observations: Observations, features: FeatureSnapshot | None) -> Fitted | str:
        """A fit, or the reason why there is none: also that the numbers are too large for floating-point arithmetic."""
        try:
            found = self._fit(observations, features)
        except (np.linalg.LinAlgError, FloatingPointError, OverflowError) as error:
            self._reset()
            return f"the fit is not finite ({error}): {most_extreme(observations)}"
        # A fit that is not finite has no reach. (Models without a scale have none either.)
        if not isinstance(found, str) and not abs(found.reach) > 0:
            values = expected(found, observations.latents)
            if not np.isfinite(values).all():
                self._reset()
                return f"the fit is not finite: {most_extreme(observations)}"
        return found

    def _reset(self) -> None:
        """Discard the result and everything that speeds up the next fit."""
        self._result = None

    @abstractmethod
    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> Fitted | str:
        """Fit, or return the reason why that is not possible."""


def most_extreme(observations: Observations) -> str:
    """The judged latent or the judgement that differs most from the others, by length or by weight."""
    lengths = np.linalg.norm(np.asarray(observations.latents, dtype=np.float64), axis=1)
    weights = np.array([term.weight for term in observations.terms], dtype=np.float64)
    row, index = int(np.argmax(_excess(lengths))), int(np.argmax(_excess(weights)))
    if _excess(lengths)[row] >= _excess(weights)[index]:
        name = f" (image {observations.ids[row]})" if observations.ids else ""
        return (
            f"row {row}{name} has a latent of length {lengths[row] / observations.latents.shape[1] ** 0.5:.3g} sqrt(d)"
        )
    term = observations.terms[index]
    rows = " and ".join(map(str, term.rows))
    return f"row {rows} has a judgement (position {term.position}) of weight {weights[index]:.3g}"


def _excess(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many times larger or smaller than the median each value is, as the absolute value of a logarithm."""
    ratio = np.maximum(values, 1e-300) / max(float(np.median(values)), 1e-300)
    return np.nan_to_num(np.abs(np.log(ratio)), nan=np.inf)
