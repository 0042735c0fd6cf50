"""Ctrl-C that waits for a good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_after() -> Iterator[list[int]]:
    """Let a Ctrl-C wait until the block is done, so that what it writes to is never left half done. A second one is not
    held back.

    Outside the main thread, which alone may handle signals, nothing changes.

    Yields
    ------
    list of int
        Empty until a Ctrl-C comes, then the signal's number: whoever entered the block acts on it.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if asked and callable(before):
            before(number, frame)
        asked.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
