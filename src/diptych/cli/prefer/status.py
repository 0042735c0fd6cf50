"""One line on standard error about work that takes longer than half a second: what, for how long, and how far."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from diptych.errors import InputError, UnavailableError
from diptych.prefer.session.changes import AHEAD, IMAGES, TRIED
from diptych.runtime.progress import Progress

if TYPE_CHECKING:
    from diptych.prefer.session.session import Session

FIRST = 0.5
"""Seconds after which work is reported; shorter work is not."""

AGAIN = 15.0
"""Seconds between two lines where standard error is no terminal, and lines cannot be overwritten."""

SILENT = 2.0
"""Seconds without a report from which the line says so."""


SETTLING = 1.0
"""Most seconds that a new screen waits for the fit to the last answer."""


def settle(session: Session) -> None:
    """Wait for the fit to the last answer, so that the next screen learns from it; not where fits are held back, nor
    where images are made ahead one at a time.
    """
    if session.options.fit_interval <= SETTLING and session.options.batch > 1:
        # A fit that failed, or takes longer, is reported beside the values.
        with suppress(UnavailableError, InputError):
            session.wait(SETTLING)


def drop_what_was_typed() -> None:
    """Drop lines that were typed at a terminal before the screen that they would judge was shown."""
    if sys.stdin.isatty() and os.name == "posix":
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


class Status:
    """Reports the work that is under way, from a thread of its own, so that work without progress is reported too.

    Call it with a :class:`~diptych.runtime.progress.Progress` for how far the work is.

    Parameters
    ----------
    stream : text file, optional
        Standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._work, self._began, self._next = "", 0.0, 0.0
        self._stages: dict[str, str] = {}
        self._reported = 0.0
        self._shown = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="diptych status", daemon=True).start()

    def __call__(self, progress: Progress) -> None:
        """Note how far a stage is; the line shows the images and the stage within an image.

        Counts are those of images that are made, so the one under way is named by the next number.
        """
        total = f" of {progress.total}" if progress.total else ""
        name = progress.stage.split(":")[0]
        with self._lock:
            if progress.stage not in (IMAGES, TRIED, AHEAD):
                self._stages["within"], self._reported = f"{name} {progress.done}{total}", time.monotonic()
                return
            self._stages = {"images": _under_way(progress)}
            # Pictures of a screen that takes long can be looked at as they are made.
            long = self._work and time.monotonic() - self._began > FIRST
            if progress.stage == IMAGES and progress.note and long:
                self._clear()
                self._write(f"image {progress.done}{total} is ready: {progress.note}\n")

    @contextmanager
    def doing(self, work: str) -> Iterator[None]:
        """Report ``work`` while the block runs, if it takes longer than half a second."""
        with self._lock:
            # What is under way stays: it may be an image for a later screen, which has to be finished first.
            self._work, self._began, self._next = work, time.monotonic(), FIRST
        try:
            yield
        finally:
            with self._lock:
                self._work = ""
                self._stages = {}
                self._clear()

    def close(self) -> None:
        """End the reports."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(0.25):
            with self._lock:
                passed = time.monotonic() - self._began
                if self._work and passed >= self._next:
                    self._print(passed)
                    self._next = passed + (1.0 if self._terminal else AGAIN)

    def _print(self, passed: float) -> None:
        parts = [f"{self._work}: {passed:.0f} s", *(text for _, text in sorted(self._stages.items()) if text)]
        if "within" in self._stages and (age := time.monotonic() - self._reported) > SILENT:
            parts[-1] += f", {age:.0f} s ago"
        line = f"{', '.join(parts)} (Ctrl-C stops)"
        if self._terminal:
            # A line that wraps could not be overwritten.
            line = line[: shutil.get_terminal_size().columns - 1]
        self._write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._shown = self._terminal

    def _clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # standard error was closed: there is nobody to tell
            self._ended.set()


def _under_way(progress: Progress) -> str:
    """Which image is being made, and what for."""
    number, total = min(progress.done + 1, progress.total), progress.total
    if progress.stage == TRIED:
        return f"trying {number} of {total} settings"
    if progress.stage == AHEAD:
        return "" if progress.done else "first finishing an image for a later screen"
    return f"image {number} of {total}"


@contextmanager
def status() -> Iterator[Status]:
    """A :class:`Status` that ends with the block."""
    found = Status()
    try:
        yield found
    finally:
        found.close()
