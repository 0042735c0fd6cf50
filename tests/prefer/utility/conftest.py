"""Stand-ins shared by the tests: judgements as arrays, and a person with a linear taste."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


def term(kind, rows, value=0, weight=1.0, screen=0):
    return SimpleNamespace(kind=kind, rows=tuple(rows), value=value, weight=weight, screen=screen)


def observations(latents, terms, screen=None):
    latents = np.asarray(latents, dtype=np.float32)
    screen = np.arange(len(latents)) if screen is None else np.asarray(screen)
    return SimpleNamespace(latents=latents, screen=screen, terms=list(terms))


def rated(n=60, d=1024, seed=0, per=1, noise=0.3):
    """Random latents rated by a linear person with a fixed threshold, and the true weights."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d)
    w /= np.linalg.norm(w)
    z = rng.standard_normal((n, d))
    z *= np.sqrt(d) / np.linalg.norm(z, axis=1, keepdims=True)
    screen = np.arange(n) // per + 1
    goods = z @ w + noise * rng.logistic(size=n) > 0
    terms = [term("rate", [i], int(good), screen=int(screen[i])) for i, good in enumerate(goods)]
    return observations(z, terms, screen), w


def first(seen, count):
    """The record when it had ``count`` ratings."""
    return observations(seen.latents[:count], seen.terms[:count], seen.screen[:count])


@pytest.fixture
def people():
    """The functions of this module."""
    return SimpleNamespace(term=term, observations=observations, rated=rated, first=first)
