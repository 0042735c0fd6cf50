"""Figures of error bars and of the photon limit."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diptych.ptycho.evaluate.limit import Limit
from diptych.ptycho.evaluate.limit.result import THRESHOLD
from diptych.ptycho.figures.colours import robust_range
from diptych.ptycho.figures.panels import PixelSize, length_text, shade_unlit, show_image
from diptych.ptycho.physics.measured import Box
from diptych.ptycho.scan import Reconstruction

TITLES = (
    ("Standard error of the amplitude", "amplitude error"),
    ("Standard error of the phase", "phase error (rad)"),
)


def plot_limit(limit: Limit) -> Figure:
    """Least standard error of amplitude and phase on the scanned area, and the spectrum of object and errors.

    Parameters
    ----------
    limit : Limit
        Of :func:`diptych.bound`.
    """
    figure = Figure(figsize=(15, 4.9), layout="constrained")
    refined = f", {' and '.join(limit.refined)} refined" if limit.refined else ", probe known"
    figure.suptitle(
        f"Photon limit: relative complex error {limit.complex_error:.3g} at {limit.dose:.3g} photons in each of "
        f"{limit.patterns} patterns{refined}"
    )
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    maps = (limit.amplitude_error, limit.phase_error)
    _show_errors(axes[:2], maps, limit.origin, limit.box, limit.pixel_m)
    _show_spectrum(axes[2], limit)
    return figure


def show_error_bars(axes: Any, result: Reconstruction, box: Box, pixel_m: PixelSize) -> None:
    """Draw the error bars of a result inside a box of coordinates into two axes."""
    assert result.amplitude_error is not None
    assert result.phase_error is not None
    _show_errors(axes, (result.amplitude_error, result.phase_error), result.object.origin, box, pixel_m)


def _show_errors(
    axes: Any, maps: tuple[NDArray[np.float32], ...], origin: tuple[int, int], box: Box, pixel_m: PixelSize
) -> None:
    (y, x), (y0, y1, x0, x1) = origin, box
    for ax, values, (title, label) in zip(axes, maps, TITLES, strict=True):
        part = values[max(y0 - y, 0) : y1 - y, max(x0 - x, 0) : x1 - x]
        known = np.isfinite(part)
        limits = robust_range(part[known], (0, 99.5)) if known.any() else (0.0, 1.0)
        shown = np.where(known, part, limits[0])
        show_image(ax, shown, title, limits=limits, cmap="magma", label=label, pixel_m=pixel_m)
        shade_unlit(ax, known)


def _show_spectrum(ax: Axes, limit: Limit) -> None:
    ax.set_xlabel("spatial frequency (fraction of Nyquist)")
    ax.set_ylabel("power in the ring (arbitrary units)")
    ax.set_title("Object and least errors")
    if limit.spectrum is None:
        ax.text(0.5, 0.5, "no spectrum: small or flat area", ha="center", va="center", transform=ax.transAxes)
        return
    spectrum, curve = limit.spectrum, limit.spectrum.curve
    level = curve.threshold(THRESHOLD)
    ax.semilogy(curve.frequency, np.maximum(spectrum.signal, 1e-300), label="object")
    ax.semilogy(curve.frequency, spectrum.noise, label="least errors")
    ax.semilogy(curve.frequency, spectrum.noise * 2 * level / (1 - level), ":", label="half a bit (two halves)")
    shown = np.concatenate([spectrum.signal[spectrum.signal > 0], spectrum.noise])
    ax.set_ylim(0.5 * shown.min(), 2 * shown.max())
    if np.isfinite(limit.resolution):
        half = 1 / limit.resolution
        text = f"{half:.3g} px" if limit.pixel_m is None else length_text(half * max(limit.pixel_m))
        ax.axvline(limit.resolution, color="0.4", lw=1, label=f"half period {text}")
    ax.legend(fontsize=8)
