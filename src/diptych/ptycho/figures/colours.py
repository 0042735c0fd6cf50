"""Colours of complex images and phases, and display ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.float64]
Range = tuple[float, float]

_CYCLIC_FROM = 0.75
"""Range of phases, as a fraction of 2 pi, from which a cyclic colour map is used instead of a sequential one."""


def complex_to_rgb(values: NDArray[Any], limit: float | None = None) -> RGB:
    """Colour image of a complex field: hue is the phase, brightness the amplitude.

    Parameters
    ----------
    values : (H, W) complex
        Complex field.
    limit : float, optional
        Amplitude at full brightness; default: the 99.5th percentile.

    Returns
    -------
    (H, W, 3) float64
        0 to 1. Phase 0 is red, 2 pi / 3 green, -2 pi / 3 blue.
    """
    from matplotlib.colors import hsv_to_rgb

    amplitude = np.abs(values)
    if limit is None:
        limit = float(np.percentile(amplitude, 99.5))
    hsv = np.empty((*values.shape, 3))
    hsv[..., 0] = (np.angle(values) / (2 * np.pi)) % 1.0
    hsv[..., 1] = 1.0
    hsv[..., 2] = np.clip(amplitude / max(limit, np.finfo(float).tiny), 0, 1)
    return np.asarray(hsv_to_rgb(hsv))


def colour_wheel(size: int = 128) -> RGB:
    """Colour wheel for :func:`complex_to_rgb`, (size, size, 4) RGBA.

    The amplitude grows from the centre; the phase increases anticlockwise from the right.
    """
    axis = np.linspace(-1, 1, size)
    disc = axis[None, :] - 1j * axis[:, None]
    rgba = np.ones((size, size, 4))
    rgba[..., :3] = complex_to_rgb(disc, limit=1.0)
    rgba[..., 3] = np.abs(disc) <= 1
    return rgba


def robust_range(values: NDArray[Any], percentiles: Range = (0.5, 99.5)) -> Range:
    """Display limits: percentiles of the finite values, at least 1e-3 of their magnitude apart."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, percentiles))
    # For a constant image: a range that does not amplify rounding errors to visible texture.
    least = max(1e-3 * max(abs(low), abs(high)), 1e-6)
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    return low, high


def mean_ramp(values: NDArray[Any], weight: NDArray[np.floating[Any]] | None = None) -> Range:
    """Mean phase slope (y, x) in rad per pixel, weighted by intensity (times ``weight``): the phase of the mean lag-one
    product.
    """
    values = values if weight is None else values * np.sqrt(weight)
    down = (values[1:] * values[:-1].conj()).sum()
    across = (values[:, 1:] * values[:, :-1].conj()).sum()
    return float(np.angle(down)), float(np.angle(across))


def level_phase(values: NDArray[Any], ramp: bool, weight: NDArray[np.floating[Any]] | None = None) -> NDArray[Any]:
    """Multiply a field by a phase factor so that its mean has phase 0; with ``ramp``, remove its mean phase ramp too.

    Parameters
    ----------
    values : (H, W) complex
        Complex field.
    ramp : bool
        Remove the mean phase ramp (:func:`mean_ramp`).
    weight : (H, W), optional
        Weights of the means, for instance the illumination; 0 where a pixel must have no influence.
    """
    out = np.asarray(values, np.complex128)
    if ramp:
        slope = mean_ramp(out, weight)
        y, x = (np.arange(n) - (n - 1) / 2 for n in out.shape)
        out = out * np.exp(-1j * slope[0] * y)[:, None] * np.exp(-1j * slope[1] * x)
    mean = out.sum() if weight is None else (out * weight).sum()
    return out * np.exp(-1j * np.angle(mean)) if mean else out


def phase_display(phase: NDArray[np.float64]) -> tuple[str, Range]:
    """Colour map and limits for a phase image with mean 0, rad: cyclic if its range is near 2 pi, else sequential."""
    low, high = robust_range(phase)
    if high - low < _CYCLIC_FROM * 2 * np.pi:
        return "gray", (low, high)
    return "twilight", (-np.pi, np.pi)
