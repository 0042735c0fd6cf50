"""Likelihood of the judgements given the utilities.

Every judgement except a choice among three or more is an observation that a logistic variable with mean eta lies
between two limits:

========  ===============  ========================
kind      eta              limits
========  ===============  ========================
good      u - b            0, infinity
bad       u - b            minus infinity, 0
k stars   u - b            (k - 3.5) c, (k - 2.5) c; the outer limits of 1 and 5 are infinite
pair      u_win - u_lose   t, infinity
tie       u_a - u_b        -t, t
========  ===============  ========================

with c the width of a star and t that of a tie. A choice among k images is a Plackett-Luce term of k - 1 differences.
The threshold b of a screen is a fraction a of the mean utility of the last images seen on earlier screens plus a part
that drifts at random: people judge relative to what they have just seen (Helson, Adaptation-Level Theory, 1964).
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
"""Number of latents to which the threshold adapts."""

STARS, TIE = 1, 2
"""Codes of observations whose limits are multiples of the width of a star, or of a tie."""


@dataclass(frozen=True, eq=False)
class Design:
    """Design matrix, limits and weights of m observations on n latents.

    Attributes
    ----------
    contrast : (m, n) sparse
        1 at the rated latent; 1 and -1 at those compared.
    recent : (m, n) sparse
        For ratings, the mean over the last latents seen before, to which the threshold adapts.
    screen : (m,) int
        Index, from 0, of the screen whose threshold applies; -1 for comparisons, which have none.
    low, high : (m,)
        Limits, in the unit that ``unit`` names.
    unit : (m,) int
        0: logits; :data:`STARS`, :data:`TIE`: multiples of that width. The lower limit of a pair is one tie.
    weight : (m,)
        Factor of the log-likelihood.
    choice : (m,) int
        Index of the choice among several that this difference belongs to; -1 if none.
    term : (m,) int
        Index of the judgement.
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
        """``count``, or the next smaller (``step`` 1: larger) number of observations that does not split a choice."""
        while 0 < count < len(self) and self.choice[count] >= 0 and self.choice[count] == self.choice[count - 1]:
            count += step
        return count

    def first(self, count: int) -> Design:
        """The first ``count`` observations, extended so that no choice is split."""
        count = self.uncut(count, 1)
        rest = (getattr(self, name)[:count] for name in ("screen", "low", "high", "unit", "weight", "choice", "term"))
        return Design(self.contrast[:count], self.recent[:count], *rest)

    def common(self, other: Design, rows: int) -> int:
        """Number of leading observations that have the same rows of the design matrix, if the first ``rows`` latents
        are the same.
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

    def limits(self, star_width: float, tie_width: float) -> tuple[Array, Array]:
        """Lower and upper limits (m,), logits, for the widths of a star and of a tie."""
        width = np.array([1.0, star_width, tie_width])[self.unit]
        low, high = (
            np.multiply(limit, width, where=np.isfinite(limit), out=limit.copy()) for limit in (self.low, self.high)
        )
        return low, high


def build_design(observations: Observations) -> Design:
    """The observations of all judgements; skips contribute none.

    Raises
    ------
    InputError
        If a judgement is of an unknown kind.
    """
    entries: list[tuple[list[tuple[int, float]], int, float, float, int, float, int, int]] = []
    choices = 0
    for index, term in enumerate(observations.terms):
        weight = float(term.weight)
        if term.kind == "rate":
            limits = (0.0, np.inf) if term.value else (-np.inf, 0.0)
            entries.append(([(term.rows[0], 1.0)], term.screen, *limits, 0, weight, -1, index))
        elif term.kind == "stars":
            stars = int(term.value)
            low, high = (stars - 3.5 if stars > 1 else -np.inf), (stars - 2.5 if stars < 5 else np.inf)
            entries.append(([(term.rows[0], 1.0)], term.screen, low, high, STARS, weight, -1, index))
        elif term.kind in ("pair", "best") and len(term.rows) == 2:
            entries.append((_difference(term.rows), -1, 1.0, np.inf, TIE, weight, -1, index))
        elif term.kind == "tie":
            entries.append((_difference(term.rows), -1, -1.0, 1.0, TIE, weight, -1, index))
        elif term.kind == "best":
            others = [(term.rows[0], row) for row in term.rows[1:]]
            entries += [(_difference(pair), -1, -np.inf, np.inf, 0, weight, choices, index) for pair in others]
            choices += 1
        elif term.kind != "skip":
            raise InputError(
                f"judgement {index}", f"has the kind {term.kind!r}", "rate, stars, pair, best, tie or skip"
            )
    return _assembled(entries, observations)


def _difference(rows: Sequence[int]) -> list[tuple[int, float]]:
    return [(rows[0], 1.0), (rows[1], -1.0)]


def _assembled(entries: list[Any], observations: Observations) -> Design:
    count = len(observations.latents)
    contrast = _sparse(
        [[row for row, _ in entry[0]] for entry in entries],
        [[value for _, value in entry[0]] for entry in entries],
        count,
    )
    known = np.asarray(observations.screen)
    before = _recent_rows_of(known, {entry[1] for entry in entries if entry[1] >= 0})
    seen = [before.get(entry[1], []) for entry in entries]
    recent = _sparse(seen, [[1 / len(rows)] * len(rows) if rows else [] for rows in seen], count)
    columns = list(zip(*(entry[1:] for entry in entries), strict=True)) if entries else [()] * 7
    kinds: tuple[type, ...] = (np.int64, float, float, np.int64, float, np.int64, np.int64)
    parts: list[Any] = [np.asarray(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    screen, *others = parts
    rated = screen >= 0
    screen[rated] = np.unique(screen[rated], return_inverse=True)[1]
    return Design(contrast, recent, screen, *others)


def recent_rows(known: NDArray[np.int64], screen: int | None) -> NDArray[np.int64]:
    """The last :data:`RECENT` latents that were first shown, on the screens ``known`` (n,), before a screen (None:
    before the next one).
    """
    rows = np.arange(len(known)) if screen is None else np.flatnonzero(known < screen)
    return rows[-RECENT:]


def _recent_rows_of(known: NDArray[np.int64], screens: set[int]) -> dict[int, list[int]]:
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
    """Sparse matrix with given columns and values per row."""
    ends = np.cumsum([0, *map(len, columns)])
    index = np.fromiter(chain.from_iterable(columns), np.int64, ends[-1])
    value = np.fromiter(chain.from_iterable(values), np.float64, ends[-1])
    return csr_array((value, index, ends), shape=(len(columns), width))


MIN_ROOT = 0.03
"""Smallest root of the curvature that is divided by."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """W = R'R, the negative Hessian of the log-likelihood: a diagonal, and a rank-one part per choice among several.

    W = D - sum_c p_c p_c' / w_c for choices c, so R = (I - sum_c f_c q_c q_c') D^(1/2) with q_c = D^(1/2) 1_c /
    w_c^(1/2).

    Attributes
    ----------
    root : (m,)
        D^(1/2).
    choice : (m,) int
        As in :class:`Design`.
    vector : (m,)
        Entries of the q_c.
    factor : (c,)
        f_c.
    """

    root: Array
    choice: NDArray[np.int64]
    vector: Array
    factor: Array

    def times(self, values: Array, transpose: bool = False) -> Array:
        """R v, or R'v, with (m,) or (m, k)."""
        column = (slice(None),) + (None,) * (values.ndim - 1)
        product = values if transpose else self.root[column] * values
        if len(self.factor):
            inside = self.choice >= 0
            sums = np.zeros((len(self.factor), *values.shape[1:]))
            np.add.at(sums, self.choice[inside], self.vector[inside][column] * product[inside])
            product = product.copy()
            product[inside] -= self.vector[inside][column] * (self.factor[column] * sums)[self.choice[inside]]
        return self.root[column] * product if transpose else product

    def solve_transposed(self, values: Array) -> Array:
        """Solution v (m,) of R'v = values for observations with enough curvature that are not choices; 0 for the
        others.
        """
        whole = (self.root > MIN_ROOT) & (self.choice < 0)
        return np.where(whole, values / np.where(whole, self.root, 1.0), 0.0)


def log_likelihood(eta: Array, design: Design, low: Array, high: Array) -> float:
    """Weighted log-likelihood of the observations at predictors eta (m,)."""
    single = design.choice < 0
    a, b = high[single] - eta[single], low[single] - eta[single]
    total = float(design.weight[single] @ (log_expit(a) + log_expit(-b) + np.log1p(-np.exp(b - a))))
    return total if single.all() else total + choice_log_likelihood(eta, design)


def choice_log_likelihood(eta: Array, design: Design) -> float:
    """The contribution of choices among three or more (Plackett-Luce)."""
    return -float((_choice_weights(design) * np.log1p(_odds(eta, design))).sum())


def derivatives(eta: Array, design: Design, low: Array, high: Array) -> tuple[Array, Curvature]:
    """Gradient (m,) of the log-likelihood and its curvature at predictors eta (m,)."""
    above, below = expit(high - eta), expit(low - eta)
    gradient = above + below - 1
    curvature = above * (1 - above) + below * (1 - below)
    count = int(design.choice.max(initial=-1)) + 1
    vector, factor = np.zeros_like(eta), np.zeros(count)
    if count:
        inside = design.choice >= 0
        part = np.exp(-eta[inside]) / (1 + _odds(eta, design))[design.choice[inside]]
        gradient[inside] = curvature[inside] = part
        vector[inside] = np.sqrt(part)
        total = np.bincount(design.choice[inside], part, count)
        factor = (1 - np.sqrt(np.maximum(1 - total, 0.0))) / np.maximum(total, 1e-300)
    return design.weight * gradient, Curvature(np.sqrt(design.weight * curvature), design.choice, vector, factor)


def _odds(eta: Array, design: Design) -> Array:
    """Sum of exp(-eta) over the differences of each choice."""
    inside = design.choice >= 0
    return np.asarray(
        np.bincount(design.choice[inside], np.exp(-eta[inside]), int(design.choice.max()) + 1), dtype=np.float64
    )


def _choice_weights(design: Design) -> Array:
    """Weight of each choice."""
    inside = design.choice >= 0
    weights = np.zeros(int(design.choice.max()) + 1)
    weights[design.choice[inside]] = design.weight[inside]
    return weights
