"""One extreme number among many: the others are still learned from, or the fit says which row it is."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from diptych.prefer.judgement import LONGEST, WEIGHTS, Kind, Observations, Term
from diptych.prefer.utility import OK, make_utility
from diptych.prefer.utility.learner import most_extreme

D, N = 64, 30


def judged(seed: int, kind: Kind = "rate") -> tuple[Observations, np.ndarray]:
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((N, D)).astype(np.float32)
    utility = latents @ rng.standard_normal(D)
    rows = {"rate": 1, "stars": 1, "pair": 2, "tie": 2, "best": 4}[kind]
    terms = []
    for index in range(N - rows + 1):
        order = tuple(sorted(range(index, index + rows), key=lambda row: -utility[row]))
        stars = int(np.clip(3 + np.round(utility[index] / D**0.5), 1, 5))
        value = {"rate": int(utility[index] > 0), "stars": stars}.get(kind, 0)
        terms.append(Term(kind, order, value, 1.0, index + 1, index + 1))
    return Observations(latents, np.arange(1, N + 1), terms, tuple(f"i{n}" for n in range(N))), utility


def with_weight(observations: Observations, row: int, weight: float) -> Observations:
    terms = list(observations.terms)
    terms[row] = replace(terms[row], weight=weight)
    return replace(observations, terms=terms)


def with_length(observations: Observations, row: int, factor: float) -> Observations:
    latents = observations.latents.copy()
    latents[row] *= np.float32(factor)
    return replace(observations, latents=latents)


@pytest.mark.parametrize("kind", ["rate", "pair"])
@pytest.mark.parametrize("name", ["contrastive", "logistic"])
def test_learning_goes_on_with_every_number_that_is_let_in(name: str, kind: Kind) -> None:
    observations, utility = judged(0, kind)
    for changed in (
        observations,
        with_weight(observations, 7, WEIGHTS[0]),
        with_weight(observations, 7, WEIGHTS[1]),
        with_length(observations, 7, LONGEST),
        with_length(with_weight(observations, 9, WEIGHTS[1]), 9, 1e-6),
    ):
        model = make_utility(name)
        assert model.fit(changed) == OK
        assert model.fitted is not None
        others = np.delete(np.arange(N), [7, 9])
        score = observations.latents[others] @ model.fitted.direction()
        assert np.corrcoef(score, utility[others])[0, 1] > 0.2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_is_not_finite_names_the_row() -> None:
    observations, _ = judged(1)
    model = make_utility("contrastive")
    assert re.match(
        r"unavailable: the fit is not finite.*: row 5 \(image i5\) has a latent of length \d\.?\d*e\+1[45] ",
        model.fit(with_length(observations, 5, 1e15)),
    )
    assert model.add(observations) == OK, "the model can be used again"
    assert most_extreme(with_weight(observations, 12, 1e300)) == "row 12 has a judgement (position 13) of weight 1e+300"
