"""Illumination: how many photons each object pixel received, and which pixels therefore count as measured.

NumPy only, so that reading a file or drawing a figure does not load torch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

Light = NDArray[np.float32]
Mask = NDArray[np.bool_]
Positions = NDArray[np.float64]

LIT_SHARE = 0.1
"""Lit pixels have at least this share of the illumination-weighted median of the illumination."""

PRIOR_PHOTONS = 4.0
"""Photons per pixel at which an unlit pixel lies half-way between what was fitted and 1; a pixel of so few photons has
a standard error of 0.35. On Fermat spirals (64 px, 900 patterns; 1e4 and 1e6 photons each) unlit pixels of up to 24
times the modulus of the sample come to 0.5..1.5, and the held-out fit goes from 1.034 to 1.040 and from 1.027 to
1.021. The fit rises by up to 0.03: the noise that those pixels had fitted."""

UNLIT_MODULUS = (0.5, 1.5)
"""Bounds of the modulus of unlit pixels."""

CONTRADICTION = 8.0
"""Nats by which photons must speak against a bound of the modulus: 4 standard errors."""

STEPS = 64
"""Of more than :data:`EXACT` positions, sub-pixel shifts are rounded to 1 / this of a pixel, so that the square of this
many shifted probes serve any number of positions. Differs from exact shifts by less than 0.3 % of the strongest
illumination (measured on ring-shaped probes of 16 to 32 px with strong phase)."""

EXACT = 2000

_FINE = 2**20
"""Steps per pixel where shifts count as exact."""


def illumination(
    probe: NDArray[np.complexfloating[Any, Any]],
    positions: Positions,
    origin: tuple[int, int],
    shape: tuple[int, int],
    measured: Mask | None = None,
) -> Light:
    """Sum over positions of the probe's |P|^2 on an object canvas.

    Parameters
    ----------
    probe : (P, N, N) or (N, N) complex
        Probe modes; with sum |P|^2 in photons the result is in photons per object pixel.
    positions : (M, 2) float64
        (y, x) of index (N // 2, N // 2) of each window, object pixels. The probe is shifted by their sub-pixel
        remainder, as in the forward model.
    origin : (int, int)
        Coordinate (y, x) of the canvas's pixel [0, 0].
    shape : (int, int)
        Of the canvas (H, W). Light outside it is left out.
    measured : (M,) bool, optional
        Patterns that count; see :func:`measured_frames`. Default: all.

    Returns
    -------
    (H, W) float32

    Raises
    ------
    InputError
        If ``positions`` is not (M, 2), or ``measured`` has another length.
    """
    modes = np.asarray(probe, np.complex128)
    modes = modes[None] if modes.ndim == 2 else modes
    where = np.asarray(positions, np.float64)
    if where.ndim != 2 or where.shape[1] != 2:
        raise InputError("illumination: positions", f"have shape {where.shape}", "(patterns, 2), (y, x) in pixels")
    if measured is not None:
        if np.shape(measured) != (len(where),):
            raise InputError("illumination: measured", f"has shape {np.shape(measured)}", f"({len(where)},), one each")
        where = where[measured]
    size = modes.shape[-1]
    per_pixel = STEPS if len(where) > EXACT else _FINE
    steps = np.rint(where * per_pixel).astype(np.int64)
    whole = (steps + per_pixel // 2) // per_pixel
    corners = whole - np.asarray(origin) - size // 2
    fractions, kind = np.unique(steps - whole * per_pixel, axis=0, return_inverse=True)
    total = np.zeros(shape)
    kind = kind.reshape(-1)
    for i, fraction in enumerate(fractions):
        light = _intensity(modes, fraction / per_pixel)
        for y, x in corners[kind == i].tolist():
            _add(total, light, y, x)
    return total.astype(np.float32)


def measured_frames(mask: Mask | None, patterns: int) -> Mask:
    """Which of the patterns (M,) have a valid pixel; ``mask`` is (N, N), (M, N, N) or None, True where valid."""
    if mask is None or mask.ndim == 2:
        return np.ones(patterns, bool)
    return np.asarray(mask.any(axis=(1, 2)))


def lit(light: NDArray[np.floating[Any]]) -> Mask:
    """Pixels that received at least 10 % of the illumination-weighted median of the illumination.

    The weighted median is the illumination of the pixel that the median photon hits, so it depends neither on the size
    of the canvas nor on isolated positions.

    Parameters
    ----------
    light : (H, W)
        Illumination of any scale, >= 0.

    Returns
    -------
    (H, W) bool
        False everywhere where there is no light.
    """
    level = weighted_median(light)
    return np.asarray((light >= LIT_SHARE * level) & (light > 0))


def weighted_median(light: NDArray[np.floating[Any]]) -> float:
    """The illumination that half of all photons exceed; 0 where there is no light."""
    values = np.sort(np.asarray(light, np.float64), axis=None)
    cumulated = np.cumsum(values)
    if not cumulated.size or cumulated[-1] <= 0:
        return 0.0
    return float(values[np.searchsorted(cumulated, cumulated[-1] / 2)])


def settle_unlit(image: NDArray[np.complexfloating[Any, Any]], light: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Keep unlit pixels of an object near 1, where no photons determine them; lit pixels are returned as they are.

    Parameters
    ----------
    image : (H, W) complex
        Object whose transparent parts have modulus 1.
    light : (H, W)
        Illumination, photons per object pixel.

    Returns
    -------
    (H, W) complex
        The dtype of ``image``.

    Notes
    -----
    Two steps. The posterior mean of a Gaussian prior around 1 that weighs as much as :data:`PRIOR_PHOTONS`:
    1 + (O - 1) L / (L + L0). Then the modulus is brought inside :data:`UNLIT_MODULUS`, unless the photons contradict
    that bound: a modulus that lies d beyond it is kept where 2 L d^2 nats exceed :data:`CONTRADICTION`.
    """
    settled = np.array(image)
    free = ~lit(light)
    values, photons = image[free].astype(np.complex128), np.asarray(light[free], np.float64)
    values = np.where(np.isfinite(values), values, 1.0)
    values = 1 + (values - 1) * photons / (photons + PRIOR_PHOTONS)
    modulus = np.abs(values)
    bounded = np.clip(modulus, *UNLIT_MODULUS)
    contradicted = 2 * photons * (modulus - bounded) ** 2 > CONTRADICTION
    settled[free] = np.where(contradicted, values, values * (bounded / np.maximum(modulus, 1e-30)))
    return settled


def soft_inside(mask: Mask, width: float) -> NDArray[np.float64]:
    """Window (H, W) that is 0 outside a mask and rises as sin^2 over ``width`` pixels inside it, as a ring
    correlation needs. The border of the array is no edge of the mask.
    """
    return _rise(_distance(mask) - 0.5, width)


def soft_outside(mask: Mask, width: float) -> NDArray[np.float64]:
    """Window (H, W) that is 1 inside a mask and falls as sin^2 to 0 over ``width`` pixels outside it."""
    return 1.0 - _rise(_distance(~mask) - 0.5, width)


def _distance(mask: Mask) -> NDArray[np.float64]:
    """Distance of each pixel of a mask to the nearest one outside it, pixels; infinite without any."""
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(distance_transform_edt(mask), np.float64)


def _rise(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    return np.asarray(np.sin(np.pi / 2 * np.clip(distance / max(width, 1e-9), 0, 1)) ** 2)


def _intensity(modes: NDArray[np.complex128], fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over modes of |P|^2, the probe moved by a fraction (y, x) of a pixel by Fourier shift."""
    if fraction.any():
        size = modes.shape[-1]
        ramps = np.exp(-2j * math.pi * np.fft.fftfreq(size) * fraction[:, None])
        if size % 2 == 0:
            # As in the forward model: the Nyquist row stands for both signs.
            ramps[:, size // 2] = np.cos(math.pi * fraction)
        modes = np.fft.ifft2(np.fft.fft2(modes) * (ramps[0][:, None] * ramps[1]))
    return np.asarray((modes.real**2 + modes.imag**2).sum(axis=0))


def _add(total: NDArray[np.float64], light: NDArray[np.float64], y: int, x: int) -> None:
    """Add a window at array indices (y, x) of its pixel [0, 0], as far as it lies on the canvas."""
    h, w = light.shape
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + h, total.shape[0]), min(x + w, total.shape[1])
    if y0 < y1 and x0 < x1:
        total[y0:y1, x0:x1] += light[y0 - y : y1 - y, x0 - x : x1 - x]
