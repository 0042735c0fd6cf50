"""The figure of a comparison: images of all methods in common colour ranges, and their ring correlations."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diptych.ptycho.evaluate import metrics
from diptych.ptycho.evaluate.comparison import TRUTH, Comparison
from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.evaluate.resolution import ONE_SEVENTH, RingCorrelation
from diptych.ptycho.figures.colours import level_phase, robust_range
from diptych.ptycho.figures.panels import length_text, shade_unlit, show_image

_COLUMN = 3.1
_LEAST_WIDTH = 8.0
_CURVES = 3.6


def plot_methods(comparison: Comparison) -> Figure:
    """Amplitude and phase of the reference and of each method side by side, and their Fourier ring correlations below.

    Each row has the colour range of the reference. Where the reference is a method, the data may not determine its mean
    phase ramp; the same ramp is then removed from all images.
    """
    images = _without_ramp(comparison)
    height, width = images[comparison.reference].shape
    row = float(np.clip(_COLUMN * height / width, 1.2, 2 * _COLUMN)) + 0.35
    size = (max(_COLUMN * len(images) + 1.2, _LEAST_WIDTH), 2 * row + _CURVES + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2 * row, _CURVES))
    title = f"{comparison.scan}: compared with {_with_article(comparison.reference)}"
    figure.suptitle(textwrap.fill(title, 90), parse_math=False)
    axes = parts[0].subplots(2, len(images), squeeze=False)
    _show_images(axes, images, comparison)
    _show_curves(parts[1].subplots(), comparison.curves)
    return figure


def _without_ramp(comparison: Comparison) -> dict[str, NDArray[Any]]:
    """The aligned images, the reference first."""
    reference = comparison.aligned[comparison.reference]
    images = {comparison.reference: reference, **comparison.aligned}
    if comparison.reference == TRUTH:
        return images
    weight = np.ones(reference.shape) if comparison.mask is None else comparison.mask.astype(np.float64)
    rotation = np.exp(1j * np.angle(level_phase(reference, ramp=True, weight=weight) * reference.conj()))
    return {name: image * rotation for name, image in images.items()}


def _show_images(axes: NDArray[Any], images: dict[str, NDArray[Any]], comparison: Comparison) -> None:
    reference = images[comparison.reference]
    counted = np.ones(reference.shape, bool) if comparison.mask is None else comparison.mask
    for column, (name, image) in enumerate(images.items()):
        phase, true_phase = metrics.phases(image, reference)
        first, last = column == 0, column == len(images) - 1
        rms = float(np.sqrt(np.mean((phase - true_phase)[counted] ** 2)))
        error = metrics.complex_error(image[counted], reference[counted])
        titles = (
            name if first else f"{name}: error {error:.3g}",
            "" if first else f"phase rms {rms:.3g} rad",
        )
        shown = (("amplitude", np.abs(image), np.abs(reference)), ("phase (rad)", phase, true_phase))
        for ax, title, (label, values, reference_values) in zip(axes[:, column], titles, shown, strict=True):
            show_image(
                ax,
                values,
                title,
                limits=robust_range(reference_values[counted]),
                label=label if last else None,
                pixel_m=comparison.pixel_m,
                bar=first,
            )
            shade_unlit(ax, counted, legend=last and ax is axes[-1, column])
            ax.title.set_fontsize(10)
            if first:
                ax.set_ylabel(label.removesuffix(" (rad)"))


def _show_curves(ax: Axes, curves: dict[str, RingCorrelation]) -> None:
    """Ring correlation of every method with the reference; the legend gives the half-period resolution at 0.5."""
    for name, curve in curves.items():
        ax.plot(curve.frequency, curve.correlation, lw=1.6, label=f"{name}: {_half_period(curve)}")
    for threshold, style, text in ((0.5, "--", "0.5"), (ONE_SEVENTH, ":", "1/7")):
        ax.axhline(threshold, color="black", lw=0.9, ls=style)
        ax.text(0.995, threshold, text, ha="right", va="bottom", fontsize=8)
    ax.set(xlim=(0, 1), ylim=(-0.2, 1.05), xlabel="spatial frequency / Nyquist", ylabel="Fourier ring correlation")
    ax.grid(alpha=0.3)
    if curves:
        # Outside the axes: inside, it would cover part of some curve.
        ax.legend(
            fontsize=8,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            title="half-period resolution at FRC = 0.5",
            title_fontsize=8,
        )
    else:
        ax.text(0.5, 0.5, "no curve is defined on this area", ha="center", va="center", transform=ax.transAxes)


def _half_period(curve: RingCorrelation) -> str:
    try:
        at = curve.crossing(0.5)
    except UndefinedMetricError:
        return "not resolved"
    text = f"{1 / at:.3g} px" if curve.pixel_m is None else length_text(curve.pixel_m / at)
    return f"{text} (the pixel)" if at == 1 else text


def _with_article(reference: str) -> str:
    return "the truth" if reference == TRUTH else f"the method {reference}"
