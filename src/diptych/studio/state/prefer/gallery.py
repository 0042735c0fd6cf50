"""The gallery: pictures that were shown, with their ratings and predicted values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diptych.prefer.judgement import Candidate
from diptych.prefer.session.answers import label_of
from diptych.prefer.session.session import Session

Order = Literal["value", "rating", "newest", "oldest"]
ORDERS: dict[Order, str] = {
    "value": "Predicted value",
    "rating": "Rating",
    "newest": "Newest first",
    "oldest": "Oldest first",
}
FILTERS = {"all": "All shown", "judged": "Judged", "good": "Good", "bad": "Bad", "open": "Not judged"}

PAGE = 60
"""Pictures on a page of the gallery."""


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes
    ----------
    name : str
        Id of the candidate.
    prompt : str
    file : str
        Name of its PNG file in the ledger.
    value : float
        Predicted utility, sigma; NaN where it is not known.
    rating : float
        Mean rating: 1 good, -1 bad, stars from -1 to 1, 0.5 won and -0.5 lost a comparison; NaN if not judged.
    labels : str
        Its labels, for instance ``+1, best``.
    order : int
        When it was shown.
    """

    name: str
    prompt: str
    file: str
    value: float
    rating: float
    labels: str
    order: int


def entries(session: Session) -> list[Entry]:
    """All pictures that were shown in a session, with their ratings; reads the whole ledger: call it in a thread."""
    ledger = session.ledger
    names: dict[str, int] = {}
    for event in ledger.events():
        if event.kind == "screen":
            for name in event.candidates:
                names.setdefault(name, len(names))
    ratings: dict[str, list[float]] = {}
    labels: dict[str, list[str]] = {}
    for record in ledger.judgements():
        said = record.judgement
        for index, name in enumerate(said.ids):
            labels.setdefault(name, []).append(label_of(said) if index == 0 or said.kind == "tie" else "other")
            if (rating := _rating(said.kind, said.value, index)) is not None:
                ratings.setdefault(name, []).append(rating)
    found = [ledger.candidate(name, image=False) for name in names]
    values = _values(session, found)
    made = []
    for (name, order), candidate, value in zip(names.items(), found, values, strict=True):
        file = ledger.image_file(name)
        if file is not None:
            rating = float(np.mean(ratings[name])) if name in ratings else math.nan
            made.append(
                Entry(name, candidate.frame.prompt, file.name, value, rating, ", ".join(labels.get(name, [])), order)
            )
    return made


def arranged(found: Sequence[Entry], order: Order, kept: str, text: str = "") -> list[Entry]:
    """Entries of a filter (a key of :data:`FILTERS`) whose prompt or id contains ``text``, in an order."""
    tests: dict[str, Callable[[Entry], bool]] = {
        "judged": lambda one: bool(one.labels),
        "good": lambda one: one.rating > 0,
        "bad": lambda one: one.rating < 0,
        "open": lambda one: not one.labels,
    }
    test = tests.get(kept, _every)
    wanted = [one for one in found if test(one) and text.lower() in f"{one.prompt} {one.name}".lower()]
    keys: dict[str, Callable[[Entry], Any]] = {
        "value": lambda one: (math.isnan(one.value), -one.value if one.value == one.value else 0.0, -one.order),
        "rating": lambda one: (math.isnan(one.rating), -one.rating if one.rating == one.rating else 0.0, -one.order),
        "newest": lambda one: -one.order,
        "oldest": lambda one: one.order,
    }
    return sorted(wanted, key=keys[order])


def _values(session: Session, candidates: Sequence[Candidate]) -> list[float]:
    """Predicted values; NaN for pictures of another size, prompt or model, about which the fit says nothing."""
    values = np.full(len(candidates), np.nan)
    fitted = session.fitted
    same = [
        index
        for index, one in enumerate(candidates)
        if one.dimension == session.dimension and not one.frame.differences(session.frame)
    ]
    if fitted is not None:
        for start in range(0, len(same), 256):
            rows = same[start : start + 256]
            values[rows] = fitted.score(np.stack([candidates[row].latent for row in rows]))[0]
    return [float(value) for value in values]


def _rating(kind: str, value: int, index: int) -> float | None:
    if kind == "rate":
        return 2.0 * value - 1
    if kind == "stars":
        return (value - 3) / 2
    if kind in ("pair", "best"):
        return 0.5 if index == 0 else -0.5
    return 0.0 if kind == "tie" else None


def _every(entry: Entry) -> bool:
    return True
