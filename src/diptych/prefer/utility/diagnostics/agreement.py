"""How far a fit, and a person, agree with what the person said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.utility import Agreement
from diptych.prefer.utility.inference.laplace import Mode
from diptych.prefer.utility.inference.observations import Predictors

Array = NDArray[np.float64]


def train_agreement(eta: Array, given: Predictors, low: Array, high: Array) -> Agreement:
    """Of the judgements, those that the predictors eta (m,) would have made."""
    return _counted(_hits(eta, low, high, given), given)


def leave_one_out(mode: Mode, given: Predictors, low: Array, high: Array) -> Agreement:
    """The same, with each judgement's predictors as they would be without it.

    With M = (K + W^-1)^-1 and I the predictors of one judgement, these are eta_I - (M_II^-1 - W_II^-1) alpha_I: the
    cavity of its site (Rasmussen and Williams, sections 3.6 and 5.4).
    """
    sites = mode.curvature.times(mode.curvature.times(np.eye(len(given))), transpose=True)
    inner = mode.whitened(np.eye(len(given)))
    without = mode.eta.copy()
    for block in _blocks(given):
        place, alpha = np.ix_(block, block), mode.alpha[block]
        floor = 1e-9 * np.eye(len(block))
        without[block] += np.linalg.solve(sites[place] + floor, alpha) - np.linalg.solve(inner[place] + floor, alpha)
    return _counted(_hits(without, low, high, given), given)


def self_agreement(observations: Observations) -> Agreement:
    """How often the person said the same when a picture was rated again: each rating against the one before it."""
    before: dict[int, bool] = {}
    same = total = 0
    for term in observations.terms:
        if term.kind in ("rate", "stars"):
            good = bool(term.value) if term.kind == "rate" else term.value > 3
            if term.rows[0] in before:
                same, total = same + (before[term.rows[0]] == good), total + 1
            before[term.rows[0]] = good
    return Agreement(same, total)


def _hits(eta: Array, low: Array, high: Array, given: Predictors) -> NDArray[np.bool_]:
    # A pair counts as foreseen when the winner is ahead at all, by however little.
    low = np.where(np.isfinite(low) & np.isinf(high) & (given.screen < 0), 0.0, low)
    low = np.where(given.choice >= 0, 0.0, low)
    return (eta > low) & (eta < high)


def _counted(hits: NDArray[np.bool_], given: Predictors) -> Agreement:
    blocks = list(_blocks(given))
    return Agreement(sum(bool(hits[block].all()) for block in blocks), len(blocks))


def _blocks(given: Predictors) -> Iterable[list[int]]:
    """The predictors of each judgement."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, term in enumerate(given.term):
        found[int(term)].append(index)
    return found.values()
