"""Scores of candidates, the best judged image, and cross-validation, from the last fit of a session."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import Decoder, measured_text
from diptych.prefer.judgement import Candidate
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.options import SessionOptions
from diptych.prefer.session import factory
from diptych.prefer.session.fitting import Snapshot
from diptych.prefer.session.previews import Previews
from diptych.prefer.session.state import highest_bound, highest_mean, lower_bound
from diptych.prefer.utility import UTILITIES
from diptych.prefer.utility.diagnostics.cross_validation import CrossValidation, cross_validate
from diptych.runtime.logging import LOGGER

UNDERFITTED = 1.1
"""Held-out fit, in the lowest of the session, above which :func:`underfitted` says so."""


def score_candidates(
    known: Snapshot, previews: Previews | None, candidates: Sequence[Candidate], utility: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (k,) of the utility of candidates; NaN if there is no fit.

    For settings, a candidate that has an image is scored with the features of that image. Other images that were
    decoded since the fit have no effect.
    """
    mean, deviation = np.full(len(candidates), np.nan), np.full(len(candidates), np.nan)
    if known.fitted is None or not candidates:
        return mean, deviation
    latents = np.stack([candidate.latent for candidate in candidates])
    images = [candidate.image for candidate in candidates]
    fits = {False: known.fitted, True: known.fitted}
    shown = np.array([image is not None for image in images])
    if previews is not None:
        rows = np.flatnonzero(shown)
        fits[True] = previews.with_images(
            known.fitted, known.feature_rows, list(latents[rows]), [image for image in images if image is not None]
        )
    for has_image, fitted in fits.items():
        rows = np.flatnonzero(shown == has_image)
        if len(rows):
            mean[rows], deviation[rows] = fitted.score(latents[rows])
    for candidate, value in zip(candidates, mean, strict=True):
        LOGGER.info("[scorer] tile=%s vm=%s v=%.4f", candidate.id, utility, value)
    return mean, deviation


def underfitted(ledger: Ledger, chosen: Candidate) -> str:
    """A sentence if a reconstruction that was shown explains held-out pixels much better than the chosen one: that it
    looks smooth may mean that structure is missing. Otherwise empty.
    """
    fit = _held_out_fit(chosen)
    if math.isnan(fit):
        return ""
    names = dict.fromkeys(name for event in ledger.events() if event.kind == "screen" for name in event.candidates)
    shown = [ledger.candidate(name, image=False) for name in names]
    best = min((one for one in shown if not math.isnan(_held_out_fit(one))), key=_held_out_fit, default=chosen)
    if fit <= UNDERFITTED * _held_out_fit(best):
        return ""
    return (
        f"This image may be underfitted, with structure missing ({measured_text(chosen)}): image {best.id} has "
        f"{measured_text(best)}. Look at both before you use its settings."
    )


def _held_out_fit(candidate: Candidate) -> float:
    return float(candidate.provenance.get("measured", {}).get("held_out_fit", math.nan))


def best_judged(known: Snapshot, other: NDArray[np.float32] | None, *, safe: bool) -> str | None:
    """Id of the judged image of highest expected utility, or of highest lower bound (``safe``); None if the latent
    ``other`` (d,) has a higher lower bound.
    """
    assert known.fitted is not None
    row = (highest_bound if safe else highest_mean)(known.fitted, known.observations)
    latent = np.asarray(known.observations.latents[row])
    if other is not None and lower_bound(known.fitted, latent) < lower_bound(known.fitted, other):
        return None
    return known.observations.ids[row]


def cross_validated(
    name: str,
    options: SessionOptions,
    decoder: Decoder,
    known: Snapshot,
    previews: Previews | None,
    folds: int,
    earlier: CrossValidation | None,
) -> CrossValidation:
    """Agreement of the utility model with held-out judgements; ``earlier`` if nothing changed since.

    Raises
    ------
    InputError
        If the model is an object that is not registered, so that new ones cannot be made.
    """
    if name not in UTILITIES:
        raise InputError(
            "cross-validation", f"cannot make new models of {name!r}", f"one of {', '.join(UTILITIES.names())}"
        )
    model = options.with_changes(utility=name) if options.utility is None else options
    return cross_validate(
        lambda: factory.open_utility(model, decoder),
        known.observations,
        folds=folds,
        options=model.own("utility").model_dump(),
        features=None if previews is None else previews.snapshot(known.feature_rows),
        known=earlier,
    )
