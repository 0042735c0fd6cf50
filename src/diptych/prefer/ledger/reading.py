"""Reading a ledger: its events in order, and the judgements that count as the arrays that a fit uses."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import FLAGGED, LONGEST, WEIGHTS, Frame, Judgement, Observations, Report, Term
from diptych.prefer.ledger.files import FLOAT, Blocks, Gathered
from diptych.prefer.ledger.store import Store

LEGACY = "legacy"
"""Source of rows that were imported from files of the earlier program."""

LIVE = (
    "e.kind = 'judgement' AND e.position <= ? "
    "AND NOT EXISTS (SELECT 1 FROM events u WHERE u.target = e.position AND u.position <= ?)"
)
"""SQL condition: event ``e`` is a judgement that counts at a position (passed twice)."""

CHUNK = 256
"""Judgements whose latents are read at once."""

FOREVER = 2**62
"""A position after every event."""


@dataclass(frozen=True)
class Event:
    """One entry of the ledger.

    Attributes
    ----------
    position : int
        From 1, without gaps, in the order of commits.
    kind : "screen", "judgement", "undo" or "preview"
    time : str
        ISO 8601, UTC.
    source : str
        Empty, or ``"legacy"`` for imported rows.
    screen : int or None
        The screen that was shown, or that the judgement refers to.
    candidates : tuple of str
        Shown, or judged.
    judgement : Judgement or None
    target : int or None
        Position of the judgement that an undo cancels.
    """

    position: int
    kind: Literal["screen", "judgement", "undo", "preview"]
    time: str
    source: str = ""
    screen: int | None = None
    candidates: tuple[str, ...] = ()
    judgement: Judgement | None = None
    target: int | None = None


@dataclass(frozen=True)
class JudgementRecord:
    """A judgement that counts, with its position, screen and source."""

    position: int
    screen: int
    source: str
    judgement: Judgement


def events(store: Store, after: int) -> Iterator[Event]:
    """Events after a position, in order."""
    shown: dict[int, list[str]] = {}
    query = (
        "SELECT s.screen, s.candidate FROM shown s JOIN events e ON e.kind = 'screen' AND e.screen = s.screen "
        "WHERE e.position > ?"
    )
    for screen, candidate in store.read(query + " ORDER BY s.screen, s.slot", (after,)):
        shown.setdefault(screen, []).append(candidate)
    query = "SELECT position, kind, time, source, screen, target, body FROM events WHERE position > ? ORDER BY position"
    for position, kind, time, source, screen, target, body in store.read(query, (after,)):
        judgement = Judgement.stored(body) if kind == "judgement" else None
        candidates = judgement.ids if judgement else tuple(shown.get(screen, ()))
        yield Event(position, kind, time, source, screen, candidates, judgement, target)


def count_rows(store: Store) -> tuple[int, int]:
    """Number of judgements that count, and of the skips among them."""
    query = f"SELECT count(*), coalesce(sum(json_extract(e.body, '$.kind') = 'skip'), 0) FROM events e WHERE {LIVE}"
    rows, skips = store.read(query, (FOREVER, FOREVER))[0]
    return int(rows), int(skips)


def open_screens(store: Store) -> list[tuple[str, ...]]:
    """Candidates of each screen that was shown after the last judgement that counts, if none of them was judged; the
    latest first. Imported ones are left out.
    """
    judged = judgements(store)
    last = judged[-1].position if judged else 0
    done = {name for said in judged for name in said.judgement.ids}
    shown = [event.candidates for event in events(store, last) if event.kind == "screen" and not event.source]
    return [names for names in dict.fromkeys(reversed(shown)) if not done & set(names)]


def last_number(read: Callable[[str], list[tuple[int]]]) -> int:
    """The highest number of a screen of new images, which their ids begin with; 0 before the first.

    Parameters
    ----------
    read : callable
        Takes a query, returns its rows.
    """
    return read("SELECT coalesce(max(CAST(id AS INTEGER)), 0) FROM candidates WHERE id GLOB '[0-9]*-[0-9]*'")[0][0]


def judgements(store: Store, after: int = 0, until: int = FOREVER) -> list[JudgementRecord]:
    """Judgements after a position that count if the event at ``until`` is taken as the last one, in order."""
    query = f"SELECT position, screen, source, body FROM events e WHERE {LIVE} AND e.position > ? ORDER BY position"
    found = store.read(query, (until, until, after))
    return [
        JudgementRecord(position, screen, source, Judgement.stored(body)) for position, screen, source, body in found
    ]


@dataclass(frozen=True, eq=False)
class Preview:
    """Features of a decoded image, shown or not.

    Attributes
    ----------
    position : int
        In the ledger.
    frame : Frame
    latent : (d,) float32
    features : (k,) float32
    """

    position: int
    frame: Frame
    latent: NDArray[np.float32]
    features: NDArray[np.float32]


def preview_body(frame: Frame, latent: NDArray[np.float32], features: NDArray[np.float32]) -> str:
    """A preview as JSON: key of the frame, and the two arrays as compressed little-endian float32 in base64."""
    return json.dumps({"frame": frame.key, "latent": _packed(latent), "features": _packed(features)})


def previews(store: Store, after: int) -> list[Preview]:
    """Previews after a position, in order."""
    query = "SELECT position, body FROM events WHERE kind = 'preview' AND position > ? ORDER BY position"
    rows = [(position, json.loads(body)) for position, body in store.read(query, (after,))]
    if not rows:
        return []
    frames = {key: Frame.from_json(body) for key, body in store.read("SELECT key, body FROM frames")}
    return [
        Preview(position, frames[values["frame"]], _unpacked(values["latent"]), _unpacked(values["features"]))
        for position, values in rows
    ]


def last_change(store: Store, until: int) -> int:
    """Position, up to ``until``, of the last event that changes which judgements count; 0 if there is none."""
    query = "SELECT coalesce(max(position), 0) FROM events WHERE kind IN ('judgement', 'undo') AND position <= ?"
    return int(store.read(query, (until,))[0][0])


def _packed(values: NDArray[np.float32]) -> str:
    return base64.b64encode(zlib.compress(values.astype(FLOAT).tobytes(), 1)).decode("ascii")


def _unpacked(text: str) -> NDArray[np.float32]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=FLOAT)


class Observer:
    """Builds the Observations of a store incrementally.

    Stored data never change, so what was read, verified and copied for one fit is reused, and the next fit reads only
    new events. (Reading everything again holds the interpreter lock long enough to delay the user interface.) Only an
    undo rebuilds them.
    """

    def __init__(self, store: Store, blocks: Blocks) -> None:
        self._store = store
        self._blocks = blocks
        self._known: dict[str, _Known] = {}
        self._frames: dict[str, Frame] = {}
        self._screen = 0
        self._views: dict[tuple[str, int, bool], _View] = {}
        self._lock = threading.Lock()

    def observe(self, frame: Frame, dimension: int, use_legacy: bool, until: int | None) -> Observations:
        """See :meth:`diptych.prefer.ledger.ledger.Ledger.observations`."""
        with self._lock:
            last = (
                int(self._store.read("SELECT coalesce(max(position), 0) FROM events")[0][0]) if until is None else until
            )
            key = (frame.key, dimension, use_legacy)
            view = self._views.get(key)
            if view is None or until is not None or self._undone(view.position, last):
                view = _View(frame, dimension, use_legacy)
            if until is None:
                self._views[key] = view
            said = judgements(self._store, view.position, last)
            self._learn_candidates()
            self._add(view, said)
            view.position = last
            skips = sum(term.kind == "skip" for term in view.terms)
            report = Report(
                len(view.terms) - skips, dict(view.unused), dict(view.flagged), tuple(sorted(view.damaged)), skips
            )
            return Observations(
                view.gathered.values,
                np.array(view.screens, dtype=np.int64),
                list(view.terms),
                tuple(view.rows),
                report,
                last,
            )

    def _undone(self, position: int, last: int) -> bool:
        """Whether a judgement up to a position was undone after it."""
        query = "SELECT 1 FROM events WHERE kind = 'undo' AND position > ? AND position <= ? AND target <= ? LIMIT 1"
        return bool(self._store.read(query, (position, last, position)))

    def _learn_candidates(self) -> None:
        """Read new candidates. Judgements are read before, because their candidates were shown before them."""
        for name, screen, *about in self._store.read(_KNOWN, (self._screen,)):
            known = self._known.setdefault(name, _Known(name, screen, *about))
            self._screen = max(self._screen, screen)
            if known.frame not in self._frames:
                body = self._store.read("SELECT body FROM frames WHERE key = ?", (known.frame,))[0][0]
                self._frames[known.frame] = Frame.from_json(body)

    def _add(self, view: _View, said: list[JudgementRecord]) -> None:
        """Add judgements to a view, or count why they are left out."""
        fitting: list[tuple[JudgementRecord, list[_Known]]] = []
        for entry in said:
            judged = [self._known[name] for name in entry.judgement.ids]
            why = next(filter(None, (view.refuses(row, self._frames[row.frame]) for row in judged)), "")
            if not why and not WEIGHTS[0] <= entry.judgement.weight <= WEIGHTS[1]:
                why = f"weight {entry.judgement.weight:g}"
            if why:
                view.unused[why] += 1
            else:
                fitting.append((entry, judged))
        for start in range(0, len(fitting), CHUNK):
            self._add_chunk(view, fitting[start : start + CHUNK])

    def _add_chunk(self, view: _View, fitting: list[tuple[JudgementRecord, list[_Known]]]) -> None:
        """Read the latents of some judgements, and add those judgements whose latents can be used."""
        rows = {row.id: row for _, judged in fitting for row in judged if row.id not in view.rows}
        found = self._blocks.read(
            view.dimension, [row.row for row in rows.values()], [row.checksum for row in rows.values()]
        )
        latents = dict(zip(rows, found, strict=True))
        longest = LONGEST * view.dimension**0.5
        for entry, judged in fitting:
            read = {row.id: latents[row.id] for row in judged if row.id in latents}
            if missing := {name for name, latent in read.items() if latent is None}:
                view.damaged |= missing
                view.unused["damaged latent"] += 1
            elif any(np.linalg.norm(one.astype(np.float64)) > longest for one in read.values() if one is not None):
                view.unused[f"latent longer than {LONGEST:g} sqrt(d)"] += 1
            else:
                view.flagged.update({name for row in judged for name in view.flags(row, self._frames[row.frame])})
                view.add(entry, judged, latents)


@dataclass(frozen=True)
class _Known:
    id: str
    screen: int
    dimension: int
    row: int
    checksum: int
    frame: str
    source: str
    offset: bool


_KNOWN = """
SELECT c.id, s.screen, c.dimension, c.row, c.checksum, c.frame, c.source, c.offset
FROM shown s JOIN candidates c ON c.id = s.candidate WHERE s.screen > ? ORDER BY s.screen, s.slot
"""


class _View:
    """The judgements that fits for one frame use, by the rule of
    :meth:`diptych.prefer.ledger.ledger.Ledger.observations`, up to a position.
    """

    def __init__(self, frame: Frame, dimension: int, use_legacy: bool) -> None:
        self.dimension = dimension
        self._frame = frame
        self._use_legacy = use_legacy
        self.position = 0
        self.rows: dict[str, int] = {}
        self.screens: list[int] = []
        self.terms: list[Term] = []
        self.unused, self.flagged = Counter[str](), Counter[str]()
        self.damaged: set[str] = set()
        self.gathered = Gathered(dimension)

    def refuses(self, row: _Known, frame: Frame) -> str:
        """Why a candidate is left out, or the empty string."""
        if row.dimension != self.dimension:
            return "other dimension"
        if row.source == LEGACY:
            if not self._use_legacy:
                return "legacy"
            if row.offset:
                return "offset from an unknown anchor"
            # Only the prompt of an imported row is known.
            return "other prompt" if frame.prompt != self._frame.prompt else ""
        different = frame.differences(self._frame)
        if not different:
            return ""
        return "other size" if different[0] in ("width", "height") else f"other {different[0].replace('_', ' ')}"

    def flags(self, row: _Known, frame: Frame) -> tuple[str, ...]:
        """Settings in which a candidate that is used differs from the frame."""
        return () if row.source == LEGACY else frame.differences(self._frame, FLAGGED)

    def add(self, entry: JudgementRecord, judged: list[_Known], latents: dict[str, NDArray[np.float32] | None]) -> None:
        """Append a judgement, and rows for its new candidates, whose latents are given by id."""
        for row in sorted(judged, key=lambda row: row.row):
            if row.id not in self.rows and (latent := latents[row.id]) is not None:
                self.rows[row.id] = len(self.rows)
                self.gathered.append(latent)
                self.screens.append(row.screen)
        said = entry.judgement
        places = tuple(self.rows[name] for name in said.ids)
        self.terms.append(Term(said.kind, places, said.value, said.weight, entry.screen, entry.position))
