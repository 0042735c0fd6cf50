"""Flags of a result: what each kind is called, and lists of flags by kind. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ONE_PATTERN = "one pattern"
NO_OVERLAP = "no overlap"
OVER_FITTING = "over-fitting"
FEW_PHOTONS = "few photons"
MISREAD = "misread"
NO_READING = "no reading fits"
UNDECIDED = "reading not certain"
INTENSITY = "beam intensity"
POOR_FIT = "poor fit"
NOT_NOISE = "not limited by photon noise"
MOVED_FAR = "positions moved far"
MOVED = "positions"
MODES = "probe modes"
BACKGROUND = "background"
POINT_SPREAD = "point spread"
DISTANCE = "distance"
REGULARISED = "regularised"
SLICES = "slices"
VARIATION = "probe variation"
NETWORK = "network"
INTERRUPTED = "interrupted"

KINDS = (
    ONE_PATTERN,
    NO_OVERLAP,
    OVER_FITTING,
    FEW_PHOTONS,
    MISREAD,
    NO_READING,
    UNDECIDED,
    INTENSITY,
    POOR_FIT,
    NOT_NOISE,
    MOVED_FAR,
    MOVED,
    MODES,
    BACKGROUND,
    POINT_SPREAD,
    DISTANCE,
    REGULARISED,
    SLICES,
    VARIATION,
    NETWORK,
    INTERRUPTED,
)
"""Every kind, in the order in which flags are listed."""

NOTES = (
    FEW_PHOTONS,
    UNDECIDED,
    MOVED,
    MODES,
    BACKGROUND,
    POINT_SPREAD,
    DISTANCE,
    REGULARISED,
    SLICES,
    VARIATION,
    NETWORK,
)
"""Kinds that state a limit of the data or what was done, not a fault."""


@dataclass(frozen=True)
class Flag:
    """One statement about a result.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    text : str
        What was found, and what to try.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def by_kind(flags: Iterable[str]) -> dict[str, list[str]]:
    """Texts of flags by kind; those that the reconstruction did not write (of a file's reader) stand under ``other``.

    Examples
    --------
    >>> by_kind(["over-fitting: fit 0.61, held out 2.84", "the file holds no positions"])
    {'over-fitting': ['fit 0.61, held out 2.84'], 'other': ['the file holds no positions']}
    """
    found: dict[str, list[str]] = {}
    for flag in flags:
        kind, colon, text = str(flag).partition(": ")
        if not colon or kind not in KINDS:
            kind, text = "other", str(flag)
        found.setdefault(kind, []).append(text)
    return found


def known_kinds(flags: Iterable[str]) -> list[str]:
    """Kinds of the flags that the reconstruction wrote."""
    return [kind for kind in by_kind(flags) if kind in KINDS]


def faults(flags: Iterable[str]) -> tuple[str, ...]:
    """Kinds of the flags that are not mere notes (:data:`NOTES`)."""
    return tuple(kind for kind in by_kind(flags) if kind not in NOTES)


def wrong_reading(flags: Iterable[str]) -> bool:
    """Whether flags say that the scan as read cannot be right."""
    return not {MISREAD, NO_READING}.isdisjoint(by_kind(flags))
