"""The screens of one mode: the one that is looked at, and those that are decoded ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from diptych.errors import DiptychError, InputError
from diptych.prefer.session.worker import BackgroundWorker
from diptych.runtime.logging import LOGGER
from diptych.studio.state.prefer.screens import Screen


class Line:
    """Screens in the order in which they are shown.

    Parameters
    ----------
    size : int
        Pictures on a screen; 0 where screens come only from elsewhere (uploads).
    ahead : int
        Screens that are decoded ahead; 0: the next one is decoded when the current one is finished.

    Attributes
    ----------
    current : Screen or None
    ahead : deque of Screen
    number : int
        Counts the screens; the browser may be one or more ahead.
    coming : bool
        Whether a screen is being decoded.
    problem : str
        Why the last decode failed; empty if it did not.
    """

    def __init__(self, size: int, ahead: int) -> None:
        self.size, self.depth = size, ahead
        self.current: Screen | None = None
        self.ahead: deque[Screen] = deque()
        self.number = 1
        self.coming = False
        self.problem = ""

    @property
    def remaining(self) -> int:
        """Pictures that are ready, the current one included."""
        screens = ([] if self.current is None else [self.current]) + list(self.ahead)
        return sum(len(screen.open) for screen in screens)

    @property
    def missing(self) -> bool:
        """Whether another screen should be decoded."""
        if not self.size:
            return False
        if self.current is None or not self.current.open:
            return not self.ahead
        return len(self.ahead) < self.depth

    def advance(self) -> bool:
        """Go to the next screen; whether there is one. Without one, finished pictures of a batch stay."""
        if not self.ahead and self.depth == 0 and self.size:
            return False
        for tile in [] if self.current is None else self.current.tiles:
            tile.release()
        self.current = self.ahead.popleft() if self.ahead else None
        self.number += 1
        return self.current is not None

    def arrive(self, screen: Screen) -> bool:
        """Add a decoded screen; whether it is the current one now."""
        if self.current is None:
            self.current = screen
            return True
        self.ahead.append(screen)
        return not self.current.open and self.advance()

    def back(self, screen: Screen) -> None:
        """Show an earlier screen again; the current one follows it."""
        if screen in self.ahead:
            self.ahead.remove(screen)
        if self.current is not None and self.current is not screen and self.current.open:
            self.ahead.appendleft(self.current)
        self.current = screen


class Filler:
    """Decodes what is missing in a line, in a thread of its own.

    Parameters
    ----------
    make : callable
        ``make(size)`` proposes and decodes a screen.
    arrived : callable
        Called with the line and the screen, or with None when the decode failed.
    """

    def __init__(self, make: Callable[[int], Screen], arrived: Callable[[Line, Screen | None], None]) -> None:
        self._make, self._arrived = make, arrived
        self._worker = BackgroundWorker("diptych ahead")
        self._lock = threading.Lock()

    def fill(self, line: Line) -> None:
        """Request the next missing screen, unless one is coming; does nothing when closed."""
        with self._lock:
            if line.coming or not line.missing:
                return
            line.coming = True
        try:
            self._worker.submit("decode ahead", lambda: self._run(line))
        except InputError:
            line.coming = False

    def close(self) -> None:
        """Finish the running decode and start no other."""
        self._worker.close()

    def _run(self, line: Line) -> None:
        screen: Screen | None = None
        try:
            screen = self._make(line.size)
            line.problem = ""
        except DiptychError as error:
            line.problem = str(error)
        except Exception as error:
            LOGGER.exception("[queue] the decode failed")
            line.problem = f"The decode failed ({type(error).__name__}: {error}). The log has the details."
        line.coming = False
        self._arrived(line, screen)
