"""A worker of :class:`~diptych.runtime.schedulers.pools.ProcessPool`: ``python -m diptych.runtime.schedulers.worker``.

It reads one task per line from standard input and writes one answer per line to what was standard output; what the work
prints goes to standard error. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading

from diptych.runtime.interrupts import RaiseKeyboardInterrupt, install
from diptych.runtime.schedulers.tasks import answer


def main() -> None:
    """Serve tasks until standard input ends."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    install(RaiseKeyboardInterrupt())
    tasks: list[str] = []
    ready, ended = threading.Condition(), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            with ready:
                tasks.append(line)
                ready.notify()
        ended.set()
        with ready:
            ready.notify()
            # The parent has gone: a task that runs is of no use to anyone who would read its answer.
            if busy.is_set():
                os.kill(os.getpid(), 15)

    busy = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    try:
        while True:
            with ready:
                while not tasks and not ended.is_set():
                    ready.wait()
                if ended.is_set():
                    return
                text = tasks.pop(0)
                busy.set()
            result = answer(text)
            busy.clear()
            output.write(result + "\n")
            output.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)


if __name__ == "__main__":
    main()
