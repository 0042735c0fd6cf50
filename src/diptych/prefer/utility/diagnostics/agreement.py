"""How many judgements a fit predicts correctly, and how consistent a person is."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Observations, Term
from diptych.prefer.utility.base import Agreement
from diptych.prefer.utility.inference.laplace import GaussianApproximation
from diptych.prefer.utility.inference.observations import Design

Array = NDArray[np.float64]


def train_agreement(eta: Array, design: Design, low: Array, high: Array) -> Agreement:
    """Agreement of the predictors eta (m,) with the judgements, given the limits (m,) of the observations."""
    return _count(_hits(eta, low, high, design), design)


def loo_agreement(approximation: GaussianApproximation, design: Design, low: Array, high: Array) -> Agreement:
    """Agreement with each judgement when it is left out of the fit.

    With M = (K + W^-1)^-1 and I the predictors of one judgement, the leave-one-out mean of eta_I is

        eta_I - (M_II^-1 - W_II^-1) alpha_I,

    the mean of the cavity distribution (Rasmussen and Williams, 2006, sections 3.6 and 5.4.2).

    Parameters
    ----------
    approximation : GaussianApproximation
        Posterior of the predictors; B must have been factorized or be solvable.
    design : Design
    low, high : (m,)
        Limits of the observations, logits.
    """
    sites = approximation.curvature.times(approximation.curvature.times(np.eye(len(design))), transpose=True)
    inner = approximation.whitened(np.eye(len(design)))
    without = approximation.eta.copy()
    for block in _blocks(design):
        block_index, alpha = np.ix_(block, block), approximation.alpha[block]
        floor = 1e-9 * np.eye(len(block))
        without[block] += np.linalg.solve(sites[block_index] + floor, alpha) - np.linalg.solve(
            inner[block_index] + floor, alpha
        )
    return _count(_hits(without, low, high, design), design)


def guessed(terms: Iterable[Term], *, stars: bool = True) -> tuple[float, float]:
    """Mean and standard deviation of the number of judgements that guessing gets right.

    Ratings are guessed to be what most of them are, of pairs one of 2 is right, of choices among k one of k, and of
    ties one of 3: one image or the other is better, or neither. Skips are not guessed.

    Parameters
    ----------
    terms : iterable of Term
    stars : bool
        Guess the number of stars. Otherwise only whether it is above three, as for a rating; three stars are left out.
    """
    ratings, given, shares = Counter[bool](), Counter[int](), list[float]()
    for term in terms:
        if term.kind == "rate":
            ratings[bool(term.value)] += 1
        elif term.kind == "stars" and stars:
            given[term.value] += 1
        elif term.kind == "stars" and term.value != 3:
            ratings[term.value > 3] += 1
        elif term.kind in ("pair", "tie", "best"):
            shares.append(1 / (3 if term.kind == "tie" else len(term.rows)))
    for counts in (ratings, given):
        shares += [max(counts.values(), default=0) / counts.total()] * counts.total() if counts else []
    return sum(shares), math.sqrt(sum(share * (1 - share) for share in shares))


def self_agreement(observations: Observations) -> Agreement:
    """How often the person gave the same answer when an image was rated again: each rating against the previous one."""
    before: dict[int, bool] = {}
    same = total = 0
    for term in observations.terms:
        if term.kind in ("rate", "stars"):
            good = bool(term.value) if term.kind == "rate" else term.value > 3
            if term.rows[0] in before:
                same, total = same + (before[term.rows[0]] == good), total + 1
            before[term.rows[0]] = good
    return Agreement(same, total)


def _hits(eta: Array, low: Array, high: Array, design: Design) -> NDArray[np.bool_]:
    # A pair counts as predicted if the winner has the higher utility, whatever the width of a tie.
    low = np.where(np.isfinite(low) & np.isinf(high) & (design.screen < 0), 0.0, low)
    low = np.where(design.choice >= 0, 0.0, low)
    return (eta > low) & (eta < high)


def _count(hits: NDArray[np.bool_], design: Design) -> Agreement:
    blocks = list(_blocks(design))
    return Agreement(sum(bool(hits[block].all()) for block in blocks), len(blocks))


def _blocks(design: Design) -> Iterable[list[int]]:
    """Indices of the predictors of each judgement."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, term in enumerate(design.term):
        found[int(term)].append(index)
    return found.values()
