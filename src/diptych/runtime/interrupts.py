"""Requests to stop: signals held back until a step is done, signals raised as exceptions, cancel tokens, and the end of
a program whose threads are still busy.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems and ``kill`` send; both end a command in the same way."""

REPEAT_SECONDS = 1.0
"""A further SIGTERM this soon is the same request: ``timeout`` and batch systems send it to the process and once more
to its group. A person who presses Ctrl-C twice means it, however quickly."""


LEAVE_SECONDS = 0.3
"""Seconds that daemon threads have to end by themselves, all together."""


class Cancel:
    """A cancel token: whoever started a job sets it, and the job reads it between two steps.

    Examples
    --------
    >>> cancel = Cancel()
    >>> cancel.requested
    False
    >>> cancel.request()
    >>> cancel.requested
    True
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether the job shall stop, with its best state saved."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the job to stop; from any thread, and from a signal handler."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for a request; whether there is one."""
        return self._event.wait(seconds)


class Repeats:
    """Whether a signal is the one before it, sent once more: a SIGTERM soon after another (:data:`REPEAT_SECONDS`)."""

    def __init__(self) -> None:
        self._terminated = -float("inf")

    def __call__(self, number: int) -> bool:
        """Note a signal; True if it repeats the one before it."""
        if number != signal.SIGTERM:
            return False
        now = time.monotonic()
        if now - self._terminated < REPEAT_SECONDS:
            return True
        self._terminated = now
        return False


class RaiseKeyboardInterrupt:
    """Signal handler of the command line. First signal: KeyboardInterrupt, so that the best state can be saved. Second:
    the process ends at once with code 130. A SIGTERM that repeats the one before it (:data:`REPEAT_SECONDS`) is the
    same signal.
    """

    def __init__(self) -> None:
        self.signalled = False
        self._repeats = Repeats()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt on the first call, end the process on the second."""
        if self._repeats(number):
            return
        if self.signalled:
            # Only write() is safe here. The first bytes show the cursor again, in case a progress bar has hidden it.
            os.write(2, (b"\x1b[?25h" if os.isatty(2) else b"") + b"aborted at once; nothing more was saved.\n")
            os._exit(130)
        self.signalled = True
        raise KeyboardInterrupt


def install(handler: Any) -> None:
    """Make ``handler`` the handler of SIGINT and SIGTERM, whatever was inherited from the parent process.

    A shell starts background jobs (``command &``, ``nohup``) with SIGINT ignored; an explicit handler undoes that.
    """
    for number in SIGNALS:
        signal.signal(number, handler)


@contextmanager
def interrupts_after() -> Iterator[list[int]]:
    """Hold back SIGINT and SIGTERM until the block is done, so that the data it writes stay consistent. A second signal
    is passed to the previous handler at once, unless it is a SIGTERM that repeats the first (:data:`REPEAT_SECONDS`).

    Outside the main thread, which alone may handle signals, nothing changes.

    Yields
    ------
    list of int
        Empty until a signal comes, then its number; the caller acts on it after the block.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    repeats = Repeats()

    def note(number: int, frame: FrameType | None) -> None:
        if repeats(number):
            return
        if received:
            _pass_on(before[signal.Signals(number)], number, frame)
        received.append(number)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python, and cannot be installed from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_asked: ContextVar[Callable[[], bool] | None] = ContextVar("asked", default=None)


@contextmanager
def stoppable(asked: Callable[[], bool]) -> Iterator[None]:
    """Let :func:`stop_if_asked` end the block early once ``asked()`` is true."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def stop_if_asked() -> None:
    """Called between the steps of long trials, which change nothing that is kept: raises KeyboardInterrupt where the
    enclosing :func:`stoppable` block was asked to stop; does nothing outside of one.
    """
    asked = _asked.get()
    if asked is not None and asked():
        raise KeyboardInterrupt


def ends_process(number: int) -> bool:
    """Whether the present handler of a signal ends the process at once, so that nothing can be saved afterwards."""
    return signal.getsignal(number) == signal.SIG_DFL


def _pass_on(handler: Any, number: int, frame: FrameType | None) -> None:
    """Do what the previous handler of a signal does: call it, end the process (the default), or nothing (ignored)."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def end(code: int, before: Collection[threading.Thread] = ()) -> NoReturn:
    """End the program; only for the main thread of a program, never for a library.

    A daemon thread that computes when Python is finalised (an image that nobody waits for any more) is unwound at its
    next request for the interpreter lock. In the middle of native code, as torch's, that is "terminate called without
    an active exception" and SIGABRT instead of the exit code. Where such a thread is left, the process therefore ends
    without finalisation: after everything registered with ``atexit`` has run, and with its output flushed.

    Parameters
    ----------
    code : int
        The exit code.
    before : collection of Thread
        Threads of the time before the program began, which are not its own.
    """
    if not _left(before):
        sys.exit(code)
    # Sessions that were not closed, temporary folders, logs. It may take a second: a further signal ends it at once.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # A closed stream has nothing to flush.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _left(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Daemon threads that began later, and are alive after :data:`LEAVE_SECONDS`."""
    each = [thread for thread in threading.enumerate() if thread.daemon and thread not in before]
    for thread in each:
        thread.join(LEAVE_SECONDS / len(each))
    return [thread for thread in each if thread.is_alive()]
