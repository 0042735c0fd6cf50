"""One line on standard error about work that takes longer than half a second: what, for how long, and how far."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from diptych.runtime.progress import Progress

FIRST = 0.5
"""Seconds after which work is reported; shorter work is not."""

AGAIN = 15.0
"""Seconds between two lines where standard error is no terminal, and lines cannot be overwritten."""


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
        self._shown = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="diptych status", daemon=True).start()

    def __call__(self, progress: Progress) -> None:
        """Note how far a stage is; the line shows the images and the stage within an image."""
        inner = "images" if progress.stage == "images" else "stage"
        total = f" of {progress.total}" if progress.total else ""
        name = progress.stage.split(":")[0]
        with self._lock:
            self._stages[inner] = f"{name} {progress.done}{total}"
            if inner == "images":
                self._stages.pop("stage", None)
                # Pictures of a screen that takes long can be looked at as they are made.
                if progress.note and self._work and time.monotonic() - self._began > FIRST:
                    self._clear()
                    self._write(f"image {progress.done}{total} is ready: {progress.note}\n")

    @contextmanager
    def doing(self, work: str) -> Iterator[None]:
        """Report ``work`` while the block runs, if it takes longer than half a second."""
        with self._lock:
            self._work, self._began, self._next = work, time.monotonic(), FIRST
            self._stages.clear()
        try:
            yield
        finally:
            with self._lock:
                self._work = ""
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
        parts = [f"{self._work}: {passed:.0f} s", *(self._stages[name] for name in sorted(self._stages))]
        line = f"{', '.join(parts)} (Ctrl-C stops)"
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


@contextmanager
def status() -> Iterator[Status]:
    """A :class:`Status` that ends with the block."""
    found = Status()
    try:
        yield found
    finally:
        found.close()
