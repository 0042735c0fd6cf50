"""The Gram matrix that grows."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.prefer.utility.gp.gram import Gram, cross, spread


def latents(n=700, d=300, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def exact(x):
    x = x.astype(np.float64)
    return x @ x.T / x.shape[1]


@pytest.mark.parametrize("steps", [[700], [1, 2, 3, 100, 700], [*range(1, 40), 600, 601, 700]])
def test_growth_in_any_steps_gives_the_matrix(steps):
    x, gram = latents(), Gram()
    for count in steps:
        gram.update(x[:count])
    assert np.allclose(gram.dense(), exact(x), atol=1e-6)
    v = np.random.default_rng(1).standard_normal((700, 3))
    assert np.allclose(gram.times(v), exact(x) @ v, atol=1e-4)
    assert np.allclose(gram.times(v[:, 0]), exact(x) @ v[:, 0], atol=1e-4)


def test_rows_taken_out_or_changed_are_noticed():
    x, gram = latents(50), Gram()
    gram.update(x)
    gram.dense()
    fewer = np.delete(x, 20, axis=0)
    gram.update(fewer)
    assert np.allclose(gram.dense(), exact(fewer), atol=1e-6)
    gram.update(x[:30])
    assert len(gram) == 30
    assert np.allclose(gram.dense(), exact(x[:30]), atol=1e-6)
    gram.update(latents(30, seed=5))
    assert np.allclose(gram.dense(), exact(latents(30, seed=5)), atol=1e-6)


def test_growth_row_by_row_equals_growth_at_once():
    x, one, many = latents(60, 4096), Gram(), Gram()
    one.update(x)
    for count in range(1, 61):
        many.update(x[:count])
    off = np.abs(one.dense() - many.dense())
    assert off.max() < 5e-7
    assert (off - np.diag(np.diag(off))).max() < 5e-8


def test_products_and_sums_over_blocks_of_rows():
    x = latents(1100, 64)
    v = latents(3, 64, seed=9)
    assert np.allclose(cross(v, x), v.astype(float) @ x.T.astype(float) / 64, atol=1e-6)
    weights = np.random.default_rng(2).standard_normal((2, 1100))
    assert np.allclose(spread(weights, x), weights @ x, atol=1e-3)


def test_some_rows_are_those_of_the_matrix():
    x, gram = latents(700), Gram()
    for count in (3, 600, 640, 700):
        gram.update(x[:count])
        gram.some(np.array([0, 2]), count)
    places = np.array([0, 1, 511, 512, 630, 660])
    assert np.allclose(gram.some(places, 680), exact(x)[places, :680], atol=1e-6)


def test_products_that_are_not_kept_are_the_same(monkeypatch):
    x, gram = latents(300), Gram()
    gram.update(x)
    v = np.random.default_rng(1).standard_normal((300, 3))
    kept = gram.times(v)
    monkeypatch.setattr("diptych.prefer.utility.gp.gram.MAX_KEPT", 100)
    assert np.allclose(gram.times(v), kept, atol=1e-4)
    assert np.allclose(gram.times(v[:, 0]), kept[:, 0], atol=1e-4)
