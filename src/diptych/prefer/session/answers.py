"""Answers: the judgements that were given together, and that are undone together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.ledger.reading import LEGACY, JudgementRecord
from diptych.runtime.logging import LOGGER
from diptych.runtime.provenance import utc_now

SIMULATED = "simulated"
"""Source of judgements that no person made."""


@dataclass(frozen=True)
class Undone:
    """An answer that no longer counts.

    Attributes
    ----------
    positions : tuple of int
        Positions of its judgements in the ledger, in order.
    judgements : tuple of Judgement
    screen : int
        The screen that was judged.
    whose : str
        Who gave the answer, if it was not this session object; otherwise empty.
    """

    positions: tuple[int, ...]
    judgements: tuple[Judgement, ...]
    screen: int
    whose: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """The images that were judged."""
        return tuple(dict.fromkeys(name for judgement in self.judgements for name in judgement.ids))


class Answers:
    """Stores answers in a ledger and undoes them, the last one first: those of this object, then those that earlier
    sessions and other processes gave. For the latter, judgements in a row on one screen are one answer.

    Parameters
    ----------
    ledger : Ledger
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._own: list[tuple[int, ...]] = []
        self._opened = utc_now()
        self._lock = threading.Lock()

    def tell(self, judgements: Sequence[Judgement], source: str = "") -> tuple[int, ...]:
        """Store the judgements of one answer; returns their positions."""
        positions: list[int] = []
        with self._lock:
            try:
                for judgement in judgements:
                    positions.append(self._ledger.judge(judgement, source))
            finally:
                if positions:
                    self._own.append(tuple(positions))
        return tuple(positions)

    def undo(self) -> Undone:
        """Undo the last answer. Imported rows are kept.

        Raises
        ------
        InputError
            If there is nothing to undo.
        """
        with self._lock:
            live = {said.position: said for said in self._ledger.judgements() if said.source != LEGACY}
            while self._own:
                if found := [live[position] for position in self._own.pop() if position in live]:
                    return self._undone(found, "")
            found = _last_answer(list(live.values()))
            return self._undone(found, self._whose(found[0]) if found else "")

    def _undone(self, answer: list[JudgementRecord], whose: str) -> Undone:
        if not answer:
            self._ledger.undo()  # raises the error for a ledger without judgements
        for said in reversed(answer):
            self._ledger.undo(said.position)
        return Undone(
            tuple(said.position for said in answer),
            tuple(said.judgement for said in answer),
            answer[0].screen if answer else 0,
            whose,
        )

    def _whose(self, said: JudgementRecord) -> str:
        """Who gave an answer that is not of this object: an earlier run, or a process that has the session open, too.
        The key of the image's proposal has the process that showed it.
        """
        time = said.judgement.time
        if said.source == SIMULATED:
            return f"the simulated person, at {time}"
        if time <= self._opened:
            return f"an earlier run of this session, at {time}"
        key = self._ledger.candidate(said.judgement.ids[0], image=False).provenance.get("key", ())
        process = int(key[3]) if len(key) > 3 else 0
        if process in (0, os.getpid()):
            return f"another program that had this session open, at {time}"
        return f"process {process}, which had this session open, at {time}"


def _last_answer(live: list[JudgementRecord]) -> list[JudgementRecord]:
    """The last judgements in a row that are of one screen."""
    first = len(live)
    while first > 0 and live[first - 1].screen == live[-1].screen:
        first -= 1
    return live[first:]


def counted(judgements: int, skips: int = 0) -> str:
    """A number of judgements in words, with that of the skips beside it where there are any."""
    numbers = [(judgements, "judgement"), *([(skips, "skip")] if skips else [])]
    return ", ".join(f"{number} {what}{'' if number == 1 else 's'}" for number, what in numbers)


def unanswered(ledger: Ledger, frame: Frame, dimension: int) -> list[tuple[Candidate, ...]]:
    """Screens that were shown after the last judgement and wait for one, of images of a frame and dimension; the latest
    first.
    """
    found = [tuple(ledger.candidate(name) for name in names) for names in ledger.open_screens()]
    return [
        screen for screen in found if all(one.image is not None and _is_of(one, frame, dimension) for one in screen)
    ]


def shown_latents(ledger: Ledger, frame: Frame, dimension: int) -> list[NDArray[np.float32]]:
    """Latents (d,) of the images of a frame and dimension that were shown, judged or not, in order."""
    screens = (event.candidates for event in ledger.events() if event.kind == "screen" and not event.source)
    found = (ledger.candidate(name, image=False) for name in dict.fromkeys(chain.from_iterable(screens)))
    return [one.latent for one in found if _is_of(one, frame, dimension)]


def last_judged(ledger: Ledger, frame: Frame, dimension: int, besides: Sequence[str]) -> tuple[str, ...]:
    """Ids of the images, of a frame and dimension, on the screen that was judged last; another one than ``besides``.
    Empty if there is none.
    """
    live = [said.screen for said in ledger.judgements() if said.source != LEGACY]
    for number in dict.fromkeys(reversed(live)):
        names = ledger.screen(number)
        if names != tuple(besides) and _is_of(ledger.candidate(names[0], image=False), frame, dimension):
            return names
    return ()


def _is_of(one: Candidate, frame: Frame, dimension: int) -> bool:
    return one.dimension == dimension and not one.frame.differences(frame)


def saved(ledger: Ledger, judgements: Sequence[Judgement], positions: Sequence[int]) -> None:
    """Log the lines of stored judgements."""
    rows = ledger.rows if LOGGER.isEnabledFor(logging.INFO) else 0
    for judgement, position in zip(judgements, positions, strict=True):
        LOGGER.info(
            "[data] saved sample #%d label=%s rows_disk=%d rows_live=%d", position, label_of(judgement), rows, rows
        )


def label_of(judgement: Judgement) -> str:
    """A judgement in short: ``+1`` and ``-1`` for good and bad, otherwise its kind, with the number of stars."""
    if judgement.kind == "rate":
        return "+1" if judgement.value else "-1"
    return f"{judgement.kind}{judgement.value}" if judgement.kind == "stars" else judgement.kind
