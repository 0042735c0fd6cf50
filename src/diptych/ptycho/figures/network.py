"""Pictures of network patches. Plain matplotlib Figures: no window opens and no global state changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.figures.colours import level_phase, phase_display, robust_range
from diptych.ptycho.figures.panels import show_image
from diptych.ptycho.neural.diagnostics import to_array

MEMBERS = 4
"""Members of a group that are drawn."""

_TILE = 2.1
_MARGIN = 1.1


def patch_grid(patches: Sequence[NDArray[Any]] | NDArray[Any], titles: Sequence[str]) -> Figure:
    """Amplitudes above phases of patches (n of (N, N) complex), each row in one range of colours.

    The phase of every patch is turned to mean 0, for it is free. Ranges are the 0.5th to 99.5th percentiles.
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


def group_picture(
    counts: Tensor | NDArray[Any],
    foreseen: Tensor | NDArray[Any],
    before: Tensor | NDArray[Any],
    agreed: Tensor | NDArray[Any],
    valid: Tensor | NDArray[np.bool_] | None = None,
) -> Figure:
    """One group, a column per member (:data:`MEMBERS` at most): patterns measured and predicted, the object, and where
    members disagree.

    Parameters
    ----------
    counts, foreseen : (C, N, N)
        Measured and predicted counts, corner-centred; drawn with zero frequency in the middle and in one range of
        colours.
    before, agreed : (C, N, N) complex
        Patches before and after they agreed on the group's canvas.
    valid : bool, broadcast against ``counts``, optional
        True at valid pixels; the others are gray among the measured ones.
    """
    shown = slice(MEMBERS)
    measured, predicted = (
        np.fft.fftshift(to_array(each).astype(np.float64), axes=(-2, -1)) for each in (counts, foreseen)
    )
    if valid is not None:
        measured = np.where(
            np.fft.fftshift(np.broadcast_to(to_array(valid), measured.shape), axes=(-2, -1)), measured, np.nan
        )
    split, whole = to_array(before), to_array(agreed)
    # The members share one canvas, hence one phase.
    turned = level_phase(whole.reshape(-1, whole.shape[-1]), ramp=False).reshape(whole.shape)
    phase, apart = np.angle(turned), np.abs(split - whole)
    columns = min(len(measured), MEMBERS)
    axes, figure = _rows(5, columns, 0.3)
    norm = _log_norm(measured)
    cmap = colormaps["viridis"].with_extremes(bad="lightgray")
    for row, name, values in ((axes[0], "Measured", measured), (axes[1], "Predicted", predicted)):
        clipped = np.clip(values[shown], norm.vmin, norm.vmax)
        _show_row(row, clipped, name, norm=norm, cmap=cmap, label="photons", bar=False)
    _show_row(axes[2], np.abs(whole)[shown], "Amplitude", limits=robust_range(np.abs(whole)), label="amplitude")
    cyclic, limits = phase_display(phase)
    _show_row(axes[3], phase[shown], "Phase, mean 0", limits=limits, cmap=cyclic, label="phase (rad)")
    most = max(robust_range(apart, (0, 99.5))[1], 1e-6)
    _show_row(axes[4], apart[shown], "Disagreement", limits=(0.0, most), cmap="magma", label="|before − agreed|")
    for i, ax in enumerate(axes[0]):
        ax.set_title(f"Member {i}", fontsize=10)
    notes = [f"{len(measured) - columns} more members not shown"] if len(measured) > columns else []
    if np.isnan(measured[shown]).any():
        notes.append("gray: masked")
    figure.supxlabel("; ".join(notes), fontsize=9)
    return figure


def _rows(rows: int, columns: int, head: float) -> tuple[Any, Figure]:
    figure = Figure(figsize=(_TILE * columns + _MARGIN, (_TILE + 0.08) * rows + head), layout="constrained")
    return figure.subplots(rows, columns, squeeze=False), figure


def _show_row(
    axes: NDArray[Any], images: NDArray[Any], name: str, *, label: str, bar: bool = True, **colours: Any
) -> None:
    """Images in one range of colours: named at the left, the colour bar at the right, the scale bar in the first."""
    for i, (ax, image) in enumerate(zip(axes, images, strict=True)):
        show_image(ax, image, "", label=label if i == len(axes) - 1 else None, bar=bar and i == 0, **colours)
    axes[0].set_ylabel(name)


def _log_norm(measured: NDArray[np.float64]) -> LogNorm:
    """From the faintest counts that were measured to the brightest; of the faintest of them no more than six decades
    below.
    """
    positive = measured[np.isfinite(measured) & (measured > 0)]
    high = float(positive.max(initial=1.0))
    low = float(positive.min(initial=high))
    return LogNorm(min(max(low, high * 1e-6), high / 10), high)
