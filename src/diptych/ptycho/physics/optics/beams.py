"""Probes computed from the parameters of the optics. Lengths in metres, angles in radians, axes (y, x).

The pupil is A(a) exp(-i chi(a)) over the angle a = wavelength * spatial frequency, and the probe its inverse FFT.
``downstream_m`` is the distance of the sample behind the focus: free-space propagation is exp(-i pi wavelength z q^2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.probe import from_pupil

Floats = NDArray[np.float64]
ABERRATION = re.compile(r"(C|phi)([1-5])([0-6])")

LEAST_RADIUS_PX = 1.5
"""Least radius of the aperture on the detector, pixels: below it the focus is wider than the window."""


def convergent_beam(
    size: int,
    pixel_m: tuple[float, float],
    wavelength_m: float,
    semi_angle_rad: float,
    downstream_m: float = 0.0,
    aberrations: Mapping[str, float] | None = None,
    inner_angle_rad: float = 0.0,
) -> NDArray[np.complex64]:
    """The probe (1, size, size) of a round aperture, sum |P|^2 = 1.

    Parameters
    ----------
    size, pixel_m, wavelength_m
        Window in pixels, object pixel (y, x) in metres, wavelength in metres.
    semi_angle_rad, inner_angle_rad
        Half the convergence angle, and half the angle of a central stop, rad.
    downstream_m
        Distance of the sample downstream of the focus, m; negative upstream. This is C10, the negative of what electron
        microscopy calls defocus.
    aberrations
        Coefficients ``Cnm`` in metres and azimuths ``phinm`` in radians after Krivanek et al., Ultramicroscopy 78, 1
        (1999): chi = 2 pi / wavelength * sum of Cnm a^(n+1) / (n+1) cos(m (azimuth - phinm)). C30 is spherical
        aberration. The azimuth runs from +x towards +y.

    Raises
    ------
    InputError
        If the aperture exceeds the detector or is smaller than a few of its pixels, the beam exceeds the window, or a
        coefficient is not known.
    """
    y, x = _angles(size, pixel_m, wavelength_m)
    if not 0 <= inner_angle_rad < semi_angle_rad:
        raise InputError(
            "probe optics",
            f"central stop {inner_angle_rad:g} rad",
            f"0 to below {semi_angle_rad:g} rad, the semi-angle",
        )
    _samples((semi_angle_rad, semi_angle_rad), size, pixel_m, wavelength_m)
    angle, azimuth = np.hypot(y, x), np.arctan2(y, x)
    path = downstream_m * angle**2 / 2 + _aberrated(angle, azimuth, aberrations or {})
    step = wavelength_m / (size * np.sqrt(pixel_m[0] * pixel_m[1]))
    aperture = _covered(angle, semi_angle_rad, step)
    if inner_angle_rad:
        aperture = aperture - _covered(angle, inner_angle_rad, step)
    return _probe(aperture, path, pixel_m, wavelength_m)


def zone_plate_beam(
    size: int,
    pixel_m: tuple[float, float],
    wavelength_m: float,
    diameter_m: float,
    outer_zone_m: float,
    stop_m: float = 0.0,
    downstream_m: float = 0.0,
) -> NDArray[np.complex64]:
    """The probe of a zone plate in first order: focal length = diameter * outermost zone width / wavelength; ``stop_m``
    is the diameter of its central stop. Otherwise as :func:`convergent_beam`.
    """
    if not (diameter_m > 0 and outer_zone_m > 0):
        raise InputError("probe optics", f"zone plate {diameter_m:g} m, zones {outer_zone_m:g} m", "positive lengths")
    focal = diameter_m * outer_zone_m / wavelength_m
    edge, inner = diameter_m / (2 * focal), stop_m / (2 * focal)
    return convergent_beam(size, pixel_m, wavelength_m, edge, downstream_m, inner_angle_rad=inner)


def kb_beam(
    size: int,
    pixel_m: tuple[float, float],
    wavelength_m: float,
    semi_angle_rad: tuple[float, float],
    downstream_m: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.complex64]:
    """The probe of a pair of Kirkpatrick-Baez mirrors: a rectangular aperture, with a semi-angle (half the accepted
    width over the focal length) and a distance from the focus for each axis (y, x).
    """
    y, x = _angles(size, pixel_m, wavelength_m)
    _samples(semi_angle_rad, size, pixel_m, wavelength_m)
    path = (downstream_m[0] * y**2 + downstream_m[1] * x**2) / 2
    steps = [wavelength_m / (size * side) for side in pixel_m]
    aperture = _covered(np.abs(y), semi_angle_rad[0], steps[0]) * _covered(np.abs(x), semi_angle_rad[1], steps[1])
    return _probe(aperture, path, pixel_m, wavelength_m)


def _angles(size: int, pixel_m: tuple[float, float], wavelength_m: float) -> tuple[Floats, Floats]:
    y, x = np.mgrid[:size, :size] - float(size // 2)
    return y * wavelength_m / (size * pixel_m[0]), x * wavelength_m / (size * pixel_m[1])


def _covered(angle: Floats, edge: float, step: float) -> Floats:
    """Share of each pixel of the pupil inside the edge: a hard edge on whole pixels would scatter over the window."""
    return np.clip((edge - angle) / step + 0.5, 0.0, 1.0)


def _samples(angles: tuple[float, float], size: int, pixel_m: tuple[float, float], wavelength_m: float) -> None:
    """Raise where the aperture leaves the detector, or covers too few of its pixels."""
    for axis, angle, pixel in zip("yx", angles, pixel_m, strict=True):
        limit = wavelength_m / (2 * pixel)
        least = LEAST_RADIUS_PX * wavelength_m / (size * pixel)
        if not least <= angle < limit:
            raise InputError(
                "probe optics",
                f"semi-angle {1e3 * angle:.4g} mrad in {axis}",
                f"{1e3 * least:.4g} to {1e3 * limit:.4g} mrad, what the detector covers",
                "Check the parameters of the optics, energy, distance and detector pixel, and their units.",
            )


def _aberrated(angle: Floats, azimuth: Floats, terms: Mapping[str, float]) -> Floats:
    path = np.zeros_like(angle)
    for name, value in terms.items():
        found = ABERRATION.fullmatch(name)
        if found is None or name == "C10":
            raise InputError("probe optics", f"aberration {name!r}", "Cnm or phinm, n 1 to 5; C10 is the defocus")
        if found[1] == "phi":
            continue
        order, fold = int(found[2]), int(found[3])
        turn = terms.get(f"phi{order}{fold}", 0.0)
        path += value * angle ** (order + 1) / (order + 1) * np.cos(fold * (azimuth - turn))
    return path


def _probe(aperture: Floats, path: Floats, pixel_m: tuple[float, float], wavelength_m: float) -> NDArray[np.complex64]:
    size = len(path)
    for axis, pixel in enumerate(pixel_m):
        # A ray at angle a meets the sample d(path)/da off axis.
        slope = np.diff(path, axis=axis) / (wavelength_m / (size * pixel))
        inside = np.minimum(np.take(aperture, range(1, size), axis), np.take(aperture, range(size - 1), axis)) > 0.5
        reach = float(np.abs(slope[inside]).max(initial=0.0))
        if 2 * reach > size * pixel:
            raise InputError(
                "probe optics",
                f"a beam {1e6 * 2 * reach:.4g} um wide in {'yx'[axis]} at the sample",
                f"at most the window, {1e6 * size * pixel:.4g} um",
                "Check the distance from focus, the aberrations and their units; smaller detector pixels or a longer "
                "distance to the detector widen the window.",
            )
    pupil = aperture * np.exp(-2j * np.pi / wavelength_m * path)
    return from_pupil(pupil / np.linalg.norm(aperture))[None].astype(np.complex64)
