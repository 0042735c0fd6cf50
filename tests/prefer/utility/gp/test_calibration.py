"""Calibration of predicted probabilities, by the leave-one-out prediction of each rating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diptych.prefer.utility.gp import calibration as module
from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.ep import expectation_propagation
from diptych.prefer.utility.inference.observations import build_design
from diptych.prefer.utility.linear_gp import LinearGP


def matched(seen, hyperparameters):
    gram, given = Gram(), build_design(seen)
    gram.update(seen.latents)
    prior = Prior(ObservationGram(gram, given), given, hyperparameters)
    return prior, expectation_propagation(prior, given, prior.limits())


def test_each_rating_is_judged_by_the_fit_without_it(people, monkeypatch):
    """The logits are those of refits from which one rating is missing, at the same hyperparameters."""
    seen, _ = people.rated(14)
    hyperparameters = Hyperparameters()
    found = []
    monkeypatch.setattr(module, "_fit_factor", lambda logit, weight: found.append(logit) or 1.0)
    module.calibration_factor(*matched(seen, hyperparameters))
    for left in range(14):
        others = people.observations(seen.latents, [*seen.terms[:left], *seen.terms[left + 1 :]], seen.screen)
        prior, mode = matched(others, hyperparameters)
        # The rating that is missing, as an observation of the whole record.
        whole = Prior(
            ObservationGram(prior._inner._gram, build_design(seen)), build_design(seen), hyperparameters
        ).dense()
        rest = [index for index in range(14) if index != left]
        mean = whole[left, rest] @ mode.alpha
        variance = whole[left, left] - float(mode.reduction(whole[rest][:, [left]])[0])
        expected = (1 if seen.terms[left].value else -1) * mean / np.sqrt(1 + np.pi / 8 * variance)
        assert found[0][left] == pytest.approx(expected, abs=0.02)


def test_it_finds_by_how_much_logits_are_too_large():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=4000) * 2
    for true in (0.4, 1.0):
        answer = np.where(rng.random(4000) < 1 / (1 + np.exp(-true * logit)), 1, -1)
        assert module._fit_factor(answer * logit, np.ones(4000)) == pytest.approx(true, abs=0.07)
    assert module._fit_factor(np.zeros(0), np.zeros(0)) == Hyperparameters().calibration
    assert module._fit_factor(np.full(50, -3.0), np.ones(50)) == 0, (
        "always wrong: nothing is believed, but not the opposite either"
    )


def test_it_scales_predicted_logits_and_nothing_else(people):
    seen, _ = people.rated(30)
    model = LinearGP()
    model.fit(seen)
    posterior = model.posterior
    latents = np.random.default_rng(1).normal(size=(20, seen.latents.shape[1]))
    half = replace(
        posterior,
        prior=Prior(
            posterior.prior._inner,
            posterior.design,
            replace(posterior.hyperparameters, calibration=posterior.hyperparameters.calibration / 2),
        ),
    )
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    np.testing.assert_allclose(logit(half.predict(latents)), logit(posterior.predict(latents)) / 2, atol=1e-10)
    np.testing.assert_array_equal(half.score(latents)[0], posterior.score(latents)[0])


def test_comparisons_alone_leave_it_as_it_was(people):
    rng = np.random.default_rng(0)
    seen = people.observations(rng.normal(size=(20, 64)), [people.term("pair", [2 * i, 2 * i + 1]) for i in range(10)])
    assert module.calibration_factor(*matched(seen, Hyperparameters())) == Hyperparameters().calibration
