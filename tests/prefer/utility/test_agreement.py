"""What guessing gets right, and from when predicted values are trusted."""

from __future__ import annotations

import math

import pytest

from diptych.prefer.judgement import Kind, Term
from diptych.prefer.session.state import FEW, Scores
from diptych.prefer.utility import Agreement
from diptych.prefer.utility.diagnostics.agreement import guessed


def term(kind: Kind, value: int = 0, images: int = 1) -> Term:
    return Term(kind, tuple(range(images)), value, 1.0, 1, 1)


def scores(hits: int, total: int, chance: float) -> Scores:
    spread = math.sqrt(chance * (1 - chance / total))
    left_out = Agreement(hits, total, chance, spread)
    return Scores(left_out, Agreement(total, total), Agreement(0, 0), None, 1.0, total)


@pytest.mark.parametrize(
    ("terms", "hits"),
    [
        ([term("rate", 1)] * 5 + [term("rate", 0)] * 15, 15),
        ([term("pair", images=2)] * 6, 3),
        ([term("best", images=4)] * 8, 2),
        ([term("tie", images=2)] * 6, 2),
        ([term("stars", 5)] * 3 + [term("stars", 1)] * 2 + [term("stars", 3)], 3),
        ([term("skip")] * 4, 0),
        ([term("rate", 1)] * 4 + [term("pair", images=2)] * 2 + [term("skip")], 5),
    ],
)
def test_guessing_gets_the_most_frequent_answer_or_one_of_k(terms: list[Term], hits: float) -> None:
    assert guessed(terms)[0] == pytest.approx(hits)


def test_stars_are_good_or_bad_where_only_that_is_predicted() -> None:
    terms = [term("stars", 5), term("stars", 4), term("stars", 3), term("stars", 1), term("rate", 1)]
    assert guessed(terms, stars=False)[0] == 3


def test_the_spread_of_guesses_is_that_of_independent_trials() -> None:
    assert guessed([term("pair", images=2)] * 100)[1] == pytest.approx(5)
    assert guessed([term("rate", 1)] * 10)[1] == 0


def test_values_are_trusted_after_enough_judgements_that_were_predicted_better_than_by_guessing() -> None:
    assert f"fewer than {FEW}" in scores(FEW - 1, FEW - 1, (FEW - 1) / 2).doubt
    assert "leave-one-out agreement 13 of 20 (chance: 10)" in scores(13, 20, 10).doubt
    assert scores(15, 20, 10).doubt == ""
    assert "not clearly above chance" in scores(18, 20, 18).doubt  # nearly all are bad: to say so predicts nothing
    assert Scores(None, None, Agreement(0, 0), None, math.nan).doubt == ""
    for one in (scores(13, 20, 10), scores(150, 200, 100)):
        assert "(chance: " in str(one)
