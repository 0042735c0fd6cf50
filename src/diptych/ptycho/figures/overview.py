"""Figures of scans, reconstructions, their comparison with a truth, and ring correlations.

All functions return matplotlib Figures; no window opens and no global state changes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate import metrics
from diptych.ptycho.evaluate.align import Alignment, align
from diptych.ptycho.evaluate.comparison import Comparison
from diptych.ptycho.evaluate.gauge import REMOVED, resolve_gauge
from diptych.ptycho.evaluate.limit import Limit
from diptych.ptycho.evaluate.report import Metrics, UndefinedMetricError
from diptych.ptycho.evaluate.resolution import ONE_SEVENTH, RingCorrelation
from diptych.ptycho.figures.area import shown_part
from diptych.ptycho.figures.colours import phase_display, robust_range
from diptych.ptycho.figures.comparison import plot_methods
from diptych.ptycho.figures.limit import plot_limit, show_error_bars
from diptych.ptycho.figures.panels import (
    PixelSize,
    length_text,
    save_figure,
    shade_unlit,
    show_complex,
    show_history,
    show_image,
    show_wheel,
)
from diptych.ptycho.figures.positions import show_positions
from diptych.ptycho.physics.measured import compared_box, light_of
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

if TYPE_CHECKING:
    from diptych.ptycho.neural.diagnostics import PatchStatistics

__all__ = ["plot", "plot_comparison", "plot_frc", "plot_reconstruction", "plot_scan", "save_figure"]

_CHUNK_BYTES = 64 * 2**20
_MAX_MODES, _WIDE_MODES = 4, 2
_LINE_WIDTH = 140
_BOTTOM = -0.25
_LABEL_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}


def plot(item: Scan | Reconstruction | Comparison | Limit | PatchStatistics) -> Figure:
    """Draw a scan, a reconstruction, a comparison, a photon limit or the patch statistics of a network.

    Parameters
    ----------
    item : Scan, Reconstruction, Comparison, Limit or PatchStatistics
        A scan is drawn by :func:`plot_scan`, a reconstruction by :func:`plot_reconstruction`, a comparison by
        :func:`~diptych.ptycho.figures.comparison.plot_methods`.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot; write it with ``savefig`` or :func:`~diptych.ptycho.figures.panels.save_figure`.

    Raises
    ------
    InputError
        If ``item`` is none of them.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> diptych.plot(scan).savefig("scan.png")
    """
    if isinstance(item, Scan):
        return plot_scan(item)
    if isinstance(item, Reconstruction):
        return plot_reconstruction(item)
    if isinstance(item, Comparison):
        return plot_methods(item)
    if isinstance(item, Limit):
        return plot_limit(item)
    from diptych.ptycho.figures.network import plot_patch_statistics
    from diptych.ptycho.neural.diagnostics import PatchStatistics

    if isinstance(item, PatchStatistics):
        return plot_patch_statistics(item)
    raise InputError("plot", f"got a {type(item).__name__}", "a Scan, a Reconstruction, a Comparison or a Limit")


def plot_reconstruction(result: Reconstruction) -> Figure:
    """Amplitude, phase, complex view, probe modes and history of a reconstruction, cropped to the scanned area; where
    positions were refined, their moves too.

    The phase is shown with mean 0. When the probe was refined, the data do not determine the phase ramp: its mean is
    then removed, and the title says so. Display ranges are the 0.5th to 99.5th percentiles of the pixels that light
    reached; the others are hatched. Error bars have a row of their own where the result has them.
    """
    shown = shown_part(result)
    canvas, lit = shown.canvas, shown.lit
    gauge, _ = resolve_gauge("auto", result)
    values = shown.levelled(ramp=gauge == "full")
    amplitude, phase = np.abs(values), np.angle(values)
    bars = result.amplitude_error is not None and result.phase_error is not None
    figure = Figure(figsize=(15, 14.5 if bars else 9.2), layout="constrained")
    rows: Any = figure.subfigures(3 if bars else 2, 1, height_ratios=(1.25, 1, 1.25) if bars else (1.25, 1))
    # Names come from files: a $ in one is no formula.
    figure.suptitle(_headline(result), parse_math=False)
    axes = rows[0].subplots(1, 3)
    pixel_m = canvas.pixel_m or (result.geometry.object_pixel_m(result.probe.shape[-1]) if result.geometry else None)
    limits = robust_range(amplitude[lit])
    show_image(axes[0], amplitude, "Amplitude", limits=limits, label="amplitude", pixel_m=pixel_m)
    cmap, limits = phase_display(phase[lit])
    title = "Phase, ramp removed" if gauge == "full" else "Phase"
    show_image(axes[1], phase, title, limits=limits, cmap=cmap, label="phase (rad)", pixel_m=pixel_m)
    brightest = robust_range(amplitude[lit], (0, 99.5))[1]
    show_complex(axes[2], values, "Object: hue = phase, brightness = amplitude", pixel_m=pixel_m, limit=brightest)
    for ax in axes:
        shade_unlit(ax, lit)
    show_wheel(axes[2])
    moved = result.recorded_positions
    parts = rows[1].subfigures(1, 2 if moved is None else 3, width_ratios=(1.6, 1) if moved is None else (1.6, 1, 1))
    _show_modes(parts[0], result.probe, pixel_m)
    if moved is not None:
        show_positions(parts[1].subplots(), moved, result.positions)
    show_history(parts[-1].subplots(), result.history)
    if bars:
        show_error_bars(rows[2].subplots(1, 2), result, canvas.extent, pixel_m)
    return figure


def plot_scan(scan: Scan) -> Figure:
    """Mean pattern (log scale), positions coloured by the patterns' total counts, and the initial probe."""
    mean, totals = _mean_and_totals(scan)
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(
        f"{scan.name}: {len(scan)} patterns of {scan.size} x {scan.size} px, {_count(float(totals.mean()))} photons "
        f"per pattern",
        parse_math=False,
    )
    axes = figure.subplots(1, 3)
    _show_pattern(axes[0], mean)
    low, high = robust_range(totals, (0, 100))
    dots = axes[1].scatter(
        scan.positions[:, 1], scan.positions[:, 0], c=totals, s=_dot_area(len(scan)), vmin=low, vmax=high
    )
    axes[1].set_title("Positions")
    axes[1].set_xlabel("x (object px)")
    axes[1].set_ylabel("y (object px)")
    axes[1].set_aspect("equal", adjustable="box")
    axes[1].invert_yaxis()
    figure.colorbar(dots, cax=axes[1].inset_axes((1.02, 0.0, 0.04, 1.0)), label="photons per pattern")
    if scan.probe is None:
        axes[2].set_title("Initial probe")
        axes[2].text(0.5, 0.5, "none given", ha="center", va="center", transform=axes[2].transAxes)
        axes[2].set_axis_off()
    else:
        extra = "" if len(scan.probe) == 1 else f", mode 1 of {len(scan.probe)}"
        show_complex(axes[2], scan.probe[0], f"Initial probe{extra}", pixel_m=scan.pixel_m)
        show_wheel(axes[2])
    return figure


def plot_frc(
    curve: RingCorrelation | Sequence[RingCorrelation] | Metrics, thresholds: Sequence[float | str] = (0.5, ONE_SEVENTH)
) -> Figure:
    """Fourier ring correlation against spatial frequency, with thresholds and their crossings.

    Parameters
    ----------
    curve : RingCorrelation, several, or Metrics
        Curves to draw.
    thresholds : sequence of float or "half-bit"
        Thresholds to draw; each crossing is labelled with its half-period resolution.
    """
    curves = (
        [curve]
        if isinstance(curve, RingCorrelation)
        else list(curve.curves.values())
        if isinstance(curve, Metrics)
        else list(curve)
    )
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    ax = figure.subplots()
    for each in curves:
        line = ax.plot(each.frequency, each.correlation, lw=1.8, label=each.label)[0]
        for threshold in thresholds:
            _mark_crossing(ax, each, threshold, line.get_color())
    for threshold, style in zip(thresholds, ("--", ":", "-."), strict=False):
        name = threshold if isinstance(threshold, str) else "1/7" if threshold == ONE_SEVENTH else f"{threshold:g}"
        if curves:
            ax.plot(
                curves[0].frequency,
                curves[0].threshold(threshold),
                color="black",
                lw=0.9,
                ls=style,
                label=f"threshold {name}",
            )
    ax.axhline(0, color="black", lw=0.5)
    ax.set(
        xlim=(0, 1),
        ylim=(_BOTTOM - 0.02, 1.05),
        xlabel="spatial frequency / Nyquist",
        ylabel="Fourier ring correlation",
    )
    ax.set_title("Resolution")
    pixel_m = next((each.pixel_m for each in curves if each.pixel_m is not None), None)
    above = ax.secondary_xaxis("top", functions=(_identity, _identity))
    above.set_xticks(ticks := [0.1, 0.2, 1 / 3, 0.5, 0.75, 1.0])
    above.set_xticklabels(
        [f"{1 / f:.3g} px" if pixel_m is None else length_text(pixel_m / f) for f in ticks], fontsize=8
    )
    above.set_xlabel("half-period resolution")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="best")
    return figure


def plot_comparison(result: Reconstruction | Canvas | Alignment, truth: Canvas | None = None) -> Figure:
    """Truth, aligned result and their difference, in amplitude and phase.

    Parameters
    ----------
    result : Reconstruction, Canvas or Alignment
        The alignment of an evaluation, or a result that is aligned here with the gauge that the data leave free.
    truth : Canvas, optional
        Needed unless ``result`` is an Alignment.

    Raises
    ------
    InputError
        If there is no truth, or the images do not overlap.
    """
    alignment, gauge = _aligned(result, truth)
    image, reference, counted = alignment.result.values, alignment.truth.values, alignment.counted
    phase, true_phase = metrics.phases(image, reference)
    pixel_m = alignment.result.pixel_m or alignment.truth.pixel_m
    figure = Figure(figsize=(14, 8.6), layout="constrained")
    axes = figure.subplots(2, 3)
    error = metrics.complex_error(image[counted], reference[counted])
    figure.suptitle(f"Relative complex error {error:.4f}; {gauge}")
    rows: tuple[tuple[str, NDArray[Any], NDArray[Any], str], ...] = (
        ("amplitude", np.abs(image), np.abs(reference), "amplitude"),
        ("phase", phase, true_phase, "phase (rad)"),
    )
    for row, (name, found, true, label) in zip(axes, rows, strict=True):
        limits = robust_range(true[counted])
        error = found - true
        most = max(robust_range(np.abs(error[counted]), (0, 99.5))[1], 1e-6)
        show_image(row[0], true, f"True {name}", limits=limits, label=label, pixel_m=pixel_m)
        show_image(row[1], found, f"Reconstructed {name}", limits=limits, label=label, pixel_m=pixel_m)
        rms = float(np.sqrt(np.mean(error[counted] ** 2)))
        title = f"Difference, rms {rms:.3g}" + (" rad" if name == "phase" else "")
        show_image(
            row[2], error, title, limits=(-most, most), cmap="RdBu_r", label=f"{label}, result − truth", pixel_m=pixel_m
        )
        for ax in row:
            shade_unlit(ax, counted, legend=ax is row[2])
    return figure


def _aligned(result: Reconstruction | Canvas | Alignment, truth: Canvas | None) -> tuple[Alignment, str]:
    if isinstance(result, Alignment):
        return result, REMOVED[result.gauge]
    if truth is None:
        raise InputError("plot_comparison", "no truth is given", "a Canvas, or the alignment of an evaluation")
    gauge, why = resolve_gauge("auto", result)
    if isinstance(result, Canvas):
        return align(result, truth, None, gauge), why
    light = light_of(result)
    return align(result.object, truth, compared_box(result.positions, light), gauge, light=light), why


def _headline(result: Reconstruction) -> str:
    parts = [result.name, *(f"{len(result.positions)} patterns",)]
    for key, text in (("fit", "fit"), ("held_out_fit", "held-out fit")):
        # The provenance has the fit over all pixels; the history is computed on a sample of them.
        values = [
            value
            for value in (*result.history.get(key, []), result.provenance.get(key))
            if value is not None and np.isfinite(value)
        ]
        if values:
            parts.append(f"{text} {values[-1]:.3g}")
    return "\n".join(["   ".join(parts), *(textwrap.fill(flag, _LINE_WIDTH) for flag in result.flags)])


def _show_modes(figure: Any, probe: NDArray[Any], pixel_m: PixelSize) -> None:
    """The strongest probe modes, each with its share of the total power."""
    power = (np.abs(probe) ** 2).sum(axis=(1, 2))
    shown = min(len(probe), _MAX_MODES)
    axes = figure.subplots(1, shown, squeeze=False)[0]
    for i, ax in enumerate(axes):
        share = 100 * float(power[i] / power.sum())
        title = "Probe" if len(probe) == 1 else f"Probe mode {i + 1}\n{share:.3g} % of power"
        show_complex(ax, probe[i], title, pixel_m=pixel_m)
        if shown > _WIDE_MODES:
            ax.title.set_fontsize(8)
    show_wheel(axes[-1])
    if weaker := len(probe) - shown:
        figure.supxlabel(
            f"{weaker} weaker mode{'s' if weaker > 1 else ''} not shown: "
            f"{100 * float(power[shown:].sum() / power.sum()):.2g} % of the power",
            fontsize=8,
        )


def _show_pattern(ax: Any, mean: NDArray[np.float64]) -> None:
    positive = mean[np.isfinite(mean) & (mean > 0)]
    high = float(positive.max())
    low = min(max(float(np.percentile(positive, 1)), high * 1e-6), high / 10)
    filled = np.where(np.isfinite(mean), np.maximum(mean, low), np.nan)
    cmap = colormaps["viridis"].with_extremes(bad="lightgray")
    show_image(ax, filled, "Mean pattern", norm=LogNorm(low, high), cmap=cmap, label="photons per pixel", bar=False)
    if np.isnan(mean).any():
        ax.set_xlabel("gray: masked in every pattern", fontsize=8)


def _mean_and_totals(scan: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean count per valid pixel (NaN where never valid) and valid total per pattern, in bounded memory."""
    total = np.zeros((scan.size, scan.size))
    seen = np.zeros((scan.size, scan.size))
    totals = np.empty(len(scan))
    step = max(1, _CHUNK_BYTES // (8 * scan.size**2))
    for start in range(0, len(scan), step):
        part = slice(start, start + step)
        counts = scan.counts[part].astype(np.float64)
        if scan.mask is None:
            seen += len(counts)
        else:
            valid = np.broadcast_to(scan.mask if scan.mask.ndim == 2 else scan.mask[part], counts.shape)
            counts = np.where(valid, counts, 0.0)
            seen += valid.sum(axis=0)
        total += counts.sum(axis=0)
        totals[part] = counts.sum(axis=(1, 2))
    return np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0), totals


def _mark_crossing(ax: Any, curve: RingCorrelation, threshold: float | str, colour: Any) -> None:
    try:
        at = curve.crossing(threshold)
    except UndefinedMetricError:
        return
    if at < 1:
        text = f"{1 / at:.3g} px" if curve.pixel_m is None else length_text(curve.pixel_m / at)
        height = float(np.interp(at, curve.frequency, curve.threshold(threshold)))
        ax.plot([at], [height], "o", color=colour, ms=5)
        # The label stands below the curves, where it covers none of them.
        ax.plot([at, at], [_BOTTOM, height], color=colour, lw=0.8)
        ax.text(at, _BOTTOM, text, rotation=90, ha="center", va="bottom", fontsize=8, bbox=_LABEL_BOX)


def _identity(value: Any) -> Any:
    return value


def _dot_area(count: int) -> float:
    return float(np.clip(6000 / count, 1.0, 60.0))


def _count(value: float) -> str:
    return f"{value:.3g}" if value < 1e4 else f"{value:.2e}"
