"""Colour maps of the viewer as lookup tables: perceptually uniform, and safe for colour-blind people."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.figures.area import STRIPE, UNLIT
from diptych.ptycho.figures.colours import complex_to_rgb

Bytes = NDArray[np.uint8]

MAPS = {
    "sequential": ("viridis", "cividis", "magma", "gray"),
    "cyclic": ("twilight", "twilight_shifted"),
    "diverging": ("managua", "berlin", "vanimo", "viridis"),
    "complex": ("hue",),
}
"""Maps that are offered for each scale; the first is the default."""

RESERVED = 2
"""Entries of a palette before the colour map: the two colours of unlit pixels."""

_STEPS = 256 - RESERVED


def maps_for(scale: str) -> tuple[str, ...]:
    """Names of the colour maps for a scale (``sequential``, ``cyclic``, ``diverging``, ``complex``).

    Maps that the installed matplotlib does not have are left out.
    """
    import matplotlib

    known = tuple(name for name in MAPS[scale] if name == "hue" or name in matplotlib.colormaps)
    return known or ("viridis",)


@cache
def palette(name: str) -> Bytes:
    """Palette (256, 3): two colours of unlit pixels, then the colour map from its low to its high end."""
    import matplotlib

    colours = matplotlib.colormaps[name](np.linspace(0, 1, _STEPS))[:, :3]
    return np.asarray(np.rint(255 * np.concatenate([[UNLIT, STRIPE], colours])), np.uint8)


def indices(values: NDArray[Any], low: float, high: float) -> Bytes:
    """Entries of a palette (h, w) for real values; what lies outside ``low``..``high`` takes the nearest end."""
    scale = (_STEPS - 1) / (high - low)
    scaled = values.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(scale)
    np.clip(np.nan_to_num(scaled, copy=False), 0, _STEPS - 1, out=scaled)
    scaled += np.float32(RESERVED + 0.5)
    return scaled.astype(np.uint8)


@cache
def _complex_table() -> NDArray[np.uint32]:
    """Colour (65536,) of hue * 256 + brightness, as the bytes R, G, B, 0."""
    angle = np.exp(2j * np.pi * np.arange(256) / 256)
    field = angle[:, None] * (np.arange(256) / 255)[None, :]
    table = np.zeros((256, 256, 4), np.uint8)
    table[..., :3] = np.rint(255 * complex_to_rgb(field, limit=1.0))
    return table.reshape(-1, 4).view(np.uint32)[:, 0]


def complex_colours(phase: NDArray[Any], amplitude: NDArray[Any], limit: float) -> Bytes:
    """Colours (h, w, 3) of a complex field in the convention of :func:`~diptych.ptycho.figures.colours.complex_to_rgb`.

    Parameters
    ----------
    phase : (h, w)
        Radians.
    amplitude : (h, w)
        Not negative.
    limit : float
        Amplitude at full brightness.
    """
    hue = np.rint(phase * np.float32(128 / np.pi)).astype(np.int32) & 255
    bright = np.clip(amplitude * np.float32(255 / limit), 0, 255).astype(np.int32)
    found: Bytes = _complex_table()[(hue << 8) | bright].view(np.uint8).reshape(*phase.shape, 4)
    return found[..., :3]


def stripes(rows: slice, columns: slice) -> NDArray[np.bool_]:
    """Diagonal stripes (h, w) of unlit areas; the pattern stays in place when the view moves."""
    y, x = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
    return np.asarray(((y[:, None] + x[None, :]) // 3) % 3 == 0)


def legend(name: str, steps: int = 32) -> list[str]:
    """Colours of a map from low to high as ``#rrggbb``, for the colour bar; of ``hue`` those of phase -pi to pi."""
    if name == "hue":
        phase = np.linspace(-np.pi, np.pi, steps)[None]
        rows = complex_colours(phase.astype(np.float32), np.ones_like(phase), 1.0)[0]
    else:
        rows = palette(name)[np.linspace(RESERVED, 255, steps).astype(int)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rows.tolist()]
