"""k-fold cross-validation; the result is reused until the data or the model change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.prefer.judgement import Observations, Term
from diptych.prefer.spaces.image_features import FeatureSnapshot
from diptych.prefer.utility.base import Agreement, Utility
from diptych.prefer.utility.diagnostics.agreement import guessed
from diptych.runtime.provenance import utc_now

MIN_JUDGEMENTS = 4
"""Number of judgements that cross-validation needs."""


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation.

    Attributes
    ----------
    agreement : Agreement
        Agreement with held-out judgements.
    folds : int
        Number of folds.
    time : str
        When it was computed, UTC.
    digest : str
        Hash of the data and of the model with its options.
    """

    agreement: Agreement
    folds: int
    time: str
    digest: str


def digest(observations: Observations, name: str, options: Mapping[str, Any]) -> str:
    """Hexadecimal hash of the judgements, the latents, and the model with its options."""
    found = hashlib.sha256(json.dumps([name, dict(options)], sort_keys=True, default=repr).encode())
    found.update(np.ascontiguousarray(observations.latents).data)
    for term in observations.terms:
        found.update(repr((term.kind, tuple(term.rows), term.value, term.weight, term.screen)).encode())
    return found.hexdigest()[:16]


def cross_validate(
    make: Callable[[], Utility],
    observations: Observations,
    *,
    folds: int = 5,
    options: Mapping[str, Any] | None = None,
    features: FeatureSnapshot | None = None,
    known: CrossValidation | None = None,
) -> CrossValidation:
    """Agreement of models with the judgements of the fold that they were not fitted to.

    Parameters
    ----------
    make : callable
        Returns a new model.
    observations : Observations
    folds : int
        Number of folds; at most the number of judgements.
    options : mapping, optional
        Options of the model; part of the hash.
    features : FeatureSnapshot, optional
        Image features that are passed to each fit.
    known : CrossValidation, optional
        An earlier result, which is returned if nothing changed since.

    Raises
    ------
    InputError
        If there are fewer than four judgements other than ties and skips.
    """
    used = [term for term in observations.terms if term.kind not in ("skip", "tie")]
    if len(used) < MIN_JUDGEMENTS:
        raise InputError(
            "cross-validation",
            f"there are {len(used)} judgements",
            f"at least {MIN_JUDGEMENTS} ratings, pairs or choices",
            "Judge more images.",
        )
    folds = min(folds, len(used))
    current = digest(observations, make().name, {**(options or {}), "folds": folds})
    if known is not None and known.digest == current:
        return known
    order = np.random.default_rng(0).permutation(len(used))
    hits = total = 0
    for fold in range(folds):
        held_out = set(order[fold::folds].tolist())
        kept = [term for i, term in enumerate(used) if i not in held_out]
        model = make()
        model.fit(Observations(observations.latents, observations.screen, kept), features)
        found = [_predicted(model, observations, used[i]) for i in sorted(held_out)]
        hits, total = hits + sum(hit is True for hit in found), total + sum(hit is not None for hit in found)
    return CrossValidation(Agreement(hits, total, *guessed(used, stars=False)), folds, utc_now(), current)


def _predicted(model: Utility, observations: Observations, term: Term) -> bool | None:
    """Whether the model predicts the judgement; None if it has no prediction, or for three stars."""
    fitted = model.fitted
    if fitted is None or (term.kind == "stars" and term.value == 3):
        return None
    latents = np.asarray(observations.latents[list(term.rows)])
    if term.kind in ("rate", "stars"):
        good = bool(term.value) if term.kind == "rate" else term.value > 3
        return bool((fitted.predict(latents, term.screen)[0] > 0.5) == good)
    scores = fitted.score(latents)[0]
    return bool(scores[0] > scores[1:].max())
