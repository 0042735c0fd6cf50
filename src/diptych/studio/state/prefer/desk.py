"""The desk: one open session, what is on its screen, and the answers that arrive. All tabs of a session share it.

Nothing here waits: answers are stored by a thread of their own, in order; decodes and fits run in others.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from diptych.errors import DiptychError, UnavailableError
from diptych.prefer.decoders.protocols import config_of, measured_text
from diptych.prefer.judgement import Candidate, Judgement
from diptych.prefer.session.answers import label_of
from diptych.prefer.session.changes import Change
from diptych.prefer.session.session import Session
from diptych.prefer.session.worker import BackgroundWorker
from diptych.runtime.logging import LOGGER
from diptych.studio.state.prefer.judging import Ack, judgements_of, listed, marks_of, settings_text
from diptych.studio.state.prefer.keys import Answers, Mode
from diptych.studio.state.prefer.lines import Filler, Line
from diptych.studio.state.prefer.screens import Screen, Tile, Tokens

ACTION_SECONDS = 6.0
"""Time for which the last action is shown, s."""

FIT_SECONDS = 1.0
"""Longest wait for the fit to the last answers before a new batch is proposed, s."""

PAIRS_AHEAD = 2
SERIALS = 8192
BREADCRUMBS = 20


class Desk:
    """What the Prefer page shows of one session.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    key : str
        Names the desk in addresses of pictures.
    mode : "batch", "queue", "pair" or "upload"
    answers : "rate", "best" or "stars"
    refresh : bool
        Whether one answer renews a whole batch.
    weight : float
        Of the answers that follow.
    patient : bool
        Whether the next pictures wait for the fit to the last answer.
    breadcrumbs : deque of str
        What was saved, latest first.
    saved : int
        Rows stored by this desk and not undone.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.key = session, secrets.token_hex(8)
        self.mode: Mode = "batch"
        self.answers: Answers = "rate"
        self.refresh, self.weight, self.patient = False, 1.0, False
        options = session.options
        self.lines: dict[Mode, Line] = {
            "batch": Line(options.batch, 0),
            "queue": Line(1, max(options.queue - 1, 1)),
            "pair": Line(2, PAIRS_AHEAD),
            "upload": Line(0, 0),
        }
        self.epoch, self.problem = 0, ""
        self.breadcrumbs: deque[str] = deque(maxlen=BREADCRUMBS)
        self.base, self.saved = session.rows, 0
        self._action: tuple[str, float] = ("", 0.0)
        self._tokens = Tokens()
        self._pictures: dict[str, str] = {}
        self._serials: OrderedDict[str, Ack] = OrderedDict()
        self._listeners: dict[object, Callable[[], None]] = {}
        self._worker = BackgroundWorker("diptych desk")
        self._filler = Filler(self._prepared, self._arrived)
        self._unsubscribe = session.on_change(self._changed)

    # What pages read.

    @property
    def line(self) -> Line:
        """The screens of the mode that is chosen."""
        return self.lines[self.mode]

    @property
    def last_action(self) -> str:
        """What was done last, for :data:`ACTION_SECONDS`; then empty."""
        text, since = self._action
        return text if time.monotonic() - since < ACTION_SECONDS else ""

    def view(self) -> dict[str, Any]:
        """What the browser draws, as JSON values; see ``components/stage/stage.js``."""
        line = self.line
        current = [] if line.current is None else [self._tile(tile) for tile in line.current.tiles]
        return {
            "desk": self.key,
            "mode": self.mode,
            "answers": self.answers,
            "epoch": self.epoch,
            "number": line.number,
            "tiles": current,
            "ahead": [[self._tile(tile) for tile in screen.tiles] for screen in list(line.ahead)[:3]],
            "coming": line.coming,
            "problem": self.problem or line.problem,
        }

    def picture(self, pixels: str) -> str | None:
        """File name, in the ledger, of the picture with a hash that was put on a screen; None for others."""
        return self._pictures.get(pixels)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after every change, from any thread, until the function that is returned is called."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    # What the person does.

    def start(self) -> None:
        """Decode the first pictures of the mode."""
        self._filler.fill(self.line)

    def choose(self, mode: Mode | None = None, answers: Answers | None = None) -> None:
        """Choose another mode, or another kind of answer."""
        self.mode, self.answers = mode or self.mode, answers or self.answers
        self._told(f"Mode: {self.mode}" if mode else f"Answers: {self.answers}", again=True)
        self.start()

    def renew(self) -> Future[None]:
        """Put another screen in place of the current one, which stays unjudged."""
        return self._worker.submit("renew", self._renew)

    def retry(self) -> None:
        """Repeat what failed: storing what is shown, or a decode."""
        self.problem = self.line.problem = ""
        self._worker.submit("present", lambda: self._present(self.line.current))
        self.start()

    def answer(self, message: Mapping[str, Any]) -> Future[Ack]:
        """Store an answer of the browser: ``serial``, ``act``, ``value`` and ``pictures`` ``[{"token", "hash"}]``, the
        chosen one first. Nothing raises: the acknowledgement says whether rows were stored.
        """
        return self._worker.submit("answer", lambda: self._answer(dict(message)))

    def undo(self) -> Future[Ack]:
        """Undo the last answer, and show its pictures again."""
        return self._worker.submit("undo", self._undo)

    def offer(self, candidates: Sequence[Candidate], mode: Mode = "upload") -> Future[None]:
        """Put pictures on the screen of a mode, to be judged."""
        screen = Screen([self._new_tile(one) for one in candidates])
        return self._worker.submit("offer", lambda: self._offered(screen, mode))

    def tell(self, text: str) -> None:
        """Show a line as the last action."""
        self._told(text)

    def close(self) -> None:
        """Stop decoding ahead and store what was answered. The session stays open."""
        self._unsubscribe()
        self._listeners.clear()
        self._filler.close()
        self._worker.close()

    # In the thread that stores.

    def _answer(self, message: dict[str, Any]) -> Ack:
        serial = str(message.get("serial", ""))[:64]
        if serial in self._serials:
            return self._serials[serial]
        try:
            ack = self._judged(message, serial)
            self.problem = ""
        except DiptychError as error:
            if isinstance(error, UnavailableError):
                self.problem = f"Not saved. {error}"
                self._put_back(message)
            ack = Ack(serial, 0, f"Not saved. {error}", error=True)
            self._told(ack.text, again=True)
        except Exception as error:
            LOGGER.exception("[data] an answer could not be stored")
            ack = Ack(serial, 0, f"Not saved ({type(error).__name__}: {error}). The log has the details.", error=True)
            self._told(ack.text, again=True)
        self._serials[serial] = ack
        while len(self._serials) > SERIALS:
            self._serials.popitem(last=False)
        return ack

    def _judged(self, message: dict[str, Any], serial: str) -> Ack:
        screen, tiles = self._tokens.named(listed(message.get("pictures")))
        if not screen.shown:
            self._record(screen)
        judgements = judgements_of(message, [tile.candidate.id for tile in tiles], len(screen.tiles), self.weight)
        marks = marks_of(message, tiles)
        if all(tile.mark == mark for tile, mark in marks):
            return Ack(serial, 0, "Saved already.")
        line = self.line
        if any(tile.mark for tile in tiles):
            if screen is not line.current:
                return Ack(serial, 0, "Judged already, perhaps in another tab; the first answer counts.")
            self._take_off(screen, {position for tile in tiles for position in tile.positions})
        before = self.session.ledger.position
        last = self.session.tell(*judgements)
        self.saved += len(judgements)
        names = {one.ids for one in judgements}
        stored = (event for event in self.session.ledger.events(before) if event.judgement is not None)
        positions = tuple(event.position for event in stored if event.candidates in names)
        for tile, mark in marks:
            tile.mark, tile.positions = mark, positions
        self._saved(judgements, last)
        finished = not screen.open or (self.refresh and line.depth == 0 and line.size > 0)
        if finished and screen is line.current:
            self._next(line)
        self._notify()
        return Ack(serial, len(judgements), self._action[0])

    def _saved(self, judgements: tuple[Judgement, ...], position: int) -> None:
        said = ", ".join(dict.fromkeys(label_of(one) for one in judgements))
        number, where = self.base + self.saved, self.session.ledger.folder.name
        text = f"Saved sample #{number} → {where}, position {position}"
        self.breadcrumbs.appendleft(f"{text} ({said})")
        self._told(f"{text} ({said})")

    def _next(self, line: Line) -> None:
        if self.refresh and line.depth == 0 and line.current is not None and line.current.open:
            for tile in line.current.open:
                tile.mark = "not judged"
        if line.advance():
            self._present(line.current)
        self._filler.fill(line)

    def _renew(self) -> None:
        line = self.line
        if line.current is not None:
            for tile in line.current.open:
                tile.mark = "not judged"
            self.epoch += 1
            self._next(line)
            self._told("New pictures")

    def _undo(self) -> Ack:
        try:
            undone = self.session.take_back()
        except DiptychError as error:
            self._told(str(error))
            return Ack("", 0, str(error), error=True)
        self.saved -= len(undone.judgements)
        said = ", ".join(dict.fromkeys(label_of(one) for one in undone.judgements))
        again = self._show_again(undone.ids, undone.screen, set(undone.positions))
        whose = f" of {undone.whose}" if undone.whose else ""
        self._told(f"Undone: {said}{whose}{'' if again else ' (its picture belongs to another mode)'}", again=True)
        return Ack("", len(undone.judgements), self._action[0])

    def _show_again(self, names: tuple[str, ...], number: int, positions: set[int]) -> bool:
        """Put the screen of an undone answer in front; False if the mode shows another number of pictures."""
        screen = self._tokens.by_id(names)
        if screen is None:
            ledger = self.session.ledger
            ids = names if set(names) > set(ledger.screen(number)) else ledger.screen(number)
            found = [ledger.candidate(name) for name in ids]
            if any(one.image is None or one.dimension != self.session.dimension for one in found):
                return False
            screen = Screen([self._new_tile(one) for one in found])
            self._tokens.add(screen)
        for tile in screen.tiles:
            if positions & set(tile.positions) or tile.mark == "not judged":
                tile.mark, tile.positions = "", ()
        line = self.line
        if line.size and self.mode != "batch" and len(screen.tiles) != line.size:
            return False
        line.back(screen)
        self._caption(screen)
        return True

    def _take_off(self, screen: Screen, positions: set[int]) -> None:
        """Undo judgements of a screen, because the person changed their mind."""
        for position in sorted(positions):
            self.session.undo(position)
            self.saved -= 1
        for tile in screen.tiles:
            if positions & set(tile.positions):
                tile.mark, tile.positions = "", ()

    def _put_back(self, message: dict[str, Any]) -> None:
        """Show the picture again whose answer could not be stored: the browser may be ahead."""
        try:
            screen, _ = self._tokens.named(listed(message.get("pictures")))
        except DiptychError:
            return
        self.line.back(screen)

    def _offered(self, screen: Screen, mode: Mode) -> None:
        self._tokens.add(screen)
        self._caption(screen)
        line = self.lines[mode]
        line.back(screen)
        self.epoch += 1
        self._present(screen)
        self._notify()

    # From the thread that decodes, and after fits.

    def _prepared(self, size: int) -> Screen:
        if self.patient or self.mode == "batch":
            self._wait_for_fit()
        return Screen([self._new_tile(one) for one in self.session.prepare(size)])

    def _wait_for_fit(self) -> None:
        try:
            self.session.wait(None if self.patient else FIT_SECONDS)
        except UnavailableError as error:
            LOGGER.debug("[batch] proposed without the last fit: %s", error)

    def _arrived(self, line: Line, screen: Screen | None) -> None:
        def add() -> None:
            if screen is not None:
                self._tokens.add(screen)
                self._caption(screen)
                if line.arrive(screen):
                    self._present(screen)
                self._filler.fill(line)
            self._notify()

        self._worker.submit("arrive", add)

    def _changed(self, change: Change) -> None:
        if change.kind == "fit":
            self._worker.submit("captions", self._captions)

    def _captions(self) -> None:
        for screen in ([] if self.line.current is None else [self.line.current]) + list(self.line.ahead)[:2]:
            self._caption(screen)
        self._notify()

    # Parts.

    def _present(self, screen: Screen | None) -> None:
        """Record a screen as shown."""
        if screen is None or screen.shown:
            return
        try:
            self._record(screen)
        except DiptychError as error:
            self.problem = str(error)
        self._notify()

    def _record(self, screen: Screen) -> None:
        shown = self.session.show(*(tile.candidate for tile in screen.tiles))
        for tile, candidate in zip(screen.tiles, shown, strict=True):
            tile.candidate = candidate

    def _caption(self, screen: Screen) -> None:
        means = self.session.score([tile.candidate for tile in screen.tiles])[0]
        for number, (tile, mean) in enumerate(zip(screen.tiles, means, strict=True), 1):
            tile.caption = f"Item {number} • Value: {mean:.2f}" if np.isfinite(mean) else f"Item {number} • Value: n/a"

    def _new_tile(self, candidate: Candidate) -> Tile:
        settings = settings_text(config_of(self.session.decoder, candidate.latent))
        tile = Tile(candidate, note="; ".join(filter(None, (measured_text(candidate), settings))))
        assert candidate.image is not None
        self._pictures[tile.hash] = self.session.ledger.keep_image(candidate.image)
        return tile

    def _tile(self, tile: Tile) -> dict[str, Any]:
        about = {"token": tile.token, "hash": tile.hash, "caption": tile.caption, "note": tile.note, "mark": tile.mark}
        return {**about, "height": tile.size[0], "width": tile.size[1]}

    def _told(self, text: str, *, again: bool = False) -> None:
        """Show a line as the last action; ``again``: the browser takes the screen as it is here."""
        self._action = text, time.monotonic()
        self.epoch += again
        self._notify()

    def _notify(self) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener()
            except Exception:
                LOGGER.exception("[session] a page could not be updated")
