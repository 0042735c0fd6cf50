"""Figures of studies: curves of a table against one of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
