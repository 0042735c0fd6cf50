"""Figures of networks: patches, groups, loss curves. Plain matplotlib Figures; no window, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.figures.colours import level_phase, phase_display, robust_range
from diptych.ptycho.figures.panels import show_image
from diptych.ptycho.neural.diagnostics import PatchStatistics, to_array
from diptych.ptycho.physics.illumination import lit

MEMBERS = 4
"""Members of a group that are drawn."""

_TILE = 2.1
_MARGIN = 1.1


def patch_grid(patches: Sequence[NDArray[Any]] | NDArray[Any], titles: Sequence[str]) -> Figure:
    """Amplitudes (first row) and phases (second row) of patches, with one colour range per row.

    The mean phase of each patch, which the data do not determine, is removed. Ranges are the 0.5th to 99.5th
    percentiles.

    Parameters
    ----------
    patches : n of (N, N) complex
        The patches.
    titles : sequence of str
        One for each.
    """
    amplitude = np.stack([np.abs(patch) for patch in patches])
    phase = np.stack([np.angle(level_phase(patch, ramp=False)) for patch in patches])
    axes, figure = _rows(2, len(amplitude), 0.5)
    _show_row(axes[0], amplitude, "Amplitude", limits=robust_range(amplitude), label="amplitude")
    cmap, limits = phase_display(phase)
    _show_row(axes[1], phase, "Phase, mean 0", limits=limits, cmap=cmap, label="phase (rad)")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    return figure


def plot_patch_statistics(statistics: PatchStatistics) -> Figure:
    """The latest patches that were recorded."""
    titles, patches = zip(*statistics.tiles, strict=True)
    return patch_grid(patches, titles)


def plot_group(
    counts: Tensor | NDArray[Any],
    predicted: Tensor | NDArray[Any],
    patches: Tensor | NDArray[Any],
    merged: Tensor | NDArray[Any],
    valid: Tensor | NDArray[np.bool_] | None = None,
    light: Tensor | NDArray[Any] | None = None,
) -> Figure:
    """One group, a column per member (:data:`MEMBERS` at most): measured and predicted patterns, object, difference.

    Parameters
    ----------
    counts, predicted : (C, N, N)
        Measured and predicted counts, corner-centred; drawn with zero frequency in the centre and with one colour
        range.
    patches, merged : (C, N, N) complex
        Patches before and after overlapping patches were averaged.
    valid : bool, broadcast against ``counts``, optional
        True at valid pixels; the others are gray in the measured patterns.
    light : (C, N, N) or (N, N), optional
        Illumination of the members. Level and colour ranges are those of the lit pixels; the others are gray in the
        images of the object.
    """
    shown = slice(MEMBERS)
    measured, predicted = (
        np.fft.fftshift(to_array(each).astype(np.float64), axes=(-2, -1)) for each in (counts, predicted)
    )
    if valid is not None:
        measured = np.where(
            np.fft.fftshift(np.broadcast_to(to_array(valid), measured.shape), axes=(-2, -1)), measured, np.nan
        )
    split, whole = to_array(patches), to_array(merged)
    # The members share one canvas and so one global phase.
    seen = np.ones(whole.shape, bool) if light is None else _lit(to_array(light), whole.shape)
    rows, weight = whole.reshape(-1, whole.shape[-1]), seen.reshape(-1, whole.shape[-1]).astype(float)
    levelled = level_phase(rows, ramp=False, weight=weight).reshape(whole.shape)
    amplitude, phase, difference = (
        np.where(seen, each, np.nan) for each in (np.abs(whole), np.angle(levelled), np.abs(split - whole))
    )
    columns = min(len(measured), MEMBERS)
    axes, figure = _rows(5, columns, 0.3)
    norm = _log_norm(measured)
    cmap = colormaps["viridis"].with_extremes(bad="lightgray")
    for row, name, values in ((axes[0], "Measured", measured), (axes[1], "Predicted", predicted)):
        clipped = np.clip(values[shown], norm.vmin, norm.vmax)
        _show_row(row, clipped, name, norm=norm, cmap=cmap, label="photons", bar=False)
    limits = robust_range(amplitude[seen])
    _show_row(axes[2], amplitude[shown], "Amplitude", limits=limits, cmap=_gray_where_dark("gray"), label="amplitude")
    name, limits = phase_display(phase[seen])
    cyclic = _gray_where_dark(name)
    _show_row(axes[3], phase[shown], "Phase, mean 0", limits=limits, cmap=cyclic, label="phase (rad)")
    limits = (0.0, max(robust_range(difference[seen], (0, 99.5))[1], 1e-6))
    spread = _gray_where_dark("magma")
    _show_row(axes[4], difference[shown], "Difference", limits=limits, cmap=spread, label="|patch − merged|")
    for i, ax in enumerate(axes[0]):
        ax.set_title(f"Member {i}", fontsize=10)
    notes = [f"{len(measured) - columns} more members not shown"] if len(measured) > columns else []
    if np.isnan(measured[shown]).any():
        notes.append("gray: masked")
    if not seen[shown].all():
        notes.append("blue-gray: not lit")
    figure.supxlabel("; ".join(notes), fontsize=9)
    return figure


def plot_losses(history: Mapping[str, Sequence[float]], best_epoch: int) -> Figure:
    """Training and validation loss of each epoch, the epoch whose weights were kept, and the learning rate.

    Parameters
    ----------
    history : mapping of str to sequence of float
        Columns ``epoch``, ``loss``, ``validation_loss`` (NaN without validation) and ``learning_rate``.
    best_epoch : int
        The epoch whose weights were kept.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        if np.isfinite(history[name]).any():
            top.plot(history["epoch"], history[name], marker=".", label=label)
    top.axvline(best_epoch, color="gray", linewidth=1, linestyle="--", label=f"kept: epoch {best_epoch}")
    top.set(ylabel="loss", yscale="log", title="Training")
    top.legend()
    bottom.plot(history["epoch"], history["learning_rate"], color="black")
    bottom.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


class Figures:
    """The figures of this module as :class:`~diptych.ptycho.neural.protocols.NetworkFigures`, for training."""

    patches = staticmethod(patch_grid)
    group = staticmethod(plot_group)
    losses = staticmethod(plot_losses)


def _rows(rows: int, columns: int, head: float) -> tuple[Any, Figure]:
    figure = Figure(figsize=(_TILE * columns + _MARGIN, (_TILE + 0.08) * rows + head), layout="constrained")
    return figure.subplots(rows, columns, squeeze=False), figure


def _show_row(
    axes: NDArray[Any], images: NDArray[Any], name: str, *, label: str, bar: bool = True, **colours: Any
) -> None:
    """Images with one colour range: the name at the left, the colour bar at the right, the scale bar in the first."""
    for i, (ax, image) in enumerate(zip(axes, images, strict=True)):
        show_image(ax, image, "", label=label if i == len(axes) - 1 else None, bar=bar and i == 0, **colours)
    axes[0].set_ylabel(name)


def _lit(light: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Lit pixels of each member (C, N, N); all of one that no light reached."""
    masks = [lit(each) for each in np.broadcast_to(light, shape)]
    return np.stack([mask if mask.any() else ~mask for mask in masks])


def _gray_where_dark(name: str) -> Colormap:
    return colormaps[name].with_extremes(bad="lightsteelblue")


def _log_norm(measured: NDArray[np.float64]) -> LogNorm:
    """From the smallest positive count to the largest, six decades at most."""
    positive = measured[np.isfinite(measured) & (measured > 0)]
    high = float(positive.max(initial=1.0))
    low = float(positive.min(initial=high))
    return LogNorm(min(max(low, high * 1e-6), high / 10), high)
