"""What is in a scan: description, patterns and probe as pictures, positions over the totals."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions
from diptych.studio.components.viewer.palettes import palette
from diptych.studio.state.charts import GREY, axis

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

SIDE = 512
"""Longest side of a picture, pixels."""

POINTS = 4000
"""Positions that are drawn at most."""


@dataclass(frozen=True, eq=False)
class Look:
    """A scan as it was read, and what can be said of it.

    Parameters
    ----------
    path : Path
        The file.
    scan : Scan
        Its contents.
    about : dict
        Values of :func:`diptych.describe`.
    """

    path: Path
    scan: Scan
    about: dict[str, Any]

    @classmethod
    def at(cls, path: Path, options: LoadOptions) -> Look:
        """Read a scan; slow, so call it in a thread. Raises InputError where the file holds none."""
        from diptych.ptycho.describe import describe_scan
        from diptych.ptycho.io import load_scan

        scan = load_scan(path, options)
        return cls(path, scan, describe_scan(scan))

    @property
    def notes(self) -> list[str]:
        """Sentences on what is unusual."""
        return list(self.about["notes"])

    @cached_property
    def totals(self) -> NDArray[np.float64]:
        """Valid counts of every pattern (M,)."""
        found = []
        for number, counts in enumerate(self.scan.counts):
            valid = _of(self.scan.mask, number)
            found.append(float((counts if valid is None else np.where(valid, counts, 0)).sum(dtype=np.float64)))
        return np.array(found)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean pattern (N, N)."""
        found: NDArray[np.float64] = self.scan.counts.mean(0, dtype=np.float64)
        return found

    def frame(self, number: int) -> bytes:
        """One pattern as a PNG, on a logarithmic scale."""
        if not 0 <= number < len(self.scan):
            raise InputError("frame", f"found {number}", f"0 to {len(self.scan) - 1}")
        return log_png(self.scan.counts[number], _of(self.scan.mask, number))

    def mean_pattern(self) -> bytes:
        """The mean pattern as a PNG, on a logarithmic scale; pixels that are masked in all frames are red."""
        mask = self.scan.mask
        return log_png(self.mean, None if mask is None else np.asarray(mask if mask.ndim == 2 else mask.any(0), bool))

    def probe(self) -> bytes | None:
        """The probe's first mode as a PNG, hue for the phase and brightness for the amplitude; None without a probe."""
        from diptych.ptycho.figures.colours import complex_to_rgb

        if self.scan.probe is None:
            return None
        rgb = complex_to_rgb(self.scan.probe[0])
        return png(np.asarray(rgb if rgb.dtype == np.uint8 else np.clip(rgb, 0, 1) * 255, np.uint8))

    def positions_chart(self) -> dict[str, Any]:
        """Positions, coloured by the totals, as options of ECharts."""
        step = max(1, -(-len(self.scan) // POINTS))
        y, x = self.scan.positions[::step].T
        totals = self.totals[::step]
        low, high = float(totals.min()), float(totals.max())
        return {
            "animation": False,
            "tooltip": {},
            "grid": {"left": 56, "right": 16, "top": 16, "bottom": 76},
            "xAxis": axis(scale=True, name="x (px)", nameLocation="middle", nameGap=26),
            "yAxis": axis(scale=True, inverse=True, name="y (px)", nameLocation="middle", nameGap=34),
            "visualMap": {
                "min": low,
                "max": high if high > low else low + 1,
                "dimension": 2,
                "orient": "horizontal",
                "left": "center",
                "bottom": 0,
                "text": ["photons", ""],
                "precision": 0,
                "textStyle": {"color": GREY},
                "inRange": {"color": ["#440154", "#31688e", "#35b779", "#fde725"]},
            },
            "series": [
                {
                    "type": "scatter",
                    "symbolSize": 6,
                    "data": [[float(a), float(b), float(c)] for a, b, c in zip(x, y, totals, strict=True)],
                }
            ],
        }

    def masked(self, boxes: list[tuple[int, int, int, int]]) -> Scan:
        """The scan with rectangles (y0, y1, x0, x1; ends excluded) masked in every frame, beside its own mask.

        Raises InputError where a rectangle lies outside the pattern, or nothing valid is left.
        """
        from dataclasses import replace

        size = self.scan.size
        valid = np.ones((size, size), bool)
        for y0, y1, x0, x1 in boxes:
            if not (0 <= y0 < y1 <= size and 0 <= x0 < x1 <= size):
                raise InputError(
                    "mask",
                    f"rows {y0} to {y1}, columns {x0} to {x1}",
                    f"a rectangle within 0 to {size}",
                    "The end is not included and must exceed the start.",
                )
            valid[y0:y1, x0:x1] = False
        both = valid if self.scan.mask is None else self.scan.mask & valid
        if not both.any():
            raise InputError("mask", "no valid pixel would be left", "some valid pixels")
        return replace(self.scan, mask=both)


def log_png(counts: NDArray[Any], valid: NDArray[np.bool_] | None) -> bytes:
    """Counts (N, N) as a PNG of log(1 + counts), with masked pixels red."""
    values = np.log1p(np.maximum(np.nan_to_num(np.asarray(counts, np.float64)), 0))
    top = float(values[valid].max() if valid is not None and valid.any() else values.max())
    shade = np.clip(values / top if top > 0 else values, 0, 1)
    rgb = palette("viridis")[(shade * 253).astype(np.uint8) + 2]
    if valid is not None:
        rgb = np.where(valid[..., None], rgb, np.array([200, 60, 40], np.uint8))
    return png(rgb)


def png(rgb: NDArray[np.uint8]) -> bytes:
    """An (h, w, 3) image as a PNG; small ones are enlarged by whole factors, large ones reduced."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(rgb, np.uint8))
    factor = SIDE // max(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    elif factor < 1:
        image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def shown_side(size: int) -> int:
    """Side of the picture of a pattern of ``size`` x ``size`` pixels."""
    return size * (SIDE // size) if size <= SIDE else SIDE


def _of(mask: NDArray[np.bool_] | None, number: int) -> NDArray[np.bool_] | None:
    if mask is None or mask.ndim == 2:
        return mask
    return np.asarray(mask[number], bool)
