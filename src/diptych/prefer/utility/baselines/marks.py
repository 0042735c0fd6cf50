"""Judgements as signed marks of single latents, for models without a likelihood of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.utility.base import Agreement

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks of latents: +1 for good, the winner or the best; -1 for bad and the others; 1 to 5 stars from -1 to 1. A
    tie gives none.

    Attributes
    ----------
    index : (k,) int
        Row of the latent.
    mark, weight : (k,) float64
    """

    index: NDArray[np.int64]
    mark: Array
    weight: Array


def marks(observations: Observations) -> Marks:
    """All marks in the order of the judgements; a latent that was judged twice has two."""
    found = list(_marks(observations))
    index, mark, weight = zip(*found, strict=True) if found else ((), (), ())
    return Marks(np.array(index, dtype=np.int64), np.array(mark, dtype=np.float64), np.array(weight, dtype=np.float64))


def _marks(observations: Observations) -> Iterator[tuple[int, float, float]]:
    for term in observations.terms:
        if term.kind == "rate":
            yield term.rows[0], 1.0 if term.value else -1.0, term.weight
        elif term.kind == "stars":
            yield term.rows[0], (int(term.value) - 3) / 2, term.weight
        elif term.kind in ("pair", "best"):
            yield from ((row, 1.0 if row == term.rows[0] else -1.0, term.weight) for row in term.rows)


def sign_agreement(mark: Array, score: Array) -> Agreement:
    """Agreement of the signs of scores (k,) with those of marks (k,) other than 0."""
    used = mark != 0
    return Agreement(int((np.sign(mark[used]) == np.sign(score[used])).sum()), int(used.sum()))
