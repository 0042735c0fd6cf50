"""Which pixels of a result are compared: those that light reached, inside the box of the positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.physics.illumination import Mask, illumination, lit, measured_frames, soft_outside
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

Box = tuple[int, int, int, int]
"""(y0, y1, x0, x1): a half-open box of object pixel coordinates."""

LEAST_SIDE = 8
"""Smallest side of an area that can be compared, px. A narrower box of positions is widened to the lit pixels."""

EDGE = 8.0
"""Width of the soft edges of masks, px."""


@dataclass(frozen=True, eq=False)
class Light:
    """Illumination on a canvas, by coordinates.

    Parameters
    ----------
    values : (H, W)
        Illumination, >= 0.
    origin : (int, int)
        Coordinate (y, x) of pixel [0, 0].
    lit : (H, W) bool
        Which pixels count as measured; computed from ``values``.
    """

    values: NDArray[np.floating[Any]]
    origin: tuple[int, int]
    lit: Mask = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lit", lit(self.values))

    def mask(self, box: Box) -> Mask:
        """Lit pixels of a box, (h, w); False where the box leaves the canvas."""
        return np.asarray(_part(self.lit, self.origin, box), bool)

    def weight(self, box: Box) -> NDArray[np.float64]:
        """Illumination of the lit pixels of a box, 0 elsewhere, (h, w)."""
        return np.asarray(_part(np.where(self.lit, self.values, 0), self.origin, box), np.float64)

    def fade(self, box: Box) -> NDArray[np.float64]:
        """Window (h, w) of a box that is 1 on lit pixels and falls softly to 0 outside them."""
        return soft_outside(self.mask(box), EDGE)

    def extent(self) -> Box:
        """Bounding box of the lit pixels."""
        rows, columns = (np.flatnonzero(self.lit.any(axis=axis)) for axis in (1, 0))
        y, x = self.origin
        return y + int(rows[0]), y + int(rows[-1]) + 1, x + int(columns[0]), x + int(columns[-1]) + 1


def light_of(item: Reconstruction | Scan | Canvas | None) -> Light | None:
    """The illumination of a result, or of a scan with a probe (the true one where it is simulated); None without."""
    if isinstance(item, Reconstruction):
        if item.illumination is not None:
            return _useful(Light(item.illumination, item.object.origin))
        if not len(item.positions) or not _fitting(scanned_box(item.positions), item.object.extent):
            return None
        origin, shape = item.object.origin, item.object.shape
        return _useful(Light(illumination(item.probe, item.positions, origin, shape), origin))
    if isinstance(item, Scan):
        probe = item.probe if item.true_probe is None else item.true_probe
        return None if probe is None else scan_light(item, probe)
    return None


def scan_light(scan: Scan, probe: NDArray[np.complexfloating[Any, Any]]) -> Light | None:
    """The illumination of all unmasked patterns of a scan by a probe (P, N, N); None where there is none."""
    low, high = (np.floor(edge).astype(int) for edge in (scan.positions.min(0), scan.positions.max(0)))
    (y, x), (h, w) = (low - scan.size // 2).tolist(), (high - low + scan.size + 2).tolist()
    counted = measured_frames(scan.mask, len(scan))
    return _useful(Light(illumination(probe, scan.positions, (y, x), (h, w), counted), (y, x)))


def scanned_box(positions: NDArray[np.float64]) -> Box:
    """Half-open box of coordinates between the outermost (y, x) positions."""
    (y0, x0), (y1, x1) = np.ceil(positions.min(axis=0)), np.floor(positions.max(axis=0))
    return int(y0), int(y1), int(x0), int(x1)


def compared_box(positions: NDArray[np.float64], light: Light | None) -> Box:
    """The box between the outermost positions; where it is narrower than 8 px, as for a scan along a line, its side is
    that of the lit pixels.
    """
    y0, y1, x0, x1 = scanned_box(positions)
    if light is not None:
        ly0, ly1, lx0, lx1 = light.extent()
        y0, y1 = (y0, y1) if y1 - y0 >= LEAST_SIDE else (ly0, ly1)
        x0, x1 = (x0, x1) if x1 - x0 >= LEAST_SIDE else (lx0, lx1)
    return y0, y1, x0, x1


def _fitting(a: Box, b: Box) -> bool:
    """Whether at least half of the smaller box lies in the other: else they are hardly in the same coordinates."""
    sides = [(min(a[k + 1], b[k + 1]) - max(a[k], b[k]), min(a[k + 1] - a[k], b[k + 1] - b[k])) for k in (0, 2)]
    return all(shared >= 0 for shared, _ in sides) and 2 * sides[0][0] * sides[1][0] >= sides[0][1] * sides[1][1]


def _useful(light: Light) -> Light | None:
    """None where no pixel of the canvas is lit: positions and object do not have the same coordinates."""
    return light if light.lit.any() else None


def _part(values: NDArray[Any], origin: tuple[int, int], box: Box) -> NDArray[Any]:
    """The part of an array inside a box of coordinates; 0 outside the array."""
    (oy, ox), (y0, y1, x0, x1) = origin, box
    out = np.zeros((y1 - y0, x1 - x0), values.dtype)
    top, left = max(y0, oy), max(x0, ox)
    bottom, right = min(y1, oy + values.shape[0]), min(x1, ox + values.shape[1])
    if top < bottom and left < right:
        out[top - y0 : bottom - y0, left - x0 : right - x0] = values[top - oy : bottom - oy, left - ox : right - ox]
    return out
