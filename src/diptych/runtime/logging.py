"""Log handlers: a run's ``log.txt``, and warnings on the terminal.

Library code writes to ``logging.getLogger("diptych")`` and configures nothing. These context managers add handlers for
the duration of one command and remove them afterwards.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diptych.runtime.progress import Progress, ProgressCallback

LOGGER = logging.getLogger("diptych")
_SOURCES = (LOGGER, logging.getLogger("py.warnings"))


@contextmanager
def log_file(path: Path) -> Iterator[logging.Logger]:
    """Append everything of level INFO and above to ``path`` with UTC times; yield the logger.

    A file system that refuses a line (full, quota) costs that line, and one warning on standard error.
    """
    handler = _LogFile(path, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    try:
        with _attached(handler, logging.INFO):
            yield LOGGER
    finally:
        handler.close()


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show logged warnings and Python warnings, one line each, on standard error (and in an open log file)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logging.captureWarnings(True)
    try:
        with _attached(handler, logging.WARNING):
            yield
    finally:
        logging.captureWarnings(False)


def logged(callback: ProgressCallback) -> ProgressCallback:
    """``callback``, with each report also written to the log."""

    def report(progress: Progress) -> None:
        values = " ".join(f"{name}={value:.6g}" for name, value in progress.values.items())
        LOGGER.info("%s %d/%s %s", progress.stage, progress.done, progress.total or "?", values)
        callback(progress)

    return report


class _LogFile(logging.FileHandler):
    """A log file on a disk that may be full."""

    _warned = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn once; the default prints a traceback for every line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._warned:
            self._warned = True
            print(
                f"warning: {self.baseFilename}: could not be written ({error.strerror}); lines of the log are missing",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Close the file, whatever is left in its buffer."""
        with suppress(OSError):
            super().close()


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Captured Python warnings read "file:line: Category: message\n  source line"; only the message is shown.
        first = record.getMessage().splitlines()[0] if record.getMessage() else ""
        text = first.split(": ", 2)[-1] if record.name == "py.warnings" else record.getMessage()
        return f"{record.levelname.lower()}: {text}"


@contextmanager
def _attached(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setLevel(level)
    before = [source.level for source in _SOURCES]
    for source in _SOURCES:
        source.addHandler(handler)
        source.setLevel(min(level, source.level or level))
    try:
        yield
    finally:
        for source, old in zip(_SOURCES, before, strict=True):
            source.removeHandler(handler)
            source.setLevel(old)
