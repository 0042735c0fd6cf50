"""The slices of a thick object, each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diptych.errors import InputError
from diptych.ptycho.evaluate.gauge import resolve_gauge
from diptych.ptycho.figures.area import Shown, shown_part
from diptych.ptycho.figures.colours import phase_display, robust_range
from diptych.ptycho.figures.panels import length_text, shade_unlit, show_image
from diptych.ptycho.scan import Canvas, Reconstruction

WIDTH, HEIGHT = 3.6, 3.4
"""Of one image, inches."""

ACROSS = 4
"""Slices beside each other."""


def plot_slices(result: Reconstruction) -> Figure:
    """Amplitude and phase of each slice of a result, with its depth below the first one.

    The area, the lit pixels and the colour ranges are those of :func:`~diptych.ptycho.figures.overview.plot`, the
    ranges common to all slices. The phase of each has mean 0; where the probe was refined, its mean ramp is removed.

    Parameters
    ----------
    result : Reconstruction
        With ``slices``.

    Raises
    ------
    InputError
        If it has none.
    """
    if result.slices is None:
        raise InputError("plot_slices", f"the result {result.name!r} has one slice", "a result with slices=2 or more")
    shown, ramp = shown_part(result), resolve_gauge("auto", result)[0] == "full"
    extent = shown.canvas.extent
    levelled = np.stack([_part(result, values, shown, extent).levelled(ramp=ramp) for values in result.slices])
    modulus, phase, lit = np.abs(levelled), np.angle(levelled), shown.lit
    grey, (cmap, colours) = robust_range(modulus[:, lit]), phase_display(phase[:, lit])
    pixel_m = shown.canvas.pixel_m
    across = min(len(levelled), ACROSS)
    down = -(-len(levelled) // across)
    figure = Figure(figsize=(WIDTH * across + 1, 2 * HEIGHT * down + 0.6), layout="constrained")
    figure.suptitle(_title(result), parse_math=False)
    axes: Any = figure.subplots(2 * down, across, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i in range(len(levelled)):
        above, below = axes[2 * (i // across), i % across], axes[2 * (i // across) + 1, i % across]
        where = f"Slice {i + 1}{_depth(result, i)}"
        show_image(above, modulus[i], f"{where}: amplitude", limits=grey, label="amplitude", pixel_m=pixel_m)
        show_image(below, phase[i], f"{where}: phase", limits=colours, cmap=cmap, label="phase (rad)", pixel_m=pixel_m)
        for ax in (above, below):
            ax.set_axis_on()
            shade_unlit(ax, lit)
    return figure


def _part(result: Reconstruction, values: Any, shown: Shown, extent: tuple[int, int, int, int]) -> Shown:
    """A slice in the area and with the lit pixels of the whole object."""
    canvas = Canvas(values, result.object.origin, result.object.pixel_m).crop(*extent)
    return Shown(canvas, shown.lit, shown.weight)


def _depth(result: Reconstruction, i: int) -> str:
    if result.slice_distance_m is None:
        return ""
    return " at 0" if i == 0 else f" at {length_text(i * result.slice_distance_m)}"


def _title(result: Reconstruction) -> str:
    distance = result.slice_distance_m
    apart = "distance not known" if distance is None else f"{length_text(distance)} apart"
    assert result.slices is not None
    return f"{result.name}: {len(result.slices)} slices, {apart}, in the order in which the beam meets them"
