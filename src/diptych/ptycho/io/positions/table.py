"""Positions as a file states them, before they are joined with patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = {"px": None, "m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "A": 1e-10, "pm": 1e-12}
"""Metres in one of each unit; None: object pixels."""


@dataclass(frozen=True)
class Table:
    """Positions of frames.

    Parameters
    ----------
    where : str
        The file, in messages.
    y, x : (K,) float64
        Coordinates.
    unit : str, optional
        One of :data:`UNITS`; None where the file does not state it.
    numbers : (K,) int64, optional
        Numbers of the frames; None: frame 0, 1, 2, ...
    said : str
        What was read from where, a sentence.
    probe : (P, N, N) complex, optional
        The probe that stands beside the positions.
    """

    where: str
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    unit: str | None
    numbers: NDArray[np.int64] | None
    said: str
    probe: NDArray[Any] | None = None


def unit_named(text: object) -> str | None:
    """The unit that an attribute names, in any of its usual spellings; None where it names no length."""
    name = str(text or "").strip().casefold().strip("[]")
    spelled = {"metre": "m", "meter": "m", "metres": "m", "meters": "m", "micron": "um", "microns": "um", "μm": "um"}
    spelled |= {"micrometer": "um", "micrometre": "um", "pixel": "px", "pixels": "px", "angstrom": "A", "å": "A"}
    spelled |= {"a": "A", "n_m": "nm", "millimeter": "mm", "millimetre": "mm", "nanometer": "nm", "nanometre": "nm"}
    name = spelled.get(name, name)
    return name if name in UNITS else None
