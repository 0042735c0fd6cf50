"""One view of an image: which part, how large on the screen, which quantity, which colours; and the picture of it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.figures.colours import robust_range
from diptych.studio.components.viewer.palettes import complex_colours, indices, maps_for, palette, stripes
from diptych.studio.components.viewer.source import ImageSource, Quantity, Window

LARGEST = 2_000_000
"""Pixels of a picture at most; a larger screen is given the next coarser level."""

SAMPLES = 512
"""Side of the regular sample of an image from which ranges and histograms are taken, pixels."""

FULL_CIRCLE = 0.75 * 2 * math.pi
"""Spread of phases, rad, from which they are shown on the whole circle."""


@dataclass(frozen=True)
class View:
    """What the screen asks for.

    Parameters
    ----------
    quantity : str
        Key of a quantity of the image.
    box : (y0, y1, x0, x1)
        Wanted region in coordinates; the part outside the image is left out.
    height, width : int
        Size of the region on the screen, pixels.
    low, high : float, optional
        Colour range. Default: the robust range of the lit pixels.
    colours : str, optional
        Name of the colour map. Default: the first that fits the quantity.
    unlit : bool
        Whether unlit pixels are shown with their values instead of stripes.
    """

    quantity: str
    box: tuple[float, float, float, float]
    height: int
    width: int
    low: float | None = None
    high: float | None = None
    colours: str | None = None
    unlit: bool = False

    def __post_init__(self) -> None:
        y0, y1, x0, x1 = self.box
        if not (all(map(math.isfinite, self.box)) and y0 < y1 and x0 < x1):
            raise InputError("view: box", f"found {self.box}", "finite y0 < y1 and x0 < x1")
        if not (1 <= self.height <= 16384 and 1 <= self.width <= 16384):
            raise InputError("view: size", f"found {self.height} x {self.width}", "1 to 16384 pixels")
        if (self.low is None) != (self.high is None):
            raise InputError("view: range", "found one of low and high", "both or none")
        if self.low is not None and self.high is not None and not -math.inf < self.low < self.high < math.inf:
            raise InputError("view: range", f"found {self.low} .. {self.high}", "finite low < high")


@dataclass(frozen=True)
class Picture:
    """A rendered view.

    Parameters
    ----------
    data : bytes
        The encoded picture.
    media : str
        Its media type.
    box : (y0, y1, x0, x1)
        Coordinates that it covers.
    level : int
        Each of its pixels is the mean of 2^level x 2^level pixels of the image.
    low, high : float
        The colour range used.
    """

    data: bytes
    media: str
    box: tuple[int, int, int, int]
    level: int
    low: float
    high: float


def quantity_of(source: ImageSource, name: str) -> Quantity:
    """The quantity of that name. Raises InputError where the image has none."""
    if name not in source.quantities:
        raise InputError(f"quantity {name!r}", "is not known", f"one of {', '.join(source.quantities)}")
    return source.quantities[name]


def part_of(source: ImageSource, view: View) -> tuple[int, Window] | None:
    """Level and window of its indices that a view needs; None where the region lies outside the image.

    The level is the one whose pixels come nearest to the pixels of the screen.
    """
    y0, y1, x0, x1 = view.box
    per_pixel = max((y1 - y0) / view.height, (x1 - x0) / view.width)
    level = min(max(round(math.log2(max(per_pixel, 1e-9))), 0), source.levels - 1)
    while True:
        window = _window(source, view.box, level)
        if window is None:
            return None
        pixels = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        if pixels <= LARGEST or level == source.levels - 1:
            return level, window
        level += 1


def render(source: ImageSource, view: View) -> Picture | None:
    """The picture of a view; None where the region lies outside the image."""
    quantity = quantity_of(source, view.quantity)
    found = part_of(source, view)
    if found is None:
        return None
    level, window = found
    low, high = (view.low, view.high) if view.low is not None else display_range(source, view.quantity)
    assert low is not None
    assert high is not None
    values = quantity.read(level, window)
    unlit = None if view.unlit or source.lit is None else ~source.lit[level][window]
    if quantity.scale == "complex":
        assert quantity.hue is not None
        rgb = complex_colours(quantity.hue(level, window), values, max(high, 1e-30))
        data, media = _encode_rgb(rgb, unlit, window)
    else:
        name = view.colours or default_colours(source, view.quantity)
        _known_colours(name, quantity)
        data, media = _encode_indices(indices(values, low, high), unlit, window, palette(name))
    (oy, ox), step = source.origin, 2**level
    box = (
        oy + window[0].start * step,
        oy + window[0].stop * step,
        ox + window[1].start * step,
        ox + window[1].stop * step,
    )
    return Picture(data, media, box, level, float(low), float(high))


def display_range(source: ImageSource, name: str) -> tuple[float, float]:
    """Colour range of a quantity without a choice of the person: percentiles of the lit pixels.

    A difference has a range symmetric about 0; a phase that goes all around has -pi..pi; the brightness of the complex
    view begins at 0.
    """
    if name in source.ranges:
        return source.ranges[name]
    quantity = quantity_of(source, name)
    low, high = robust_range(sample(source, name))
    if quantity.scale == "diverging":
        high = max(abs(low), abs(high))
        low = -high
    elif quantity.scale == "cyclic" and high - low >= FULL_CIRCLE:
        low, high = -math.pi, math.pi
    elif quantity.scale == "complex":
        low = 0.0
    source.ranges[name] = (low, high)
    return low, high


def default_colours(source: ImageSource, name: str) -> str:
    """The colour map of a quantity: a cyclic one only for a phase that goes all around."""
    scale = quantity_of(source, name).scale
    low, high = display_range(source, name)
    cyclic = scale == "cyclic" and high - low >= FULL_CIRCLE
    return maps_for("sequential" if scale == "cyclic" and not cyclic else scale)[0]


def offered_colours(quantity: Quantity) -> tuple[str, ...]:
    """All colour maps that fit a quantity."""
    names = maps_for(quantity.scale)
    return (*names, *maps_for("sequential")) if quantity.scale in ("cyclic", "diverging") else names


def sample(source: ImageSource, name: str, box: tuple[float, float, float, float] | None = None) -> NDArray[Any]:
    """Values (n,) of the lit pixels on a regular grid of at most 512 x 512 over a box, at full resolution."""
    window = _window(source, box or tuple(map(float, source.extent)), 0)
    if window is None:
        return np.zeros(0, np.float32)
    sides = [each.stop - each.start for each in window]
    steps = [max(1, -(-side // SAMPLES)) for side in sides]
    rows, columns = (slice(each.start, each.stop, step) for each, step in zip(window, steps, strict=True))
    values = quantity_of(source, name).read(0, (rows, columns))
    if source.lit is None:
        return values.ravel()
    lit = source.lit[0][rows, columns]
    return values[lit] if lit.any() else values.ravel()


def _window(source: ImageSource, box: tuple[float, ...], level: int) -> Window | None:
    slices = []
    for axis in (0, 1):
        step, side = 2**level, source.shape[axis]
        low = (box[2 * axis] - source.origin[axis]) / step
        high = (box[2 * axis + 1] - source.origin[axis]) / step
        start, stop = max(math.floor(low), 0), min(math.ceil(high), -(-side // step))
        if start >= stop:
            return None
        slices.append(slice(start, stop))
    return slices[0], slices[1]


def _known_colours(name: str, quantity: Quantity) -> None:
    offered = offered_colours(quantity)
    if name not in offered:
        raise InputError(f"colour map {name!r}", f"is not offered for {quantity.label}", f"one of {', '.join(offered)}")


def _encode_indices(
    values: NDArray[np.uint8], unlit: NDArray[np.bool_] | None, window: Window, colours: NDArray[np.uint8]
) -> tuple[bytes, str]:
    from PIL import Image

    if unlit is not None and unlit.any():
        values = np.where(unlit, stripes(*window).astype(np.uint8), values)
    image = Image.fromarray(np.ascontiguousarray(values))
    image.putpalette(colours.tobytes())
    stream = io.BytesIO()
    # Level 1: a higher one takes several times as long and saves a few per cent.
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue(), "image/png"


def _encode_rgb(rgb: NDArray[np.uint8], unlit: NDArray[np.bool_] | None, window: Window) -> tuple[bytes, str]:
    from PIL import Image

    if unlit is not None and unlit.any():
        striped = np.where(stripes(*window)[..., None], palette("gray")[1], palette("gray")[0])
        rgb = np.where(unlit[..., None], striped, rgb)
    stream = io.BytesIO()
    # Lossless formats take ten times as long for three channels; values are read from the array, not from the picture.
    Image.fromarray(np.ascontiguousarray(rgb, np.uint8)).save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue(), "image/jpeg"
