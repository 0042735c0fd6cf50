"""Checks of numbers: reals, integers, energies, pixel sizes, types."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError


def numeric(value: Any, what: str, expected: str) -> NDArray[Any]:
    """``value`` as an array of numbers in this machine's byte order (torch accepts no other).

    Raises
    ------
    InputError
        If it is ragged, or holds text, truth values or Python objects; ``what`` and ``expected`` are its parts.
    """
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(what, f"cannot be read as an array ({error})", expected) from None
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.timedelta64):
        kind = "Python objects" if array.dtype == object else f"type {array.dtype}"
        # The text may come from a file, and be long.
        found = f"an array of {kind}" if array.ndim else textwrap.shorten(repr(array.item()), 60)
        raise InputError(what, f"found {found}", expected)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def positive(value: Any, what: str) -> float:
    """A finite positive number as a float."""
    expected = "a finite positive number, or None when it is not known"
    if isinstance(value, bool) or np.ndim(array := numeric(value, what, expected)) != 0 or np.iscomplexobj(array):
        raise InputError(what, f"found {value!r}", expected)
    number = float(array)
    if not (np.isfinite(number) and number > 0):
        raise InputError(what, f"found {number:g}", expected)
    return number


PLAUSIBLE_EV: dict[str, tuple[tuple[float, float], ...]] = {
    "photon": ((0.1, 4.5), (20.0, 1e6)),
    "electron": ((1e3, 1e7),),
}
"""Energies at which diffraction is measured, in eV: light, extreme ultraviolet to hard X-rays; electron microscopes.

From 4.5 to 20 eV the air and every lens absorb; a number there is an X-ray energy in keV.
"""

_UNITS_EV = {"J": 6.241509074460763e18, "keV": 1e3, "MeV": 1e6}


def particle(value: Any, what: str) -> None:
    """Check the name of a particle."""
    if value not in PLAUSIBLE_EV:
        raise InputError(what, f"found {value!r}", "'photon' or 'electron'")


def plausible_energy(energy: float, particle: str, what: str) -> None:
    """Check an energy in eV against what is measured with the particle; say what it would be in other units."""
    if _plausible(energy, particle):
        return
    readings = [
        f"{energy * factor:.4g} eV if it is in {unit}"
        for unit, factor in _UNITS_EV.items()
        if any(_plausible(energy * factor, each) for each in PLAUSIBLE_EV)
    ]
    other = "electron" if particle == "photon" else "photon"
    remedy = f"Pass particle='{other}' (--particle {other}) if it is one." if _plausible(energy, other) else ""
    ranges = " or ".join(f"{low:g} to {high:g}" for low, high in PLAUSIBLE_EV[particle])
    raise InputError(
        what,
        f"{energy:.4g} eV" + (f" ({', '.join(readings)})" if readings else ""),
        f"the energy of a {particle} in eV, {ranges}",
        remedy or "Pass the right one with energy_eV=... (--energy-eV), and the particle (--particle).",
    )


def _plausible(energy: float, particle: str) -> bool:
    return any(low <= energy <= high for low, high in PLAUSIBLE_EV[particle])


def pixel_sides(value: Any, what: str) -> tuple[float, float]:
    """Height and width of a pixel in metres from a pair, or from one number for a square pixel."""
    array = numeric(value, what, "one or two numbers (y, x), in metres")
    if array.shape not in ((), (1,), (2,)):
        raise InputError(what, f"has shape {array.shape}", "one or two numbers (y, x), in metres")
    y, x = np.broadcast_to(array, 2)
    return positive(y, f"{what} (y)"), positive(x, f"{what} (x)")


def whole(value: Any, what: str, expected: str) -> int:
    """A whole number as an int; 2.0 is one, 2.5 and True are none."""
    if isinstance(value, bool | np.bool_):
        raise InputError(what, f"found {value}", expected)
    array = numeric(value, what, expected)
    if array.ndim != 0 or np.iscomplexobj(array) or not np.isfinite(array) or array != np.rint(array):
        raise InputError(what, f"found {value!r}", expected)
    return int(array)


def instance(value: Any, kind: type, what: str, name: str, remedy: str) -> None:
    """Raise when ``value`` is no ``kind``."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: {what}", f"is of type {type(value).__name__}", f"a {kind.__name__}", remedy)
