"""Probes. Complex128, centred at [N // 2, N // 2], normalised to sum |P|^2 = 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.probe import from_pupil, to_pupil
from diptych.ptycho.validation import numeric

Probe = NDArray[np.complex128]

BLIND_SMALLER = 0.1
"""At probe error 1 the aperture is this fraction too small ..."""
BLIND_DEFOCUS = 0.4
"""... the defocus is this fraction too weak, and the central stop is absent."""
BLIND_DEFOCUS_RAD = 4.0
"""Of a probe given as an array: error of the defocus at probe error 1, in rad at the edge of its pupil."""

_EDGE = 0.7
"""Width of a soft edge in pixels: the logistic function falls from 0.73 to 0.27 over twice this."""


def make_probe(
    kind: str,
    size: int,
    *,
    aperture: float | None = None,
    central_stop: float | None = None,
    radius: float | None = None,
    defocus: float | None = None,
    error: float = 0.0,
) -> Probe:
    """A probe by name, or the erroneous version of it that a solver starts from.

    Parameters
    ----------
    kind : {"zone-plate", "gaussian", "disk"}
        See :func:`zone_plate`, :func:`gaussian`, :func:`disk`.
    size : int
        Side N of the window, px.
    aperture, central_stop, radius, defocus : float, optional
        As for the kind's function. The defaults are in proportion to the window: a zone plate's aperture is 13 N / 64
        and its defocus 10 N / 64 rad, so that the probe fills the same part of any window.
    error : float
        0 gives the probe; 1 the probe without central stop, 40 % less curvature, 10 % smaller; linear in between.

    Returns
    -------
    (N, N) complex128
        sum |P|^2 = 1.

    Raises
    ------
    InputError
        If the kind is unknown, or the pupil or the disk does not fit in the window.
    """
    shrink, weaken = 1 - BLIND_SMALLER * error, 1 - BLIND_DEFOCUS * error
    if kind == "zone-plate":
        aperture = 13 * size / 64 if aperture is None else aperture
        stop = (0.35 if central_stop is None else central_stop) * (1 - error)
        defocus = 10 * size / 64 if defocus is None else defocus
        _fits("aperture", aperture, size)
        return zone_plate(size, shrink * aperture, stop, weaken * defocus, reference=aperture)
    if kind == "gaussian":
        radius = size / 6 if radius is None else radius
        defocus = 5 * size / 64 if defocus is None else defocus
        _fits("radius", radius, size)
        return gaussian(size, shrink * radius, weaken * defocus, reference=radius)
    if kind == "disk":
        radius = size / 5 if radius is None else radius
        _fits("radius", radius, size)
        return disk(size, shrink * radius, weaken * (defocus or 0.0), reference=radius)
    raise InputError(f"simulate: probe kind {kind!r}", "is not known", "zone-plate, gaussian, disk or a file")


def zone_plate(
    size: int, aperture: float, central_stop: float, defocus: float, *, reference: float | None = None
) -> Probe:
    """The probe near the focus of a zone plate with a central stop.

    Parameters
    ----------
    size : int
        Side N of the window, px.
    aperture : float
        Radius of the pupil in Fourier space, detector px.
    central_stop : float
        Radius of the stop as a fraction of the aperture; 0 is none.
    defocus : float
        Quadratic phase over the pupil, rad at radius ``reference`` (the aperture when it is None). The geometric radius
        of the beam is then N * defocus / (pi * aperture) object px.

    Returns
    -------
    (N, N) complex128
    """
    from scipy.special import expit

    distance = _distance(size)
    pupil = expit((aperture - distance) / _EDGE)
    if central_stop > 0:
        pupil = pupil * expit((distance - central_stop * aperture) / _EDGE)
    return _normalised(from_pupil(pupil * np.exp(1j * defocus * (distance / (reference or aperture)) ** 2)))


def gaussian(size: int, radius: float, defocus: float = 0.0, *, reference: float | None = None) -> Probe:
    """A Gaussian beam: 1/e^2 radius of the intensity ``radius`` px, spherical wavefront of ``defocus`` rad at
    ``reference`` px.
    """
    distance = _distance(size)
    return _normalised(np.exp(-((distance / radius) ** 2) + 1j * defocus * (distance / (reference or radius)) ** 2))


def disk(size: int, radius: float, defocus: float = 0.0, *, reference: float | None = None) -> Probe:
    """A uniform disk of ``radius`` px with a soft edge, wavefront of ``defocus`` rad at ``reference`` px, as
    close behind a pinhole.
    """
    from scipy.special import expit

    distance = _distance(size)
    return _normalised(
        expit((radius - distance) / _EDGE) * np.exp(1j * defocus * (distance / (reference or radius)) ** 2)
    )


def add_modes(probe: Probe, powers: Sequence[float]) -> Probe:
    """Orthogonal incoherent modes made from one probe.

    The first is the probe itself, the others are :func:`~diptych.ptycho.physics.modes.extra_modes` of it.

    Parameters
    ----------
    probe : (N, N) complex
        The first mode.
    powers : sequence of P floats
        Relative powers; they are divided by their sum.

    Returns
    -------
    (P, N, N) complex128
        sum |P|^2 over all modes = 1.
    """
    from diptych.ptycho.physics.modes import extra_modes

    first = _normalised(probe)[None]
    basis = np.concatenate([first, extra_modes(first, len(powers) - 1)])
    share = np.asarray(powers, float) / np.sum(powers)
    return np.asarray(basis * np.sqrt(share)[:, None, None], np.complex128)


def misjudged(probe: Probe, error: float) -> Probe:
    """A given probe (P, N, N) with 4 ``error`` rad of defocus removed, at the radius that contains 95 % of its power in
    Fourier space.
    """
    spectrum = to_pupil(probe)
    distance = _distance(probe.shape[-1])
    order = np.argsort(distance, axis=None)
    power = np.cumsum((np.abs(spectrum) ** 2).sum(0).ravel()[order])
    edge = max(1.0, float(distance.ravel()[order][np.searchsorted(power, 0.95 * power[-1])]))
    return _normalised(from_pupil(spectrum * np.exp(-1j * BLIND_DEFOCUS_RAD * error * (distance / edge) ** 2)))


def given_probe(probe: Any, what: str) -> Probe:
    """A user's probe (N, N), (P, N, N) or (N, N, 1) as (P, N, N) complex128 with sum |P|^2 = 1.

    Raises
    ------
    InputError
        If it is not a finite, square, non-zero array of numbers.
    """
    array = numeric(probe, f"simulate: {what}", "complex numbers")
    given = array.shape
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[-1] != array.shape[-2] or len(array) == 0 or array.shape[-1] < 4:
        raise InputError(f"simulate: {what}", f"has shape {given}", "(N, N) or (modes, N, N), N >= 4")
    if not np.isfinite(array).all():
        raise InputError(
            f"simulate: {what}", f"holds {int((~np.isfinite(array)).sum())} values that are not finite", "finite ones"
        )
    if not np.any(array):
        raise InputError(f"simulate: {what}", "is zero everywhere", "a probe with positive power")
    return _normalised(array.astype(np.complex128))


def _distance(size: int) -> NDArray[np.float64]:
    """Distance (N, N) of each pixel from [N // 2, N // 2]."""
    axis = np.arange(size) - size // 2
    return np.asarray(np.hypot(axis[:, None], axis), np.float64)


def _normalised(probe: NDArray[Any]) -> Probe:
    return np.asarray(probe / np.sqrt(np.sum(np.abs(probe) ** 2)), np.complex128)


def _fits(name: str, value: float, size: int) -> None:
    if value >= size / 2:
        raise InputError(f"simulate: {name}", f"{value:g} px in a window of {size} px", f"less than {size / 2:g}")
