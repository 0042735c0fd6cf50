"""Proposals: typical at any number of judgements, diverse, at the stated angle, and repeatable."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from angles import angle_between
from diptych.errors import InputError
from diptych.prefer.propose import PROPOSALS, Proposal, Situation, finished, generator, make_proposal, random_key
from diptych.prefer.propose.line import step_scores
from diptych.prefer.propose.tempered import JITTER, LEAST, MOST, angle
from diptych.prefer.spaces.sphere import on_sphere
from diptych.prefer.utility.linear_gp import LinearGP

OF_SPHERES = [method.name for method in PROPOSALS.entries() if method.space == "sphere"]


@cache
def person(n, d=4096, seed=0):
    """A fit of ``n`` ratings of noise by a linear person, and the true weights."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d) / math.sqrt(d)
    z = np.asarray(on_sphere(rng.standard_normal((n, d))), dtype=np.float32)
    terms = [
        SimpleNamespace(kind="rate", rows=(i,), value=int(z[i] @ w > 0), weight=1.0, screen=i + 1) for i in range(n)
    ]
    model = LinearGP()
    model.fit(SimpleNamespace(latents=z, screen=np.arange(1, n + 1), terms=terms))
    return model.fitted, w


@cache
def situation(n=30, d=4096):
    rng = np.random.default_rng(8)
    fitted = person(n, d)[0] if n else None
    return Situation(d, fitted, anchor=rng.standard_normal(d), liked=rng.standard_normal((3, d)))


@pytest.fixture(scope="module")
def usual():
    return situation()


@pytest.mark.parametrize("name", PROPOSALS.names())
def test_every_proposal_meets_the_protocol(name):
    assert isinstance(make_proposal(name), Proposal)


def test_unknown_proposal_is_named():
    with pytest.raises(InputError, match=r"'magic'.*tempered"):
        make_proposal("magic")


@pytest.mark.parametrize("n", [0, 1, 20, 100, 200])
@pytest.mark.parametrize("name", OF_SPHERES)
def test_all_latents_are_typical_at_any_number_of_judgements(name, n):
    here = situation(n, 1024)
    for seed in range(3):
        for proposed in make_proposal(name).propose(here, 4, np.random.default_rng(seed)):
            assert here.tests.passes(proposed.latent)
            assert proposed.latent.dtype == np.float32
            assert proposed.provenance["proposal"] == name


@pytest.mark.parametrize("n", [1, 20, 100, 200])
def test_the_default_is_typical_at_full_size(n):
    fitted, _ = person(n, 16384)
    here = Situation(16384, fitted)
    assert all(
        here.tests.passes(proposed.latent)
        for proposed in make_proposal("tempered").propose(here, 8, np.random.default_rng(0))
    )
    assert here.tests.passes(finished(fitted.direction(), here, "best").latent)


@pytest.mark.parametrize("name", OF_SPHERES)
def test_same_generator_same_latents_and_other_generator_others(usual, name):
    one, same, other = (make_proposal(name).propose(usual, 3, generator(random_key(seed, 5))) for seed in (1, 1, 2))
    assert all(np.array_equal(a.latent, b.latent) for a, b in zip(one, same, strict=True))
    if name != "line":
        assert not any(np.array_equal(a.latent, b.latent) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", [name for name in OF_SPHERES if name not in ("legacy", "line")])
def test_screens_are_diverse(usual, name):
    latents = [proposed.latent for proposed in make_proposal(name).propose(usual, 4, np.random.default_rng(0))]
    assert min(angle_between(a, b) for a, b in combinations(latents, 2)) > 0.25


def test_tempered_lies_at_its_angle_and_draws_are_orthogonal(usual):
    mean = usual.fitted.direction()
    screen = make_proposal("tempered").propose(usual, 6, np.random.default_rng(0))
    parts = []
    for proposed in screen:
        assert angle_between(proposed.latent, mean) == pytest.approx(proposed.provenance["angle"], abs=1e-3)
        assert LEAST <= proposed.provenance["angle"] <= MOST
        parts.append(on_sphere(proposed.latent - mean * (mean @ proposed.latent)))
    assert max(abs(math.cos(angle_between(a, b))) for a, b in combinations(parts, 2)) < 0.02
    assert np.std([proposed.provenance["angle"] for proposed in screen]) < 3 * JITTER


def test_angle_falls_as_the_reach_grows():
    angles = [angle(SimpleNamespace(reach=reach)) for reach in (0.01, 1.0, 3.0, 6.0, 30.0)]
    assert angle(None) == MOST
    assert angles == sorted(angles, reverse=True)
    assert angles[0] == pytest.approx(MOST, abs=0.01)
    assert angles[-1] > LEAST


def test_models_without_uncertainty_have_an_angle_too():
    assert LEAST < angle(SimpleNamespace(reach=float("nan"))) < MOST


def test_pair_is_symmetric_about_the_mean(usual):
    mean = usual.fitted.direction()
    first, second = (proposed.latent for proposed in make_proposal("pair").propose(usual, 2, np.random.default_rng(0)))
    assert angle_between(first, mean) == pytest.approx(angle_between(second, mean), abs=1e-3)
    assert angle_between(first + second, mean) < 1e-3


def test_line_climbs_in_expected_utility(usual):
    scores = usual.fitted.score(
        np.stack([proposed.latent for proposed in make_proposal("line").propose(usual, 5, np.random.default_rng(0))])
    )[0]
    assert np.all(np.diff(scores) > 0)
    assert scores[-1] == pytest.approx(usual.fitted.reach, rel=0.02)


def test_hill_goes_up_from_the_liked_image(usual):
    before = usual.fitted.score(on_sphere(usual.liked[:1]))[0][0]
    after = usual.fitted.score(
        np.stack([proposed.latent for proposed in make_proposal("hill").propose(usual, 4, np.random.default_rng(0))])
    )[0]
    assert after.min() > before


def test_around_stays_at_its_angle_from_the_anchor(usual):
    for proposed in make_proposal("around", angle=0.5).propose(usual, 3, np.random.default_rng(0)):
        assert angle_between(proposed.latent, usual.anchor) == pytest.approx(0.5, abs=1e-2)


def test_random_anchor_is_known_by_its_seed(usual):
    screens = [
        make_proposal("random-anchor", anchor_seed=seed, angle=0.3).propose(usual, 2, np.random.default_rng(0))
        for seed in (1, 2)
    ]
    assert [screen[0].provenance["anchor_seed"] for screen in screens] == [1, 2]
    assert angle_between(screens[0][0].latent, np.random.default_rng(1).standard_normal(4096)) == pytest.approx(
        0.3, abs=1e-2
    )
    assert angle_between(screens[0][0].latent, screens[1][0].latent) > 1.2


def test_children_are_like_their_parents_and_the_first_have_random_ones(usual):
    noise = np.random.default_rng(5).standard_normal(4096)
    for child in make_proposal("breed").propose(usual, 3, np.random.default_rng(0)):
        nearest = min(angle_between(child.latent, parent) for parent in usual.liked)
        assert nearest < 1.1 < angle_between(child.latent, noise)
        assert sum(child.provenance["weights"]) == pytest.approx(1, abs=1e-4)
    for liked in (None, usual.liked[:1]):
        screen = make_proposal("breed").propose(Situation(4096, liked=liked), 4, np.random.default_rng(0))
        closest = min(angle_between(a.latent, b.latent) for a, b in combinations(screen, 2))
        assert closest > np.radians(15)


@pytest.mark.parametrize("dimension", [64, 1024, 16384])
def test_the_images_of_a_line_stay_apart_when_its_start_is_the_best_that_is_known(dimension):
    fitted, _ = person(40, dimension)
    start = np.sqrt(dimension) * fitted.direction()
    situation = Situation(dimension, fitted, liked=start[None].astype(np.float32))
    screen = make_proposal("line").propose(situation, 4, np.random.default_rng(0))
    steps = [angle_between(a.latent, b.latent) for a, b in pairwise(screen)]
    assert min(steps) > np.radians(18)


def test_legacy_hardly_moves(usual):
    for proposed in make_proposal("legacy").propose(usual, 4, np.random.default_rng(0)):
        assert angle_between(proposed.latent, usual.anchor) < 0.02


def test_step_scores_rise_by_the_sine_of_the_step(usual):
    mean = usual.fitted.direction()
    across = np.linalg.qr(np.stack([mean, usual.anchor]).T)[0][:, 1]
    scores = step_scores(usual.fitted, across, 4, 0.2)
    assert scores == pytest.approx(usual.fitted.reach * np.sin(0.2 * np.arange(1, 5)), rel=1e-6)


def test_the_cost_of_a_projection_is_recorded():
    d = 4096
    tilted = np.zeros((4, 32, 32))
    tilted[0] = 0.4
    fitted = SimpleNamespace(reach=3.0, score=lambda z: (z @ tilted.ravel() / np.linalg.norm(tilted), None))
    proposed = finished(np.random.default_rng(0).standard_normal(d) + tilted.ravel(), Situation(d, fitted), "tempered")
    assert "mean of channel 0" in proposed.provenance["bound"]
    assert proposed.provenance["utility_lost"] > 1


def test_keys_of_processes_and_screens_differ():
    keys = {random_key(0, 3, shared=True) for _ in range(20)} | {
        random_key(0, 3),
        random_key(0, 4),
        random_key(0, 3, 1),
        random_key(1, 3),
    }
    assert len(keys) == 24
    first, second = (generator(key).standard_normal(4) for key in (random_key(0, 3), random_key(0, 3, 1)))
    assert not np.allclose(first, second)


def test_more_draws_than_dimensions_still_work():
    assert len(make_proposal("tempered").propose(Situation(8, shape=(1, 1, 8)), 12, np.random.default_rng(0))) == 12
