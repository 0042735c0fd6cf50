"""Physical units of formats that state them: photon energies in J, eV or keV, and positions in metres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.fields import with_propagation
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.scan import PLANCK_TIMES_LIGHT_EV_M, Geometry
from diptych.ptycho.validation import PLAUSIBLE_EV

ELEMENTARY_CHARGE_C = 1.602176634e-19
"""One electronvolt in joules (SI, exact)."""

ENERGY_UNITS = {"J": 1 / ELEMENTARY_CHARGE_C, "eV": 1.0, "keV": 1e3}
"""Electronvolts in one of each unit."""


def energy_unit(text: object) -> str | None:
    """The unit of energy that an attribute names, in any spelling of J, eV and keV; None where it names another."""
    name = str(text or "").strip().strip("[]").casefold()
    spelled = {"j": "J", "joule": "J", "joules": "J", "ev": "eV", "electronvolt": "eV", "electronvolts": "eV"}
    spelled |= {"kev": "keV", "kiloelectronvolt": "keV", "kiloelectronvolts": "keV"}
    return spelled.get(name)


def photon_energy_eV(value: float, unit: str | None, where: str) -> tuple[float, str]:
    """A stored photon energy in eV, and a sentence that says how it was read.

    Parameters
    ----------
    value : float
        As stored.
    unit : {"J", "eV", "keV"}, optional
        What the format or an attribute states. None: the one of these units in which the energy is plausible.
    where : str
        Name of the dataset, for messages.

    Raises
    ------
    InputError
        If the energy is implausible in the stated unit, or in every unit or several of them.
    """
    units = [unit] if unit in ENERGY_UNITS else list(ENERGY_UNITS)
    fitting = [
        name for name in units if any(low <= value * ENERGY_UNITS[name] <= high for low, high in PLAUSIBLE_EV["photon"])
    ]
    if unit is None and "eV" in fitting and "keV" in fitting:
        # 10 to 1000: soft X-rays in eV and hard ones in keV are equally plausible.
        fitting = ["eV", "keV"]
    if len(fitting) != 1:
        # The rest of the file may be right: the energy can be given.
        read = ", ".join(f"{value * ENERGY_UNITS[name]:.4g} eV if it is in {name}" for name in units)
        raise IncompleteError(
            where,
            f"the photon energy is {value:.4g} ({read})",
            "one reading of " + " or ".join(f"{low:g} to {high:g} eV" for low, high in PLAUSIBLE_EV["photon"]),
            "Pass the right one with energy_eV=... (--energy-eV).",
        )
    return value * ENERGY_UNITS[fitting[0]], f"energy read in {fitting[0]} from {where}"


def wavelength_energy_eV(wavelength_m: float) -> float:
    """Energy in eV of a photon of a wavelength in metres."""
    return PLANCK_TIMES_LIGHT_EV_M / wavelength_m


def geometry_of(options: LoadOptions, where: str, **stated: Any) -> Geometry:
    """The geometry that a file states (``energy_eV``, ``distance_m``, ``detector_pixel_m``), overridden by the options.

    Raises
    ------
    InputError
        If a value is not positive and finite.
    """
    for name in ("energy_eV", "distance_m"):
        if (value := getattr(options, name)) is not None:
            stated[name] = value
    if options.particle is not None:
        stated["particle"] = options.particle
    stated = with_propagation(stated, options)
    if options.detector_pixel_m is not None:
        stated["detector_pixel_m"] = (options.detector_pixel_m,) * 2
    try:
        return Geometry(**{name: value for name, value in stated.items() if value is not None})
    except InputError as error:
        raise error.changed(where=f"{where}: {error.where}") from None


def positions_in_pixels(
    y_m: ArrayLike, x_m: ArrayLike, geometry: Geometry, size: int, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Coordinates (M,) in object pixels from metres, and a sentence that says so.

    Raises
    ------
    InputError
        If the geometry does not determine the object pixel.
    """
    pixel = geometry.object_pixel_m(size)
    if pixel is None:
        missing = [name for name in ("energy_eV", "distance_m", "detector_pixel_m") if getattr(geometry, name) is None]
        flags = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise IncompleteError(
            where,
            f"positions are in metres, and the file does not state {', '.join(missing)}",
            "a complete geometry",
            f"Pass what is missing ({flags}).",
        )
    y, x = np.asarray(y_m, np.float64) / pixel[0], np.asarray(x_m, np.float64) / pixel[1]
    return y, x, f"positions converted from m with an object pixel of {pixel[0]:.4g} x {pixel[1]:.4g} m"
