"""Progress of long work: the engine says where it stands, the caller decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report from a long job.

    Parameters
    ----------
    stage : str
        What is being done, for instance ``"ml"`` or ``"download"``.
    done, total : int
        Steps finished and steps planned; ``total`` may be 0 when it is not known.
    values : dict
        Figures worth showing, for instance ``{"fit": 1.02}``.
    """

    stage: str
    done: int
    total: int
    values: dict[str, float] = field(default_factory=dict)


ProgressCallback = Callable[[Progress], None]
"""Called after each step. Raise :class:`KeyboardInterrupt` from it to stop the job as Ctrl-C would."""
