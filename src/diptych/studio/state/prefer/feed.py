"""The last lines of the log, for the page."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from diptych.runtime.logging import LOGGER

KEPT = 5000
"""Lines kept in memory."""

SHOWN = 200
"""Lines shown by default."""


class Feed(logging.Handler):
    """Keeps what the program logs; :meth:`attach` starts, and returns a function that ends it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: deque[str] = deque(maxlen=KEPT)
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(self.format(record))

    def tail(self, count: int = SHOWN) -> str:
        """The last ``count`` lines."""
        lines = list(self._lines)
        return "\n".join(lines[-count:] if count > 0 else [])

    def attach(self) -> Callable[[], None]:
        """Begin to keep lines of level INFO and above."""
        before = LOGGER.level
        LOGGER.addHandler(self)
        self.verbose(on=False)

        def detach() -> None:
            LOGGER.removeHandler(self)
            LOGGER.setLevel(before)

        return detach

    def verbose(self, *, on: bool) -> None:
        """Keep lines of level DEBUG too, or not."""
        LOGGER.setLevel(logging.DEBUG if on else logging.INFO)
