"""Settings as coordinates from 0 to 1: quantiles of numbers, and one-hot categories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.spaces.cube import Flat


class Setting(Protocol):
    """One setting: its number of coordinates, and the mapping between coordinates and values."""

    @property
    def name(self) -> str:
        """Name of the option of ``reconstruct``."""
        ...

    @property
    def width(self) -> int:
        """Number of coordinates."""
        ...

    def value(self, part: NDArray[np.float32]) -> Any:
        """The value at coordinates (width,) from 0 to 1; the default if all are one half."""
        ...

    def part(self, value: Any) -> list[float]:
        """The coordinates of a value: the inverse of :meth:`value`."""
        ...


@dataclass(frozen=True)
class Number:
    """A number between two limits. The coordinate is its quantile, and the default is the median.

    A default that equals a limit occupies half of the space, because no value lies beyond it.

    Attributes
    ----------
    name : str
    low, default, high : float
    log : bool
        Uniform in the logarithm.
    whole : bool
        Rounded to integers.
    """

    name: str
    low: float
    default: float
    high: float
    log: bool = False
    whole: bool = False
    width: int = 1

    def value(self, part: NDArray[np.float32]) -> float | int:
        """The number at a quantile, given as (1,)."""
        quantile = float(part[0])
        # exp(log(x)) is not always exactly x.
        found = {0.0: self.low, 0.5: self.default, 1.0: self.high}.get(quantile)
        if found is None:
            found = float(np.interp(quantile, (0.0, 0.5, 1.0), self._marks()))
            found = min(max(math.exp(found) if self.log else found, self.low), self.high)
        return round(found) if self.whole else found

    def part(self, value: float) -> list[float]:
        """The quantile of a number."""
        if not self.low <= value <= self.high:
            raise InputError(
                "space of settings", f"{self.name} = {value:g} is outside", f"{self.low:g} to {self.high:g}"
            )
        if value == self.default:
            return [0.5]
        return [self._quantile(value)]

    def flat(self, index: int) -> Flat | None:
        """Intervals of a coordinate on which the number is constant; None if there are none."""
        if self.whole:
            values = range(round(self.low), round(self.high) + 1)
            edges = [0.0, *(self._quantile(value + 0.5) for value in values[:-1]), 1.0]
            return Flat(index, tuple(edges[:-1]), tuple(edges[1:]), tuple(self.part(value)[0] for value in values))
        if self.default in (self.low, self.high):
            return Flat(index, (0.5 * (self.default == self.high),), (1 - 0.5 * (self.default == self.low),), (0.5,))
        return None

    def _quantile(self, value: float) -> float:
        return float(np.interp(math.log(value) if self.log else value, self._marks(), (0.0, 0.5, 1.0)))

    def _marks(self) -> list[float]:
        return [math.log(x) if self.log else x for x in (self.low, self.default, self.high)]


@dataclass(frozen=True)
class Choice:
    """One of several values; the first is the default. Each has a coordinate, and the largest coordinate selects."""

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of values."""
        return len(self.values)

    def value(self, part: NDArray[np.float32]) -> str:
        """The value with the largest coordinate; the first of equals."""
        return self.values[int(np.argmax(part))]

    def part(self, value: str) -> list[float]:
        """1 for that value, 0 for the others."""
        if value not in self.values:
            raise InputError(
                "space of settings", f"{self.name} = {value!r} is outside", f"one of {', '.join(self.values)}"
            )
        return [float(value == each) for each in self.values]
