"""Ways to read a scan: orientation of the patterns, and which pattern belongs to which position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import reread
from diptych.ptycho.scan import Scan


@dataclass(frozen=True)
class Reading:
    """One way to read a scan.

    Parameters
    ----------
    name : str
        As shown.
    apply : callable
        From the scan as given to the scan as read.
    remedy : str
        What to do where this reading is the right one.
    changes : dict
        The options of ``load`` that make it; empty where there are none.
    """

    name: str
    apply: Callable[[Scan], Scan]
    remedy: str = ""
    changes: dict[str, Any] | None = None


AS_GIVEN = Reading("as given", lambda scan: scan, changes={})


def by_options(name: str, changes: dict[str, Any]) -> Reading:
    """A reading that options of ``load`` make."""
    flags = command_line(changes)
    python = ", ".join(f"{option}={value!r}" for option, value in changes.items())
    return Reading(
        name,
        lambda scan: reread(scan, LoadOptions(**changes)),
        f"pass {flags}, in Python load(FILE, {python})",
        changes,
    )


def command_line(changes: dict[str, Any]) -> str:
    """Flags of the command line for options of ``load``; ``nothing`` without any."""
    flags = (f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in changes.items())
    return " ".join(flags) or "nothing"


def orientations() -> list[Reading]:
    """The 7 other orientations of the patterns."""
    found = []
    for number in range(1, 8):
        turns = [what for bit, what in ((4, "transpose"), (2, "flip y"), (1, "flip x")) if number & bit]
        found.append(by_options(f"patterns: {', '.join(turns)} (orientation {number})", {"orientation": number}))
    return found


def frame_orders(scan: Scan) -> list[Reading]:
    """Other assignments of patterns to positions: one position late or early, file-name order undone, reversed.

    The right order is a matter of the file: no option of ``load`` changes it. Empty for fewer than three patterns.
    """
    patterns = len(scan)
    if patterns < 3:
        return []
    found = [frames_moved(-1), frames_moved(1)]
    by_name = np.array(sorted(range(patterns), key=lambda i: str(i + 1)))
    if (by_name != np.arange(patterns)).any():
        undone = np.argsort(by_name, kind="stable")
        found.append(
            _reordered(
                "frames: file-name order (1, 10, 11, ... 2) undone",
                undone,
                "the frames are sorted by name as text; sort them by number (in Python "
                "frames[np.argsort(sorted(range(n), key=lambda i: str(i + 1)))])",
            )
        )
    found.append(_reordered("frames: reversed", np.arange(patterns)[::-1], "reverse the frames or the positions"))
    return found


def frames_moved(by: int) -> Reading:
    """Frame i belongs to position i + ``by``, which is not zero."""
    many, way, sign = abs(by), "early" if by < 0 else "late", "-" if by < 0 else "+"
    ends = slice(many, None), slice(None, -many)
    frames, positions = ends if by < 0 else ends[::-1]

    def apply(scan: Scan) -> Scan:
        mask = scan.mask[frames] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
        return replace(scan, counts=scan.counts[frames], positions=scan.positions[positions], mask=mask, truth=None)

    number = "one" if many == 1 else str(many)
    remedy = (
        f"frame i belongs to position i {sign} {many}: leave out {number} frame{'s' * (many > 1)} at one end and "
        f"{number} position{'s' * (many > 1)} at the other when writing the file"
    )
    return Reading(f"frames: {number} position{'s' * (many > 1)} {way}", apply, remedy)


def _reordered(name: str, order: NDArray[np.int64], remedy: str) -> Reading:
    def apply(scan: Scan) -> Scan:
        mask = scan.mask[order] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
        return replace(scan, counts=np.ascontiguousarray(scan.counts[order]), mask=mask, truth=None)

    return Reading(name, apply, remedy)
