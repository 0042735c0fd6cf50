"""What judgements say about utilities: linear predictors of the latents, and the likelihood of what was said given
them.

Every judgement but a choice among three or more is the statement that a logistic variable with mean eta lies between
two limits:

========  ===============  ========================
kind      eta              between
========  ===============  ========================
good      u - b            0 and infinity
bad       u - b            minus infinity and 0
k stars   u - b            (k - 3.5) c, (k - 2.5) c; the outer limits of 1 and 5 are infinite
pair      u_win - u_lose   t and infinity
tie       u_a - u_b        -t and t
========  ===============  ========================

with c the width of a star and t that of a tie. A choice among k is a Plackett-Luce term of k - 1 differences. The
person's threshold is b = a (mean of u over the last latents seen on earlier screens) + a part of its own: people judge
by what they have just seen (Helson, Adaptation-Level Theory, 1964). Of all ways in which the threshold may drift, this
one is caused by what was proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit, log_expit

from diptych.errors import InputError
from diptych.prefer.judgement import Observations

Array = NDArray[np.float64]

RECENT = 16
"""Latents by which the threshold adapts."""

STARS, TIE = 1, 2
"""Marks of the predictors whose limits are widths times a number."""


@dataclass(frozen=True, eq=False)
class Predictors:
    """The predictors of m statements on n latents.

    Attributes
    ----------
    contrast : (m, n) sparse
        1 at the latent that is rated; 1 and -1 at those compared.
    recent : (m, n) sparse
        For ratings, the mean over the last latents seen before, which the threshold follows.
    screen : (m,) int
        Screen whose threshold counts, as a number from 0 in the order of screens; -1 for comparisons, which have none.
    low, high : (m,)
        Limits in units of the width that ``unit`` names.
    unit : (m,) int
        0: the limits are numbers; :data:`STARS`, :data:`TIE`: multiples of that width. Of a pair, the lower limit is a
        multiple of the tie.
    weight : (m,)
        Multiplies the log-likelihood.
    choice : (m,) int
        -1, or the number of the choice among several whose difference this is.
    term : (m,) int
        Place of the judgement in the list.
    """

    contrast: csr_array
    recent: csr_array
    screen: NDArray[np.int64]
    low: Array
    high: Array
    unit: NDArray[np.int64]
    weight: Array
    choice: NDArray[np.int64]
    term: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.screen)

    def uncut(self, count: int, step: int = -1) -> int:
        """``count``, or the next number of statements down (up) from it that cuts no choice in two."""
        while 0 < count < len(self) and self.choice[count] >= 0 and self.choice[count] == self.choice[count - 1]:
            count += step
        return count

    def first(self, count: int) -> Predictors:
        """The predictors of the first ``count`` statements; a choice is never cut in two."""
        count = self.uncut(count, 1)
        rest = (getattr(self, name)[:count] for name in ("screen", "low", "high", "unit", "weight", "choice", "term"))
        return Predictors(self.contrast[:count], self.recent[:count], *rest)

    def common(self, other: Predictors, rows: int) -> int:
        """How many of the leading statements take the same from the same latents, where the first ``rows`` latents are
        the same.
        """
        same = min(len(self), len(other))
        for mine, its in ((self.contrast, other.contrast), (self.recent, other.recent)):
            reach = int(min(mine.indptr[same], its.indptr[same]))
            differs = (
                (mine.indices[:reach] != its.indices[:reach])
                | (mine.data[:reach] != its.data[:reach])
                | (mine.indices[:reach] >= rows)
            )
            first = int(np.flatnonzero(differs)[0]) if differs.any() else reach
            ends = np.flatnonzero(mine.indptr[: same + 1] != its.indptr[: same + 1])
            same = min(
                same,
                int(np.searchsorted(mine.indptr, first, side="right")) - 1,
                int(ends[0]) - 1 if len(ends) else same,
            )
        return same

    def limits(self, star: float, tie: float) -> tuple[Array, Array]:
        """Lower and upper limits (m,) for given widths of a star and of a tie."""
        width = np.array([1.0, star, tie])[self.unit]
        low, high = (
            np.multiply(limit, width, where=np.isfinite(limit), out=limit.copy()) for limit in (self.low, self.high)
        )
        return low, high


def predictors(observations: Observations) -> Predictors:
    """The predictors of all judgements that say something; skips say nothing.

    Raises
    ------
    InputError
        A judgement is of a kind that is not known.
    """
    entries: list[tuple[list[tuple[int, float]], int, float, float, int, float, int, int]] = []
    choices = 0
    for place, term in enumerate(observations.terms):
        weight = float(term.weight)
        if term.kind == "rate":
            limits = (0.0, np.inf) if term.value else (-np.inf, 0.0)
            entries.append(([(term.rows[0], 1.0)], term.screen, *limits, 0, weight, -1, place))
        elif term.kind == "stars":
            given = int(term.value)
            low, high = (given - 3.5 if given > 1 else -np.inf), (given - 2.5 if given < 5 else np.inf)
            entries.append(([(term.rows[0], 1.0)], term.screen, low, high, STARS, weight, -1, place))
        elif term.kind in ("pair", "best") and len(term.rows) == 2:
            entries.append((_difference(term.rows), -1, 1.0, np.inf, TIE, weight, -1, place))
        elif term.kind == "tie":
            entries.append((_difference(term.rows), -1, -1.0, 1.0, TIE, weight, -1, place))
        elif term.kind == "best":
            others = [(term.rows[0], row) for row in term.rows[1:]]
            entries += [(_difference(pair), -1, -np.inf, np.inf, 0, weight, choices, place) for pair in others]
            choices += 1
        elif term.kind != "skip":
            raise InputError(
                f"judgement {place} is of the kind {term.kind!r}; expected rate, stars, pair, best, tie or skip"
            )
    return _assembled(entries, observations)


def _difference(rows: Sequence[int]) -> list[tuple[int, float]]:
    return [(rows[0], 1.0), (rows[1], -1.0)]


def _assembled(entries: list[Any], observations: Observations) -> Predictors:
    count = len(observations.latents)
    contrast = _sparse(
        [[row for row, _ in entry[0]] for entry in entries],
        [[value for _, value in entry[0]] for entry in entries],
        count,
    )
    known = np.asarray(observations.screen)
    before = _recent_rows(known, {entry[1] for entry in entries if entry[1] >= 0})
    seen = [before.get(entry[1], []) for entry in entries]
    recent = _sparse(seen, [[1 / len(rows)] * len(rows) if rows else [] for rows in seen], count)
    columns = list(zip(*(entry[1:] for entry in entries), strict=True)) if entries else [()] * 7
    kinds: tuple[type, ...] = (np.int64, float, float, np.int64, float, np.int64, np.int64)
    parts: list[Any] = [np.asarray(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    screen, *others = parts
    rated = screen >= 0
    screen[rated] = np.unique(screen[rated], return_inverse=True)[1]
    return Predictors(contrast, recent, screen, *others)


def recent_rows(known: NDArray[np.int64], screen: int | None) -> NDArray[np.int64]:
    """The last :data:`RECENT` rows, first seen on the screens ``known`` (n,), that came before this screen (None:
    before the next one).
    """
    rows = np.arange(len(known)) if screen is None else np.flatnonzero(known < screen)
    return rows[-RECENT:]


def _recent_rows(known: NDArray[np.int64], screens: set[int]) -> dict[int, list[int]]:
    """:func:`recent_rows` of many screens at once."""
    order = np.argsort(known, kind="stable")
    numbers = sorted(screens)
    ends = np.searchsorted(known[order], numbers).tolist()
    rows, found, last, done = order.tolist(), {}, list[int](), 0
    for number, end in zip(numbers, ends, strict=True):
        last = sorted(last + rows[done:end])[-RECENT:]
        found[number], done = last, end
    return found


def _sparse(columns: Sequence[Sequence[int]], values: Sequence[Sequence[float]], width: int) -> csr_array:
    """The matrix whose rows have these values at these columns."""
    ends = np.cumsum([0, *map(len, columns)])
    index = np.fromiter(chain.from_iterable(columns), np.int64, ends[-1])
    value = np.fromiter(chain.from_iterable(values), np.float64, ends[-1])
    return csr_array((value, index, ends), shape=(len(columns), width))


BENT = 0.03
"""Root of the curvature from which on it is divided by."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """W = R'R, minus the second derivatives of the log-likelihood: a diagonal, and a rank-one part per choice among
    several.

    W = D - sum_c p_c p_c' / w_c for choices c, so R = (I - sum_c f_c q_c q_c') D^(1/2) with q_c = D^(1/2) 1_c /
    w_c^(1/2).
    """

    root: Array
    choice: NDArray[np.int64]
    vector: Array
    factor: Array

    def times(self, values: Array, transpose: bool = False) -> Array:
        """R v, or R'v, for (m,) or (m, k)."""
        column = (slice(None),) + (None,) * (values.ndim - 1)
        given = values if transpose else self.root[column] * values
        if len(self.factor):
            inside = self.choice >= 0
            sums = np.zeros((len(self.factor), *values.shape[1:]))
            np.add.at(sums, self.choice[inside], self.vector[inside][column] * given[inside])
            given = given.copy()
            given[inside] -= self.vector[inside][column] * (self.factor[column] * sums)[self.choice[inside]]
        return self.root[column] * given if transpose else given

    def under(self, values: Array) -> Array:
        """The v (m,) with R'v = values, of statements that bend enough and are no choices among several; 0 of the
        others.
        """
        whole = (self.root > BENT) & (self.choice < 0)
        return np.where(whole, values / np.where(whole, self.root, 1.0), 0.0)


def log_likelihood(eta: Array, given: Predictors, low: Array, high: Array) -> float:
    """Weighted log-likelihood of the statements at predictors eta (m,)."""
    single = given.choice < 0
    a, b = high[single] - eta[single], low[single] - eta[single]
    total = float(given.weight[single] @ (log_expit(a) + log_expit(-b) + np.log1p(-np.exp(b - a))))
    return total if single.all() else total + log_likelihood_of_choices(eta, given)


def log_likelihood_of_choices(eta: Array, given: Predictors) -> float:
    """The part of the choices among three or more."""
    return -float((_each(given) * np.log1p(_odds(eta, given))).sum())


def derivatives(eta: Array, given: Predictors, low: Array, high: Array) -> tuple[Array, Curvature]:
    """Gradient (m,) of the log-likelihood, and its curvature, at predictors eta (m,)."""
    above, below = expit(high - eta), expit(low - eta)
    slope = above + below - 1
    bend = above * (1 - above) + below * (1 - below)
    count = int(given.choice.max(initial=-1)) + 1
    vector, factor = np.zeros_like(eta), np.zeros(count)
    if count:
        inside = given.choice >= 0
        part = np.exp(-eta[inside]) / (1 + _odds(eta, given))[given.choice[inside]]
        slope[inside] = bend[inside] = part
        vector[inside] = np.sqrt(part)
        total = np.bincount(given.choice[inside], part, count)
        factor = (1 - np.sqrt(np.maximum(1 - total, 0.0))) / np.maximum(total, 1e-300)
    return given.weight * slope, Curvature(np.sqrt(given.weight * bend), given.choice, vector, factor)


def _odds(eta: Array, given: Predictors) -> Array:
    """Sum of exp(-eta) over the differences of each choice among several."""
    inside = given.choice >= 0
    return np.asarray(
        np.bincount(given.choice[inside], np.exp(-eta[inside]), int(given.choice.max()) + 1), dtype=np.float64
    )


def _each(given: Predictors) -> Array:
    """The weight of each choice among several."""
    inside = given.choice >= 0
    weights = np.zeros(int(given.choice.max()) + 1)
    weights[given.choice[inside]] = given.weight[inside]
    return weights
