"""What a job function receives and returns.

A job function takes keyword arguments that JSON can hold and ``context``, and returns a :class:`Finished`. The same
function serves the command line, a thread and a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diptych.runtime.interrupts import Cancel
from diptych.runtime.progress import Progress, ProgressCallback


def silent(progress: Progress) -> None:
    """A progress callback that shows nothing."""


def _ignored(folder: Path) -> None:
    """For callers that need not know the run directory before the end."""


@dataclass(frozen=True)
class JobContext:
    """What a job function is told by whoever runs it, and tells back.

    Parameters
    ----------
    progress : callable
        Called with a :class:`~diptych.runtime.progress.Progress` after each step.
    cancel : Cancel
        Read between two steps: when requested, the function saves its best state and returns it as interrupted.
    opened : callable
        Called with the run directory as soon as the job has one.
    """

    progress: ProgressCallback = silent
    cancel: Cancel = field(default_factory=Cancel)
    opened: Callable[[Path], None] = _ignored


Ending = Literal["done", "interrupted"]


@dataclass(frozen=True)
class Finished:
    """What a job function returns.

    Parameters
    ----------
    data : dict
        The outcome as JSON values.
    status : {"done", "interrupted"}
        Whether the job ended by itself or was stopped, with its best state saved.
    """

    data: dict[str, Any]
    status: Ending = "done"


def ending(interrupted: bool) -> Ending:
    """The status of a job that ended by itself or was interrupted."""
    return "interrupted" if interrupted else "done"


def stopping(context: JobContext) -> ProgressCallback:
    """The progress callback of ``context`` for functions without a cancel parameter.

    It raises KeyboardInterrupt after a cancel request, which ends them as Ctrl-C does.
    """

    def report(progress: Progress) -> None:
        context.progress(progress)
        if context.cancel.requested:
            raise KeyboardInterrupt

    return report
