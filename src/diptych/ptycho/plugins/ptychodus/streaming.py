"""Long work in a thread of its own, and what it sends as an iterator: Ptychodus asks for results one by one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from diptych.runtime.interrupts import Cancel

Item = TypeVar("Item")
WAIT_S = 0.2


def streamed(work: Callable[[Callable[[Item], None], Cancel], None]) -> Iterator[Item]:
    """The items that ``work(send, cancel)`` sends, as they come; its error is raised here.

    Where the iterator is closed before its end, as Ptychodus does when the person presses Stop, the work is cancelled
    and its thread awaited.
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    cancel = Cancel()

    def put(kind: str, value: Any) -> None:
        # A full queue of an iterator that nobody reads any more must not hold the thread.
        while not cancel.requested:
            try:
                return items.put((kind, value), timeout=WAIT_S)
            except queue.Full:
                continue
        return None

    def run() -> None:
        try:
            work(lambda item: put("item", item), cancel)
        except BaseException as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=run, name="diptych", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        cancel.request()
        thread.join()
