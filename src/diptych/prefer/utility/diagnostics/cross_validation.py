"""Cross-validation, which is done when asked for and kept until the data or the model change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.prefer.judgement import Observations, Term
from diptych.prefer.utility import Agreement, Utility
from diptych.runtime.provenance import utc_now

LEAST = 4
"""Judgements that cross-validation needs."""


@dataclass(frozen=True)
class CrossValidation:
    """Agreement with judgements that were left out, when it was reckoned (UTC), and of what: a digest of data and
    hyper-parameters.
    """

    agreement: Agreement
    folds: int
    time: str
    fingerprint: str


def fingerprint(observations: Observations, name: str, options: Mapping[str, Any]) -> str:
    """Hexadecimal digest of the judgements, the latents, and the model with its options."""
    digest = hashlib.sha256(json.dumps([name, dict(options)], sort_keys=True, default=repr).encode())
    digest.update(np.ascontiguousarray(observations.latents).data)
    for term in observations.terms:
        digest.update(repr((term.kind, tuple(term.rows), term.value, term.weight, term.screen)).encode())
    return digest.hexdigest()[:16]


def cross_validate(
    make: Callable[[], Utility],
    observations: Observations,
    *,
    folds: int = 5,
    options: Mapping[str, Any] | None = None,
    known: CrossValidation | None = None,
) -> CrossValidation:
    """Agreement of models with the judgements of the fold that they were not given; ``known`` itself where nothing has
    changed since.

    Raises
    ------
    InputError
        There are fewer than four judgements.
    """
    told = [term for term in observations.terms if term.kind not in ("skip", "tie")]
    if len(told) < LEAST:
        raise InputError(f"there are {len(told)} judgements; cross-validation needs at least {LEAST}")
    folds = min(folds, len(told))
    mark = fingerprint(observations, make().name, {**(options or {}), "folds": folds})
    if known is not None and known.fingerprint == mark:
        return known
    order = np.random.default_rng(0).permutation(len(told))
    hits = total = 0
    for fold in range(folds):
        out = set(order[fold::folds].tolist())
        model = make()
        model.fit(
            Observations(
                observations.latents, observations.screen, [term for i, term in enumerate(told) if i not in out]
            )
        )
        found = [_foreseen(model, observations, told[i]) for i in sorted(out)]
        hits, total = hits + sum(hit is True for hit in found), total + sum(hit is not None for hit in found)
    return CrossValidation(Agreement(hits, total), folds, utc_now(), mark)


def _foreseen(model: Utility, observations: Observations, term: Term) -> bool | None:
    """Whether the model would have said the same; None where it has nothing to say, or the rating is in the middle."""
    fitted = model.fitted
    if fitted is None or (term.kind == "stars" and term.value == 3):
        return None
    latents = np.asarray(observations.latents[list(term.rows)])
    if term.kind in ("rate", "stars"):
        good = bool(term.value) if term.kind == "rate" else term.value > 3
        return bool((fitted.predict(latents, term.screen)[0] > 0.5) == good)
    scores = fitted.score(latents)[0]
    return bool(scores[0] > scores[1:].max())
