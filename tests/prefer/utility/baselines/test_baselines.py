"""The other utility models, the protocol, and cross-validation."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer import utility
from diptych.prefer.utility import UTILITIES, Fitted, Utility, make_utility
from diptych.prefer.utility.baselines.boosted import Boosted
from diptych.prefer.utility.baselines.distance import Distance, DistanceOptions
from diptych.prefer.utility.diagnostics.cross_validation import cross_validate

INSTALLED = [name for name in UTILITIES.names() if name != "xgboost"]


@pytest.mark.parametrize("name", UTILITIES.names())
def test_every_model_meets_the_protocol(name):
    assert isinstance(make_utility(name), Utility)
    assert make_utility(name).name == name


def test_unknown_model_is_named():
    with pytest.raises(InputError, match=r"'oracle'.*contrastive"):
        make_utility("oracle")


def side(name: str, usual: int) -> int:
    """Numbers of a latent: a model of settings has a length for each, and there are few settings."""
    return 6 if name == "surface" else usual


@pytest.mark.parametrize("name", INSTALLED)
def test_every_model_finds_a_linear_taste(people, name):
    d = side(name, 256)
    seen, w = people.rated(150, d=d)
    model = make_utility(name)
    assert model.fitted is None
    assert model.fit(seen) == "ok"
    assert model.fitted.direction() @ w > 0.4
    assert np.linalg.norm(model.fitted.direction()) == pytest.approx(1)
    fresh = np.random.default_rng(9).standard_normal((400, d))
    assert np.corrcoef(model.fitted.score(fresh)[0], fresh @ w)[0, 1] > 0.3
    fitted: Fitted = model.fitted
    assert fitted.dimension == d
    assert fitted.train.total > 0
    assert np.all((fitted.predict(fresh) >= 0) & (fitted.predict(fresh) <= 1))


@pytest.mark.parametrize("name", INSTALLED)
def test_growing_gives_the_same_as_fitting(people, name):
    seen, _ = people.rated(40, d=side(name, 128))
    grown, fresh = make_utility(name), make_utility(name)
    for count in (5, 20, 40, 30, 40):
        grown.add(people.first(seen, count))
    fresh.fit(seen)
    assert np.allclose(grown.fitted.direction(), fresh.fitted.direction(), atol=1e-6)


@pytest.mark.parametrize("name", INSTALLED)
def test_draws_repeat_by_seed_and_differ_among_themselves(people, name):
    model = make_utility(name)
    model.fit(people.rated(30, d=side(name, 128))[0])
    one, other = (model.fitted.sample(np.random.default_rng(3), 2) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.allclose(one[0], one[1])


@pytest.mark.parametrize("name", INSTALLED)
def test_pairs_are_learned_by_all(people, name):
    seen, w = people.rated(80, d=side(name, 128))
    u = seen.latents @ w
    terms = [people.term("pair", (i, i + 1) if u[i] > u[i + 1] else (i + 1, i)) for i in range(79)]
    model = make_utility(name)
    model.fit(people.observations(seen.latents, terms, seen.screen))
    assert model.fitted.direction() @ w > 0.3


@pytest.mark.parametrize("name", ["ridge", "distance", "cosine"])
def test_ties_alone_are_not_enough_and_that_is_said(people, name):
    model = make_utility(name)
    assert model.fit(people.observations(np.eye(2, 64), [people.term("tie", [0, 1])])).startswith(
        "unavailable: ties alone"
    )
    assert model.fitted is None


def test_trees_without_the_package_say_so(people, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert Boosted().fit(people.rated(20, d=64)[0]) == "unavailable: xgboost is not installed; install diptych[prefer]"


def test_trees_learn_and_need_both_kinds(people):
    pytest.importorskip("xgboost")
    seen, w = people.rated(200, d=64)
    model = Boosted()
    goods = people.observations(seen.latents, [people.term("rate", [i], 1, screen=i) for i in range(20)])
    assert model.fit(goods).startswith("unavailable: trees need good and bad")
    assert model.fit(seen) == "ok"
    fresh = np.random.default_rng(9).standard_normal((400, 64))
    assert np.corrcoef(model.fitted.score(fresh)[0], fresh @ w)[0, 1] > 0.3
    assert model.fitted.direction() @ w > 0.2


def test_exponent_sharpens_the_distance(people):
    seen, _ = people.rated(30, d=64)
    scores = []
    for exponent in (1.0, 2.0, 6.0):
        model = Distance(DistanceOptions(exponent=exponent))
        model.fit(seen)
        scores.append(model.fitted.score(seen.latents)[0])
    # Far latents count the less the greater the exponent: what remains is the mark of the latent itself.
    marks = np.array([1.0 if term.value else -1.0 for term in seen.terms])
    errors = [np.abs(score - marks).mean() for score in scores]
    assert len({round(float(error), 6) for error in errors}) == 3


def test_nearer_to_a_good_latent_scores_higher(people):
    z = np.random.default_rng(0).standard_normal((2, 256))
    seen = people.observations(z, [people.term("rate", [0], 1), people.term("rate", [1], 0)])
    for name in ("distance", "cosine"):
        model = make_utility(name)
        model.fit(seen)
        near, far = model.fitted.score(np.stack([z[0] + 0.3 * z[1], z[1] + 0.3 * z[0]]))[0]
        assert near > far


def test_cross_validation_needs_four_and_is_kept_until_something_changes(people):
    seen, _ = people.rated(60, d=16)
    with pytest.raises(InputError, match="3 judgements"):
        cross_validate(lambda: make_utility("ridge"), people.first(seen, 3))
    once = cross_validate(lambda: make_utility("ridge"), seen)
    assert once.agreement.total == 60
    assert once.agreement.share > 0.7
    assert cross_validate(lambda: make_utility("ridge"), seen, known=once) is once
    changed = people.observations(
        seen.latents, [*seen.terms[:-1], people.term("rate", [59], 1 - seen.terms[59].value, screen=60)], seen.screen
    )
    assert cross_validate(lambda: make_utility("ridge"), changed, known=once).digest != once.digest
    assert cross_validate(lambda: make_utility("logistic"), seen, known=once).digest != once.digest


def test_models_load_nothing_heavy():
    assert "xgboost" not in vars(utility)
