"""Figures of studies: curves of a table against one of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diptych.ptycho.figures.colours import robust_range

_WIDTH, _HEIGHT = 4.8, 4.4


@dataclass(frozen=True)
class Panel:
    """One panel of :func:`plot_curves`.

    Parameters
    ----------
    column : str
        Column of the table on the vertical axis; ``<column>_sd``, where there is one, gives the error bars.
    label : str
        Axis label, with the unit.
    log : bool
        Logarithmic vertical axis.
    """

    column: str
    label: str
    log: bool = False


def plot_curves(
    rows: Sequence[Mapping[str, Any]],
    x: str,
    panels: Sequence[Panel],
    *,
    by: str,
    xlabel: str,
    title: str,
    log_x: bool = True,
) -> Figure:
    """Columns of a table against another one, one panel per column and one curve per value of ``by``.

    Parameters
    ----------
    rows : sequence of mapping
        The table. Undefined values (None) are left out of the curves.
    x : str
        Column of the horizontal axis.
    panels : sequence of Panel
        What to draw.
    by : str
        Column whose values the curves stand for.
    xlabel, title : str
        Label of the horizontal axis and title of the figure.
    log_x : bool
        Logarithmic horizontal axis.
    """
    figure = Figure(figsize=(_WIDTH * len(panels), _HEIGHT), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(row[by] for row in rows))
    for ax, panel in zip(axes, panels, strict=True):
        for number, name in enumerate(names):
            mine = [row for row in rows if row[by] == name and row.get(panel.column) is not None]
            values, deviations = _column(mine, panel.column), _column(mine, f"{panel.column}_sd")
            # Empty curves are drawn too: every name then has the same colour in all panels.
            ax.errorbar(
                _column(mine, x),
                values,
                yerr=np.nan_to_num(deviations),
                marker="os^Dv"[number % 5],
                capsize=3,
                lw=1.5,
                label=str(name),
            )
        # A logarithmic axis without a positive value cannot be drawn: every value may be undefined in an early table.
        shown = [row for row in rows if row.get(panel.column) is not None]
        if log_x and np.any(_column(shown, x) > 0):
            ax.set_xscale("log")
        if panel.log and np.any(_column(shown, panel.column) > 0):
            ax.set_yscale("log")
        ax.set(xlabel=xlabel, ylabel=panel.label)
        ax.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8, title=by, title_fontsize=8)
    return figure


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)


def plot_images(truth: NDArray[Any], methods: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], title: str) -> Figure:
    """Amplitude (above) and phase (below) of the truth and of each method, in the colour ranges of the truth.

    Parameters
    ----------
    truth : (h, w) complex
        The true object.
    methods : mapping of str to ((h, w) complex, (h, w) complex)
        Aligned image of each method, and the truth on the same box.
    title : str
        Title of the figure.
    """
    figure = Figure(figsize=(2.9 * (len(methods) + 1) + 0.6, 6.0), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, len(methods) + 1, squeeze=False)
    columns = {"truth": (truth, truth), **methods}
    for row in range(2):
        low, high = robust_range(np.abs(truth) if row == 0 else np.angle(truth))
        for ax, (name, (image, reference)) in zip(axes[row], columns.items(), strict=True):
            values = np.abs(image) if row == 0 else _phase_like(image, reference)
            error = float(np.linalg.norm(image - reference) / max(float(np.linalg.norm(reference)), 1e-30))
            caption = name if name == "truth" or row else f"{name}: error {error:.3g}"
            shown = ax.imshow(values, vmin=low, vmax=high, cmap="gray", interpolation="nearest")
            ax.set_title(caption, fontsize=9)
            ax.set_axis_off()
        figure.colorbar(shown, ax=axes[row].tolist(), shrink=0.8, label="amplitude" if row == 0 else "phase (rad)")
    return figure


def plot_bands(
    rows: Sequence[Mapping[str, Any]], x: str, panels: Sequence[Panel], *, by: str, xlabel: str, title: str
) -> Figure:
    """Medians of columns against another one, with bands between the quartiles (``<column>_q25``, ``<column>_q75``)."""
    figure = Figure(figsize=(_WIDTH * len(panels), _HEIGHT), layout="constrained")
    figure.suptitle(title)
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in dict.fromkeys(row[by] for row in rows):
            mine = [row for row in rows if row[by] == name and row.get(panel.column) is not None]
            at = _column(mine, x)
            (curve,) = ax.plot(at, _column(mine, panel.column), marker="o", lw=1.5, label=str(name))
            low, high = _column(mine, f"{panel.column}_q25"), _column(mine, f"{panel.column}_q75")
            ax.fill_between(at, low, high, color=curve.get_color(), alpha=0.2, lw=0)
        ax.set(xlabel=xlabel, ylabel=panel.label)
        if np.any(_column(rows, x) > 0):
            ax.set_xscale("log")
        shown = [row for row in rows if row.get(panel.column) is not None]
        if panel.log and np.any(_column(shown, panel.column) > 0):
            ax.set_yscale("log")
        ax.grid(alpha=0.3, which="both")
        ax.legend(fontsize=8, title=by, title_fontsize=8)
    return figure


def plot_six(rows: Sequence[tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]]) -> Figure:
    """Per dose a row of three panels: log10 of a pattern's counts + 1, then the amplitude by two losses (MAE, Poisson).

    Parameters
    ----------
    rows : sequence of (label, (N, N), (h, w), (h, w))
        Label of the dose, pattern, amplitude trained with MAE, amplitude trained with Poisson.
    """
    figure = Figure(figsize=(15, 5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for line, (label, pattern, mae, poisson) in zip(axes, rows, strict=True):
        panels = ((pattern, "log10(counts + 1)", "viridis"), (mae, "amplitude, MAE", "gray"))
        for ax, (image, name, colours) in zip(line, (*panels, (poisson, "amplitude, Poisson", "gray")), strict=True):
            low, high = robust_range(image)
            figure.colorbar(ax.imshow(image, vmin=low, vmax=high, cmap=colours), ax=ax, shrink=0.8)
            ax.set_title(f"{label}: {name}")
            ax.set_axis_off()
    return figure


def _phase_like(image: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """Phase of an image, unwrapped to within pi of that of the reference."""
    return np.asarray(np.angle(reference) + np.angle(image * reference.conj()))


def plot_frontier(rows: Sequence[Mapping[str, Any]], panel: Panel, *, title: str) -> Figure:
    """Error against dose with the photon limit (left), and operations per pattern (right), by object.

    Parameters
    ----------
    rows : sequence of mapping
        With the columns ``object``, ``dose``, ``method``, ``photon_limit``, ``flops_per_pattern`` and the panel's.
    """
    kinds = list(dict.fromkeys(row["object"] for row in rows))
    figure = Figure(figsize=(2 * _WIDTH, _HEIGHT * len(kinds)), layout="constrained")
    figure.suptitle(title)
    for line, kind in zip(figure.subplots(len(kinds), 2, squeeze=False), kinds, strict=True):
        mine = [row for row in rows if row["object"] == kind]
        for number, name in enumerate(dict.fromkeys(row["method"] for row in mine)):
            own = [row for row in mine if row["method"] == name]
            style: dict[str, Any] = {"marker": "os^Dv"[number % 5], "color": f"C{number}", "label": str(name)}
            line[0].plot(_column(own, "dose"), _column(own, panel.column), **style)
            line[1].plot(_column(own, "flops_per_pattern"), _column(own, panel.column), ls="", **style)
        limits = {row["dose"]: row["photon_limit"] for row in mine if row.get("photon_limit")}
        line[0].plot(sorted(limits), [limits[dose] for dose in sorted(limits)], "k--", label="photon limit")
        for ax, label in zip(line, ("photons per pattern", "operations per pattern"), strict=True):
            if any(np.isfinite(each.get_xdata()).any() for each in ax.lines):
                ax.set(xscale="log", yscale="log" if panel.log else "linear")
            ax.set(xlabel=label, ylabel=panel.label, title=str(kind))
            ax.grid(alpha=0.3, which="both")
        line[0].legend(fontsize=7)
    return figure
