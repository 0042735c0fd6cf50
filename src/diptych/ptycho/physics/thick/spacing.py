"""How far slices are apart: what must be known for it, and the depth of field it compares with. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.geometry import Geometry

NEEDED = ("energy_eV", "distance_m", "detector_pixel_m")
"""Fields of the geometry that set wavelength and object pixel."""


def scale_of(geometry: Geometry | None, size: int, where: str) -> tuple[float, tuple[float, float]]:
    """Wavelength and object pixel (y, x) in metres, which a distance between slices needs.

    Parameters
    ----------
    geometry : Geometry or None
        Of the scan.
    size : int
        N, the side of a pattern.
    where : str
        What the error names.

    Raises
    ------
    InputError
        If they do not follow from the geometry.
    """
    if geometry is not None and geometry.propagation == "near":
        raise InputError(where, "the scan is near field", "a far-field scan: slices are not modelled in the near field")
    wavelength = None if geometry is None else geometry.wavelength_m
    pixel = None if geometry is None else geometry.object_pixel_m(size)
    if wavelength is None or pixel is None:
        missing = [name for name in NEEDED if geometry is None or getattr(geometry, name) is None]
        raise InputError(
            where,
            f"the geometry lacks {', '.join(missing)}",
            "energy, distance and detector pixel: they set how a wave spreads from one slice to the next",
            f"Pass what is missing ({', '.join('--' + name.replace('_', '-') for name in missing)}).",
        )
    return wavelength, pixel


def depth_of_field_m(wavelength_m: float, pixel_m: tuple[float, float]) -> float:
    """Depth over which the finest detail, of a period of two pixels, stays sharp: 2 dx^2 / wavelength, metres.

    The phase of the propagation over it, pi wavelength z q^2 at the largest q = 1 / (2 dx), is pi / 2.
    """
    return 2 * min(pixel_m) ** 2 / wavelength_m


def longest_m(wavelength_m: float, pixel_m: tuple[float, float], size: int) -> float:
    """Distance in metres over which the finest detail spreads by half a window of ``size`` pixels: N dx^2 / wavelength.

    Beyond it, light that scatters to the largest angles wraps round the window.
    """
    return size * min(pixel_m) ** 2 / wavelength_m
