"""Base class of the models: status, and replacing the result when a fit has finished."""

from __future__ import annotations

from abc import ABC, abstractmethod

from diptych.prefer.judgement import Observations
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.base import OK, TRAINING, UNTRAINED, Fitted


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
            self._result = self._fit(observations, features) if informative else None
        finally:
            self._fitting = False
        return self.status

    def _reset(self) -> None:
        """Discard the result and everything that speeds up the next fit."""
        self._result = None

    @abstractmethod
    def _fit(self, observations: Observations, features: FeatureSnapshot | None) -> Fitted | str:
        """Fit, or return the reason why that is not possible."""
