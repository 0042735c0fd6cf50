"""Probe optics in one line of text: ``optics:KEY=VALUE,...``, the form that options, YAML and the command line share.

The keys tell which optics: ``semi_angle_mrad`` a convergent beam, ``diameter_um`` a zone plate, ``aperture_y_um`` and
``aperture_x_um`` a pair of Kirkpatrick-Baez mirrors.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from diptych.errors import InputError
from diptych.ptycho.geometry import Geometry
from diptych.ptycho.physics.optics.beams import ABERRATION, convergent_beam, kb_beam, zone_plate_beam
from diptych.runtime.options import Options

PREFIX = "optics:"
Pixel = tuple[float, float]

CROWDED = 0.05
"""Share of a probe's power within an eighth of the window from its edge, above which the window is said to be small."""


class ConvergentBeam(Options):
    """A round aperture, as in an electron microscope."""

    kind: ClassVar = "convergent beam"
    semi_angle_mrad: PositiveFloat = Field(description="Half the convergence angle, mrad.")
    inner_angle_mrad: float = Field(0.0, ge=0, description="Half the angle of a central stop, mrad.")
    defocus_nm: FiniteFloat = Field(
        0.0,
        description="Defocus, nm, as electron microscopy counts it (-C10): positive is underfocus, the sample lies "
        "before the focus.",
    )
    Cs_mm: FiniteFloat = Field(0.0, description="Spherical aberration C30, mm.")
    aberrations: dict[str, FiniteFloat] = Field(
        default={}, description="Cnm in m and phinm in rad; in text Cnm_nm=... and phinm_deg=...."
    )

    def probe(self, size: int, pixel_m: Pixel, wavelength_m: float) -> NDArray[np.complex64]:
        """The probe (1, size, size), sum |P|^2 = 1."""
        terms = {**self.aberrations, "C30": self.aberrations.get("C30", 0.0) + 1e-3 * self.Cs_mm}
        angles = 1e-3 * self.semi_angle_mrad, 1e-3 * self.inner_angle_mrad
        return convergent_beam(size, pixel_m, wavelength_m, angles[0], -1e-9 * self.defocus_nm, terms, angles[1])


class ZonePlate(Options):
    """A Fresnel zone plate in first order."""

    kind: ClassVar = "zone plate"
    diameter_um: PositiveFloat = Field(description="Outer diameter, um.")
    outer_zone_nm: PositiveFloat = Field(description="Width of the outermost zone, nm.")
    stop_um: float = Field(0.0, ge=0, description="Diameter of the central stop, um.")
    focus_to_sample_um: FiniteFloat = Field(
        0.0, description="Distance from the focus to the sample, um; positive downstream."
    )

    @model_validator(mode="after")
    def _stop_inside(self) -> Self:
        if self.stop_um >= self.diameter_um:
            raise ValueError(f"stop_um = {self.stop_um:g} covers the zone plate; expected below {self.diameter_um:g}")
        return self

    def probe(self, size: int, pixel_m: Pixel, wavelength_m: float) -> NDArray[np.complex64]:
        """The probe (1, size, size), sum |P|^2 = 1."""
        lengths = 1e-6 * self.diameter_um, 1e-9 * self.outer_zone_nm, 1e-6 * self.stop_um
        return zone_plate_beam(size, pixel_m, wavelength_m, *lengths, 1e-6 * self.focus_to_sample_um)


class KBMirrors(Options):
    """A pair of Kirkpatrick-Baez mirrors."""

    kind: ClassVar = "KB mirrors"
    aperture_y_um: PositiveFloat = Field(description="Height of the beam that the mirrors accept, um.")
    aperture_x_um: PositiveFloat = Field(description="Width of the beam that the mirrors accept, um.")
    focal_y_mm: PositiveFloat = Field(description="Focal length of the vertically focusing mirror, mm.")
    focal_x_mm: PositiveFloat = Field(description="Focal length of the horizontally focusing mirror, mm.")
    focus_to_sample_y_um: FiniteFloat = Field(
        0.0, description="Distance from the vertical focus to the sample, um; positive downstream."
    )
    focus_to_sample_x_um: FiniteFloat = Field(
        0.0, description="Distance from the horizontal focus to the sample, um; positive downstream."
    )

    def probe(self, size: int, pixel_m: Pixel, wavelength_m: float) -> NDArray[np.complex64]:
        """The probe (1, size, size), sum |P|^2 = 1."""
        angles = 1e-3 * self.aperture_y_um / (2 * self.focal_y_mm), 1e-3 * self.aperture_x_um / (2 * self.focal_x_mm)
        distances = 1e-6 * self.focus_to_sample_y_um, 1e-6 * self.focus_to_sample_x_um
        return kb_beam(size, pixel_m, wavelength_m, angles, distances)


Optics = ConvergentBeam | ZonePlate | KBMirrors

MARKS: dict[str, type[ConvergentBeam | ZonePlate | KBMirrors]] = {
    "semi_angle_mrad": ConvergentBeam,
    "diameter_um": ZonePlate,
    "outer_zone_nm": ZonePlate,
    "aperture_y_um": KBMirrors,
    "aperture_x_um": KBMirrors,
}
"""The keys that tell which optics a text describes."""


def is_optics(text: str) -> bool:
    """Whether a probe option describes optics."""
    return text.startswith(PREFIX)


def parse_optics(text: str) -> Optics:
    """The optics that a text ``optics:KEY=VALUE,...`` describes.

    Raises
    ------
    InputError
        If a pair is malformed or given twice, a value is no number or out of range, a key is missing or not known.

    Examples
    --------
    >>> parse_optics("optics:semi_angle_mrad=1.03,defocus_nm=13500,C12_nm=20,phi12_deg=30").defocus_nm
    13500.0
    """
    values = _pairs(text)
    marks = [key for key in values if key in MARKS]
    if not marks:
        raise InputError(
            f"probe {text!r}",
            "does not tell which optics",
            "semi_angle_mrad=... (convergent beam), diameter_um=...,outer_zone_nm=... (zone plate), or "
            "aperture_y_um=...,aperture_x_um=...,focal_y_mm=...,focal_x_mm=... (KB mirrors)",
        )
    chosen = MARKS[marks[0]]
    terms: dict[str, float] = {}
    if chosen is ConvergentBeam:
        for key in [key for key in values if _aberration(key)[0]]:
            name, scale = _aberration(key)
            terms[name] = scale * values.pop(key)
    given: dict[str, Any] = {**values, **({"aberrations": terms} if terms else {})}
    known = [key for key in chosen.model_fields if key != "aberrations"]
    if unknown := [key for key in values if key not in known]:
        more = ", Cnm_nm and phinm_deg" if chosen is ConvergentBeam else ""
        hint = " C10 is the defocus: defocus_nm=-C10." if "C10_nm" in unknown else ""
        raise InputError(
            f"probe {text!r}",
            f"{chosen.kind} has no {', '.join(unknown)}",
            f"{', '.join(known)}{more}",
            f"The unit belongs to the key.{hint}",
        )
    return chosen.build(given, origin=f"probe {text!r}")


def probe_from_optics(
    text: str, size: int, geometry: Geometry | None, where: str
) -> tuple[NDArray[np.complex64], list[str]]:
    """The probe (1, size, size) of a text, sum |P|^2 = 1, and warnings about its sampling.

    Parameters
    ----------
    text : str
        As for :func:`parse_optics`.
    size : int
        Side N of the window, pixels.
    geometry : Geometry, optional
        Gives the wavelength and the object pixel.
    where : str
        Name of the scan, for messages.

    Raises
    ------
    InputError
        If the geometry lacks what the optics need, or the probe is not sampled.
    """
    optics = parse_optics(text)
    geometry = geometry or Geometry()
    pixel, wavelength = geometry.object_pixel_m(size), geometry.wavelength_m
    if pixel is None or wavelength is None:
        missing = [name for name in ("energy_eV", "distance_m", "detector_pixel_m") if getattr(geometry, name) is None]
        flags = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(
            where,
            f"a probe from optics needs wavelength and object pixel, and {', '.join(missing)} is not known",
            "a complete geometry",
            f"Pass {flags} (and --particle electron for electrons). Where only the object pixel is known, any distance "
            "and a detector pixel of wavelength * distance / (N * object pixel) describe it.",
        )
    try:
        probe = optics.probe(size, pixel, wavelength)
    except InputError as error:
        raise error.changed(where=f"{where}: probe {text!r}") from None
    share = _near_edge(probe)
    if share <= CROWDED:
        return probe, []
    return probe, [
        f"{share:.0%} of the power of the probe from optics lies near the edge of its window of "
        f"{1e6 * size * pixel[0]:.4g} x {1e6 * size * pixel[1]:.4g} um: the window is small for this beam"
    ]


def _pairs(text: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for pair in text.removeprefix(PREFIX).split(","):
        key, sign, value = (part.strip() for part in pair.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not (key and sign and np.isfinite(number)):
            raise InputError(f"probe {text!r}", f"{pair.strip()!r}", "KEY=NUMBER, with commas between")
        if key in values:
            raise InputError(f"probe {text!r}", f"{key} is given twice", "each key once")
        values[key] = number
    return values


def _aberration(key: str) -> tuple[str, float]:
    """Name and factor to SI units of a key like C12_nm or phi12_deg; an empty name for any other."""
    name, _, unit = key.rpartition("_")
    found = ABERRATION.fullmatch(name)
    if found is None or name == "C10" or unit != {"C": "nm", "phi": "deg"}[found[1]]:
        return "", 0.0
    return name, 1e-9 if unit == "nm" else float(np.deg2rad(1.0))


def _near_edge(probe: NDArray[np.complex64]) -> float:
    """Share of the power (P, N, N) outside the central three quarters of the window."""
    energy = np.sum(np.abs(probe.astype(np.complex128)) ** 2, axis=0)
    rim = max(len(energy) // 8, 1)
    return float(1 - energy[rim:-rim, rim:-rim].sum() / energy.sum())
