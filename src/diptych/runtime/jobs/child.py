"""A job in a process of its own: the child's side, ``python -m diptych.runtime.jobs.child``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from diptych.runtime.cpu.parallel import torch_threads
from diptych.runtime.interrupts import Cancel, install
from diptych.runtime.jobs.context import Finished, JobContext
from diptych.runtime.jobs.job import Pace, explain, preview_of
from diptych.runtime.jobs.process import GRACE_SECONDS, encode
from diptych.runtime.jobs.queue import resolve
from diptych.runtime.progress import Progress
from diptych.runtime.run_directory import plain

REPORT_SECONDS = 0.05
"""Shortest time between two reports of progress, s."""


class Channel:
    """Events to the parent, one JSON object per line; nobody reads them once the parent has ended.

    Parameters
    ----------
    stream : text file
        What the parent reads.
    lost : callable
        Called when the parent has ended.
    """

    def __init__(self, stream: IO[str], lost: Callable[[], None] = lambda: None) -> None:
        self._stream, self._lock, self._lost = stream, threading.Lock(), lost
        self._reported, self._pace = float("-inf"), Pace()

    def send(self, event: str, **values: Any) -> None:
        """Write one event. An error here would end the work before it has saved its state."""
        with self._lock:
            try:
                self._stream.write(json.dumps({"event": event, **plain(values)}) + "\n")
                self._stream.flush()
            except BrokenPipeError:
                self._lost()

    def progress(self, progress: Progress) -> None:
        """Send a report, unless one was sent just before; with a preview where one is due."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and progress.done < progress.total:
            return
        self._reported = now
        if progress.preview is None or not self._pace.due:
            self._report(progress, "")
            return
        with self._pace.making():
            images = preview_of(progress)
            self._report(progress, encode(images) if images else "")

    def _report(self, progress: Progress, preview: str) -> None:
        self.send(
            "progress",
            stage=progress.stage,
            done=progress.done,
            total=progress.total,
            values=progress.values,
            preview=preview,
        )

    def opened(self, folder: Path) -> None:
        """Send the run directory."""
        self.send("opened", folder=folder.resolve())


def main() -> None:
    """Read a call from standard input, run it, and write events to what was standard output.

    What the work prints goes to standard error.
    """
    cancel = Cancel()
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"), lambda: _abandoned(cancel))
    os.dup2(2, 1)
    call = json.loads(sys.stdin.readline())
    install(lambda number, frame: cancel.request())
    threading.Thread(target=_listen, args=(cancel,), daemon=True).start()
    try:
        with torch_threads(call["threads"]):
            finished = resolve(call["work"])(
                **call["arguments"], context=JobContext(channel.progress, cancel, channel.opened)
            )
        assert isinstance(finished, Finished), f"{call['work']} returned a {type(finished).__name__}"
        channel.send("finished", data=finished.data, status=finished.status)
    except KeyboardInterrupt:
        channel.send("cancelled")
    except BaseException as error:
        channel.send("failed", error=explain(error), traceback=traceback.format_exc())


def _listen(cancel: Cancel) -> None:
    """Take requests of the parent. When standard input ends, the parent has: stop, and do not outlive it for long."""
    for line in sys.stdin:
        if line.strip() == "cancel":
            cancel.request()
    _abandoned(cancel)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _abandoned(cancel: Cancel) -> None:
    """Stop, and save: the parent has ended. What is printed from now on would be an error, and goes nowhere."""
    cancel.request()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    main()
