"""Notifications of changes of a session, and stages of its progress, for user interfaces."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from diptych.errors import InputError
from diptych.prefer.session.worker import Worker
from diptych.runtime.logging import LOGGER

IMAGES, TRIED, AHEAD = "images", "settings tried", "images for later screens"
"""Stages of progress: images of a screen, those that a screen is chosen from, and those that nobody waits for."""


@dataclass(frozen=True)
class Change:
    """What changed.

    Attributes
    ----------
    kind : "fit", "decode", "judgement" or "undo"
        A fit finished or failed, an image was decoded, a judgement was stored, or one was undone.
    position : int
        Position of the ledger: up to which the fit goes, or of the judgement; 0 for a decode.
    """

    kind: Literal["fit", "decode", "judgement", "undo"]
    position: int = 0


Callback = Callable[[Change], None]


class Changes:
    """Calls callbacks after changes, on a worker, so that neither fits nor decodes nor callers wait for them.

    Parameters
    ----------
    worker : Worker
        Where callbacks run, one at a time, in order.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._callbacks: dict[object, Callback] = {}

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` after each change, until the function that is returned is called."""
        key = object()
        with self._lock:
            self._callbacks[key] = callback

        def unsubscribe() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return unsubscribe

    def notify(self, kind: Literal["fit", "decode", "judgement", "undo"], position: int = 0) -> None:
        """Report a change. Does nothing without callbacks, or when the session is closed."""
        if self._callbacks:
            try:
                self._worker.submit(kind, lambda: self._call(Change(kind, position)))
            except InputError:
                LOGGER.debug("[session] closed; %s not reported", kind)

    def _call(self, change: Change) -> None:
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback(change)
            except Exception:
                LOGGER.exception("[session] a callback of on_change failed after a %s", change.kind)
