"""Numbers of an image: values under the cursor, line profile, histogram."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.studio.components.viewer.source import ImageSource
from diptych.studio.components.viewer.view import display_range, quantity_of, sample

BINS = 96
PROFILE_POINTS = 512
"""Points of a line profile at most."""


def values_at(source: ImageSource, y: float, x: float) -> dict[str, Any]:
    """Values of every quantity at the pixel that holds a coordinate (y, x), as JSON values.

    ``inside`` is false, and there are no values, outside the image; ``lit`` is null where it is not known.
    """
    if not (math.isfinite(y) and math.isfinite(x)):
        raise InputError("values: coordinate", f"found ({y}, {x})", "finite numbers")
    row, column = math.floor(y) - source.origin[0], math.floor(x) - source.origin[1]
    found: dict[str, Any] = {"y": math.floor(y), "x": math.floor(x), "inside": False, "lit": None, "values": []}
    if not (0 <= row < source.shape[0] and 0 <= column < source.shape[1]):
        return found
    window = (slice(row, row + 1), slice(column, column + 1))
    found["inside"] = True
    found["lit"] = None if source.lit is None else bool(source.lit[0][row, column])
    found["values"] = [
        {"name": each.name, "label": each.label, "unit": each.unit, "value": float(each.read(0, window)[0, 0])}
        for each in source.quantities.values()
        if each.scale != "complex"
    ]
    return found


def profile(source: ImageSource, name: str, start: tuple[float, float], stop: tuple[float, float]) -> dict[str, Any]:
    """Values of a quantity along a line, at full resolution, as JSON values.

    Parameters
    ----------
    source : ImageSource
        The image.
    name : str
        Quantity. Of a phase the nearest pixels are taken, of others linear interpolation.
    start, stop : (float, float)
        Ends (y, x) in coordinates; pixel [i, j] covers i..i + 1, j..j + 1. Points outside the image are null.

    Returns
    -------
    dict
        ``distance`` from the start, ``value``, ``unit`` of the value and ``length_unit`` (``m`` or ``px``).
    """
    quantity = quantity_of(source, name)
    ends = np.asarray([start, stop], float)
    if not np.isfinite(ends).all():
        raise InputError("profile: ends", f"found {start}, {stop}", "finite numbers")
    pixels = float(np.hypot(*(ends[1] - ends[0])))
    count = int(min(max(math.ceil(pixels), 1) + 1, PROFILE_POINTS))
    share = np.linspace(0, 1, count)
    y, x = ((ends[0] + share[:, None] * (ends[1] - ends[0])) - np.asarray(source.origin)).T
    inside = (y >= 0) & (y < source.shape[0]) & (x >= 0) & (x < source.shape[1])
    values = np.full(count, np.nan)
    if inside.any():
        values[inside] = _interpolated(source, quantity.name, y[inside], x[inside])
    sides = np.asarray(source.pixel_m if source.pixel_m is not None else (1.0, 1.0))
    length = float(np.hypot(*((ends[1] - ends[0]) * sides)))
    return {
        "distance": (share * length).tolist(),
        "value": [float(v) if math.isfinite(v) else None for v in values],
        "unit": quantity.unit,
        "label": quantity.label,
        "length_unit": "px" if source.pixel_m is None else "m",
    }


def histogram(source: ImageSource, name: str) -> dict[str, Any]:
    """Histogram of the lit pixels of a quantity, somewhat wider than its display range, as JSON values."""
    values = sample(source, name)
    finite = values[np.isfinite(values)]
    low, high = display_range(source, name)
    margin = 0.15 * (high - low)
    edges = (low - margin, high + margin)
    counts, _ = np.histogram(finite, BINS, edges)
    return {"low": edges[0], "high": edges[1], "counts": counts.tolist(), "range": [low, high]}


def _interpolated(source: ImageSource, name: str, y: Any, x: Any) -> Any:
    from scipy.ndimage import map_coordinates

    quantity = source.quantities[name]
    low = np.floor([y.min(), x.min()]).astype(int) - 1
    high = np.ceil([y.max(), x.max()]).astype(int) + 2
    rows = slice(max(low[0], 0), min(high[0], source.shape[0]))
    columns = slice(max(low[1], 0), min(high[1], source.shape[1]))
    part = np.asarray(quantity.read(0, (rows, columns)), np.float64)
    # Phases jump by 2 pi between neighbours, where a mean would mean nothing.
    order = 0 if quantity.scale in ("cyclic", "complex") else 1
    at = [y - 0.5 - rows.start, x - 0.5 - columns.start]
    return map_coordinates(part, at, order=order, mode="nearest")
