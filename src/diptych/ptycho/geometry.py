"""Geometry of a measurement: particle, energy, distances, detector pixel, orientation, far or near field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.errors import InputError
from diptych.ptycho import validation

PLANCK_TIMES_LIGHT_EV_M = 1.239841984332003e-06
"""h c in eV m (CODATA 2018, exact)."""

ELECTRON_REST_EV = 510998.95069
"""m c^2 of the electron in eV (CODATA 2022)."""


@dataclass(frozen=True)
class Geometry:
    """Energy and particle, detector distance, pixel size and orientation. Every field may be unknown (None).

    Parameters
    ----------
    energy_eV : float, optional
        Energy of a photon (0.1 to 4.5 eV, 20 eV to 1 MeV), or kinetic energy of an electron (1 keV to 10 MeV), in
        electronvolt.
    distance_m : float, optional
        Sample to detector distance in metres.
    detector_pixel_m : (float, float), optional
        Detector pixel height and width (y, x) in metres.
    orientation : int
        Orientation of the stored frames relative to the detector, 0 to 7: bit 4 transposes, then bit 2 flips y, then
        bit 1 flips x.
    particle : {"photon", "electron"}
        What illuminates; it sets the wavelength that belongs to an energy.
    propagation : {"far", "near"}
        How waves reach the detector: far field (Fraunhofer), or near field, where the detector shows a magnified,
        Fresnel-propagated image of the sample.
    focus_distance_m : float, optional
        Near field: distance from the focus of the beam (a point source) downstream to the sample, in metres. None: a
        parallel beam.

    Raises
    ------
    InputError
        If a value is not finite and positive, the energy is implausible for the particle (another unit, or another
        particle), or the orientation is not 0..7.

    Examples
    --------
    >>> import diptych
    >>> geometry = diptych.Geometry(energy_eV=8800, distance_m=1.9, detector_pixel_m=75e-6)
    >>> [f"{pixel * 1e9:.1f} nm" for pixel in geometry.object_pixel_m(128)]
    ['27.9 nm', '27.9 nm']
    >>> near = diptych.Geometry(12.66e3, 1.12, 55e-6, propagation="near", focus_distance_m=3.65e-3)
    >>> f"{near.magnification:.0f}", f"{near.object_pixel_m(100)[0] * 1e9:.0f} nm"
    ('308', '179 nm')
    """

    energy_eV: float | None = None
    distance_m: float | None = None
    detector_pixel_m: tuple[float, float] | None = None
    orientation: int = 0
    particle: Literal["photon", "electron"] = "photon"
    propagation: Literal["far", "near"] = "far"
    focus_distance_m: float | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name in ("energy_eV", "distance_m", "focus_distance_m"):
            if (value := getattr(self, name)) is not None:
                set_(self, name, validation.positive(value, f"geometry: {name}"))
        validation.particle(self.particle, "geometry: particle")
        if self.energy_eV is not None:
            validation.plausible_energy(self.energy_eV, self.particle, "geometry: energy_eV")
        if self.detector_pixel_m is not None:
            set_(self, "detector_pixel_m", validation.pixel_sides(self.detector_pixel_m, "geometry: detector_pixel_m"))
        orientation = validation.whole(self.orientation, "geometry: orientation", "an integer from 0 to 7")
        if orientation not in range(8):
            raise InputError("geometry: orientation", f"found {orientation}", "an integer from 0 to 7")
        set_(self, "orientation", orientation)
        if self.propagation not in ("far", "near"):
            raise InputError("geometry: propagation", f"found {self.propagation!r}", "'far' or 'near'")
        if self.focus_distance_m is not None and self.propagation == "far":
            raise InputError(
                "geometry: focus_distance_m",
                "is given for the far field",
                "a focus distance only in the near field",
                "Say so with propagation='near' (--propagation near), or leave the focus distance out.",
            )

    @property
    def wavelength_m(self) -> float | None:
        """Wavelength in metres, relativistic for electrons (de Broglie), or None when the energy is not known."""
        if self.energy_eV is None:
            return None
        energy = self.energy_eV
        momentum = energy if self.particle == "photon" else (energy * (energy + 2 * ELECTRON_REST_EV)) ** 0.5
        return PLANCK_TIMES_LIGHT_EV_M / momentum

    @property
    def magnification(self) -> float | None:
        """Near field: detector pixel over object pixel, (focus distance + distance) / focus distance; 1 in a parallel
        beam. None in the far field, or where the distance is not known.
        """
        if self.propagation == "far" or self.distance_m is None:
            return None
        return 1.0 if self.focus_distance_m is None else 1.0 + self.distance_m / self.focus_distance_m

    @property
    def effective_distance_m(self) -> float | None:
        """Near field: the distance in a parallel beam that gives the same image but for its magnification, distance /
        magnification (Fresnel scaling theorem; Paganin, Coherent X-Ray Optics, 2006, section 4.1). None as above.
        """
        magnification = self.magnification
        return None if magnification is None or self.distance_m is None else self.distance_m / magnification

    def object_pixel_m(self, size: int) -> tuple[float, float] | None:
        """Object pixel (y, x) in metres for a ``size`` x ``size`` pattern.

        Far field: wavelength * distance / (size * detector pixel). Near field: detector pixel / magnification.
        """
        if self.propagation == "near":
            if self.magnification is None or self.detector_pixel_m is None:
                return None
            height, width = self.detector_pixel_m
            return height / self.magnification, width / self.magnification
        if self.wavelength_m is None or self.distance_m is None or self.detector_pixel_m is None:
            return None
        y, x = (self.wavelength_m * self.distance_m / (size * pixel) for pixel in self.detector_pixel_m)
        return y, x
