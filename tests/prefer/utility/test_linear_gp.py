"""The default utility: what it learns, that it is honest about it, and that nothing but the record decides it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diptych.prefer.utility.diagnostics.agreement import self_agreement
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.linear_gp import LinearGP


def learned(seen):
    model = LinearGP()
    model.fit(seen)
    return model


def cosine(model, w):
    return float(model.fitted.direction() @ w)


def test_untrained_scores_are_nan_and_nothing_is_drawn(people):
    model = LinearGP()
    assert model.status == "untrained"
    assert model.fitted is None
    assert model.fit(people.observations(np.eye(2, 64), [people.term("skip", [0])])) == "untrained"


def test_first_rating_points_at_or_away_from_its_latent(people):
    for good, sign in ((1, 1.0), (0, -1.0)):
        seen = people.observations(np.eye(1, 64) * 8, [people.term("rate", [0], good, screen=1)], [1])
        assert learned(seen).fitted.direction()[0] == pytest.approx(sign)


def test_ratings_find_a_linear_taste(people):
    seen, w = people.rated(200, d=4096, per=4)
    model = learned(seen)
    assert model.status == "ok"
    assert cosine(model, w) * math.sqrt(4096) > 6
    assert model.posterior.reach == pytest.approx(cosine(model, w) * math.sqrt(4096), rel=0.25)


@pytest.mark.parametrize("kind", ["pair", "best", "stars"])
def test_other_judgements_find_it_too(people, kind):
    seen, w = people.rated(120, d=1024)
    u = seen.latents @ w
    if kind == "pair":
        terms = [people.term("pair", (i, i + 1) if u[i] > u[i + 1] else (i + 1, i)) for i in range(119)]
    elif kind == "best":
        screens = [sorted(range(i, i + 4), key=lambda row: -u[row]) for i in range(0, 120, 4)]
        terms = [people.term("best", rows) for rows in screens]
    else:
        terms = [people.term("stars", [i], int(np.clip(np.round(3 + 1.3 * u[i]), 1, 5)), screen=i) for i in range(120)]
    model = learned(people.observations(seen.latents, terms, seen.screen))
    assert cosine(model, w) * 32 > {"pair": 6, "best": 4, "stars": 6}[kind]


def test_ties_pull_utilities_together(people):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((3, 512))
    pair = people.term("pair", [0, 1])
    apart = learned(people.observations(z, [pair]))
    tied = learned(people.observations(z, [pair, *[people.term("tie", [0, 1])] * 3]))

    def gap(model):
        return float(np.diff(model.fitted.score(z[:2])[0])[0])

    assert abs(gap(tied)) < 0.6 * abs(gap(apart))


def test_comparisons_do_not_depend_on_the_threshold(people):
    seen, _ = people.rated(40)
    pairs = [people.term("pair", [i, i + 1], screen=i) for i in range(0, 40, 2)]
    one = learned(people.observations(seen.latents, pairs, seen.screen))
    other = learned(people.observations(seen.latents, pairs, np.zeros(40, int)))
    assert np.allclose(one.posterior.mean, other.posterior.mean)


def test_a_drifting_threshold_is_not_taken_for_taste(people):
    rng = np.random.default_rng(4)
    seen, w = people.rated(160, d=2048, seed=4)
    drifting = seen.latents @ w + np.linspace(-2, 2, 160) + 0.3 * rng.logistic(size=160) > 0
    terms = [people.term("rate", [i], int(good), screen=i + 1) for i, good in enumerate(drifting)]
    model = learned(people.observations(seen.latents, terms, seen.screen))
    assert cosine(model, w) * math.sqrt(2048) > 5
    early, late = (model.posterior.predict(np.zeros((1, 2048)) + 1e-9, screen)[0] for screen in (5, None))
    assert early < 0.4 < 0.6 < late


def test_weight_two_is_the_judgement_twice(people):
    seen, _ = people.rated(30)
    heavy = people.observations(
        seen.latents,
        [*seen.terms[:-1], people.term("rate", [29], seen.terms[29].value, 2.0, seen.terms[29].screen)],
        seen.screen,
    )
    twice = people.observations(seen.latents, [*seen.terms, seen.terms[29]], seen.screen)
    assert cosine(learned(heavy), learned(twice).fitted.direction()) > 0.999


@pytest.mark.parametrize("matched", [256, 20])
def test_posterior_depends_on_the_record_alone(people, monkeypatch, matched):
    import diptych.prefer.utility.linear_gp as module

    monkeypatch.setattr(module, "MAX_EP", matched)
    seen, _ = people.rated(70, per=2)
    grown = LinearGP()
    for count in (1, 2, 3, 9, 10, 31, 70, 68, 40, 41, 70):
        grown.add(people.first(seen, count))
    fresh = learned(seen)
    assert grown.posterior.hyperparameters == fresh.posterior.hyperparameters
    assert np.abs(grown.posterior.mean - fresh.posterior.mean).max() < 1e-6 * np.abs(fresh.posterior.mean).max() + 1e-7


def test_undo_in_the_middle_is_as_if_never_said(people):
    seen, _ = people.rated(40)
    model = learned(seen)
    keep = [i for i in range(40) if i != 17]
    terms = [people.term("rate", [row], seen.terms[i].value, 1.0, seen.terms[i].screen) for row, i in enumerate(keep)]
    without = people.observations(seen.latents[keep], terms, seen.screen[keep])
    model.add(without)
    assert np.allclose(model.posterior.mean, learned(without).posterior.mean, atol=1e-7)


def test_draws_have_the_mean_and_the_covariance_of_the_posterior(people):
    seen, _ = people.rated(40, d=256)
    posterior = learned(seen).posterior
    draws = posterior.sample(np.random.default_rng(0), 4000)
    places = np.concatenate([seen.latents[:3], np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)])
    mean, deviation = posterior.score(places)
    values = draws @ places.T.astype(float)
    assert values.mean(axis=0) == pytest.approx(mean, abs=0.08)
    assert values.std(axis=0) == pytest.approx(deviation, rel=0.06)


def test_a_latent_that_was_rated_is_less_uncertain_than_noise(people):
    seen, _ = people.rated(60, d=512)
    _, deviation = learned(seen).fitted.score(
        np.concatenate([seen.latents[:5], np.random.default_rng(3).standard_normal((5, 512))])
    )
    assert deviation[:5].max() < deviation[5:].min()
    assert deviation.max() < 1.2


def test_predicted_probabilities_are_calibrated(people):
    said, came = [], []
    for seed in range(12):
        seen, _ = people.rated(120, d=256, seed=seed)
        posterior = learned(people.first(seen, 60)).posterior
        said.append(posterior.predict(seen.latents[60:]))
        came.append([term.value for term in seen.terms[60:]])
    said, came = np.concatenate(said), np.concatenate(came)
    for low, high in ((0, 0.35), (0.35, 0.65), (0.65, 1)):
        inside = (said >= low) & (said < high)
        assert said[inside].mean() == pytest.approx(came[inside].mean(), abs=0.1)
    assert -np.log(np.where(came, said, 1 - said)).mean() < np.log(2) - 0.01


def test_agreement_left_out_is_below_agreement_in_training(people):
    posterior = learned(people.rated(100, d=4096)[0]).posterior
    assert posterior.train.total == posterior.loo_agreement().total == 100
    assert posterior.train.share > 0.95
    assert 0.35 < posterior.loo_agreement().share < 0.85


def test_left_out_agrees_with_fits_that_leave_out(people):
    seen, _ = people.rated(31, d=64)
    model = learned(seen)
    hits = 0
    for out in range(31):
        terms = [term for i, term in enumerate(seen.terms) if i != out]
        other = LinearGP()
        other.fit(people.observations(seen.latents, terms, seen.screen))
        hits += (other.posterior.predict(seen.latents[[out]], seen.terms[out].screen)[0] > 0.5) == bool(
            seen.terms[out].value
        )
    assert model.posterior.loo_agreement().hits == pytest.approx(hits, abs=3)


def test_self_agreement_counts_contradictions(people):
    terms = [
        people.term("rate", [0], 1),
        people.term("rate", [1], 1),
        people.term("rate", [0], 0),
        people.term("rate", [1], 1),
    ]
    found = self_agreement(people.observations(np.eye(2, 8), terms))
    assert (found.hits, found.total) == (1, 2)


def test_advice_falls_as_more_is_known(people):
    seen, _ = people.rated(200, d=16384)
    gains = [learned(people.first(seen, count)).posterior.advice(20).gain for count in (20, 60, 200)]
    assert gains[0] > gains[1] > gains[2] > 0


def test_hyperparameters_follow_the_person(people):
    rng = np.random.default_rng(0)
    seen, w = people.rated(192, d=64)
    u = seen.latents @ w

    def scale(answers):
        return learned(
            people.observations(
                seen.latents, [people.term("rate", [i], int(a), screen=i) for i, a in enumerate(answers)]
            )
        ).posterior.hyperparameters.scale

    assert scale(u > 0) > scale(u + 1.5 * rng.logistic(size=192) > 0)


def test_observations_keep_the_order_of_the_record(people):
    seen, _ = people.rated(20)
    assert list(build_design(seen).term) == list(range(20))


def test_pairs_teach_the_width_of_a_tie_that_was_never_declared(people):
    """Taken for granted, a wide band makes answers to close pairs look like lead, and the person like one who is not
    sure."""
    seen, w = people.rated(120, d=1024)
    order = [sorted((row, row + 1), key=lambda one: -(seen.latents[one] @ w)) for row in range(0, 120, 2)]
    pairs = [people.term("pair", rows) for rows in order]
    posterior = learned(people.observations(seen.latents, pairs)).posterior
    assert posterior.hyperparameters.tie_width < 0.15
    found = posterior.direction() @ w * 32
    assert posterior.reach == pytest.approx(found, rel=0.2)
    close = [people.term("tie", rows) for rows in order if (seen.latents[rows[0]] - seen.latents[rows[1]]) @ w < 0.8]
    apart = [people.term("pair", rows) for rows in order if (seen.latents[rows[0]] - seen.latents[rows[1]]) @ w >= 0.8]
    assert learned(people.observations(seen.latents, close + apart)).posterior.hyperparameters.tie_width > 0.3
