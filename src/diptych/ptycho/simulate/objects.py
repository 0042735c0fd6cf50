"""Objects: random complex transmissions with structure at all scales.

Each kind makes two maps in [0, 1], which are scaled to modulus and phase; 1 has the largest transmission and phase.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
Shape = tuple[int, int]

PHOTOGRAPHS = (
    "brick",
    "coins",
    "gravel",
    "chelsea",
    "coffee",
    "grass",
    "astronaut",
    "camera",
    "rocket",
    "immunohistochemistry",
)
"""Sample images inside the scikit-image package; others of ``skimage.data`` are downloaded on use."""


def make_object(
    kind: str,
    shape: Shape,
    rng: np.random.Generator,
    amplitude: tuple[float, float] = (0.55, 1.0),
    phase: tuple[float, float] = (-0.8, 0.8),
) -> NDArray[np.complex64]:
    """An object of a kind named in :data:`KINDS`.

    Parameters
    ----------
    kind : str
        A key of :data:`KINDS`.
    shape : (int, int)
        Height and width in pixels.
    rng : numpy Generator
        Random generator of the object.
    amplitude : (float, float)
        Smallest and largest modulus.
    phase : (float, float)
        Smallest and largest phase, rad.

    Returns
    -------
    (H, W) complex64
    """
    modulus, angle = KINDS[kind](shape, rng)
    modulus = amplitude[0] + (amplitude[1] - amplitude[0]) * modulus
    angle = phase[0] + (phase[1] - phase[0]) * angle
    return np.asarray(modulus * np.exp(1j * angle), np.complex64)


def natural(shape: Shape, rng: np.random.Generator) -> tuple[Map, Map]:
    """Two different photographs, each cropped, mirrored left to right and scaled at random."""
    first, second = rng.choice(len(PHOTOGRAPHS), 2, replace=False)
    return _photograph(PHOTOGRAPHS[first], shape, rng), _photograph(PHOTOGRAPHS[second], shape, rng)


def lines(shape: Shape, rng: np.random.Generator, count: int = 400) -> tuple[Map, Map]:
    """Random straight lines, 1 px wide, blurred: sigma 1 + 2 x (sigma 5) + 5 x (sigma 10), as in the PtychoPINN
    grid-lines study.

    Drawn on a canvas of twice the size, of which the centre is kept; both maps are the same. ``count`` lines are drawn
    for canvases up to 392 px, proportionally more for larger ones, so that their density is the same.
    """
    from scipy.ndimage import gaussian_filter
    from skimage import draw

    line: Any = draw.line
    height, width = 2 * shape[0], 2 * shape[1]
    image = np.zeros((height, width))
    count = max(count, round(count * max(shape) / 392))
    ends = rng.integers(0, (height, width, height, width), size=(count, 4))
    for y0, x0, y1, x1 in ends.tolist():
        image[line(y0, x0, y1, x1)] = 1.0
    blurred = gaussian_filter(image, 1) + 2 * gaussian_filter(image, 5) + 5 * gaussian_filter(image, 10)
    top, left = shape[0] // 2, shape[1] // 2
    result = stretch(blurred[top : top + shape[0], left : left + shape[1]])
    return result, result


def gaussian_field(shape: Shape, rng: np.random.Generator, exponent: float = 3.0) -> tuple[Map, Map]:
    """Two independent Gaussian random fields whose power spectrum falls as frequency^-``exponent``; clipped at 3
    standard deviations.

    The field is periodic on a canvas a quarter larger, so that the part that is kept is not.
    """
    from scipy.fft import fft2, ifft2, next_fast_len

    height, width = (next_fast_len(side + side // 4) for side in shape)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf
    filter_ = frequency ** (-exponent / 2)
    maps = []
    for _ in range(2):
        field = ifft2(fft2(rng.standard_normal((height, width))) * filter_).real[: shape[0], : shape[1]]
        field = field - field.mean()
        maps.append(np.clip(field / (6 * field.std()) + 0.5, 0, 1))
    return maps[0], maps[1]


def siemens_star(shape: Shape, rng: np.random.Generator, spokes: int = 36, rings: int = 4) -> tuple[Map, Map]:
    """A Siemens star: spokes from the centre to 0.48 of the shorter side, cut by rings, rotated by a random angle.

    Edges are anti-aliased over one pixel; the spokes absorb and shift the phase (map 0), the rest is transparent (1);
    both maps are the same.
    """
    y, x = np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in shape), indexing="ij")
    distance, angle = np.hypot(y, x), np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)
    outer = 0.48 * min(shape)
    # Signed distances in pixels to the nearest edge of a spoke and of a ring; positive inside the material.
    spoke = np.sin(spokes * angle) * distance / spokes
    edges = outer * np.linspace(0, 1, rings + 1)[1:]
    gap = np.min([np.abs(distance - edge) for edge in edges[:-1]], axis=0) - 0.008 * outer
    inside = np.minimum(np.minimum(spoke, gap), outer - distance)
    result = 1 - np.clip(inside + 0.5, 0, 1)
    return result, result


def dead_leaves(shape: Shape, rng: np.random.Generator) -> tuple[Map, Map]:
    """Occluding discs with radii from a power law r^-3: edges at all scales, as in natural images (Lee, Mumford and
    Huang, Int. J. Comput. Vis. 41, 35, 2001).

    Both maps show the same discs, with independent grey values.
    """
    side = max(shape)
    smallest, largest = max(2.0, side / 200), side / 4
    mean_area = np.pi * 2 * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    # After five layers a fraction e^-5 of the background is visible.
    count = int(5 * (shape[0] + largest) * (shape[1] + largest) / mean_area)
    share = rng.uniform(size=count)
    radii = (smallest**-2 - share * (smallest**-2 - largest**-2)) ** -0.5
    centres = rng.uniform(-largest / 2, np.asarray(shape) + largest / 2, size=(count, 2))
    greys = rng.uniform(size=(count, 2))
    maps = np.full((2, *shape), 0.5)
    for radius, (cy, cx), grey in zip(radii, centres, greys, strict=True):
        y0, x0 = max(0, int(cy - radius)), max(0, int(cx - radius))
        y1, x1 = min(shape[0], int(cy + radius) + 2), min(shape[1], int(cx + radius) + 2)
        if y1 <= y0 or x1 <= x0:
            continue
        distance = np.hypot(np.arange(y0, y1)[:, None] - cy, np.arange(x0, x1) - cx)
        cover = np.clip(radius - distance + 0.5, 0, 1)
        part = maps[:, y0:y1, x0:x1]
        part += cover * (grey[:, None, None] - part)
    return maps[0], maps[1]


def blocks(shape: Shape, rng: np.random.Generator) -> tuple[Map, Map]:
    """Occluding rectangles on a transparent background, sides from 4 px to a quarter of the canvas.

    Both maps show the same rectangles, with independent grey values.
    """
    maps = np.ones((2, *shape))
    maps[1] = 0.5
    largest = max(5.0, min(shape) / 4)
    count = max(6, round(6 * shape[0] * shape[1] / largest**2))
    sides = np.exp(rng.uniform(np.log(4), np.log(largest), size=(count, 2))).astype(int)
    corners = rng.uniform(-4, shape, size=(count, 2)).astype(int)
    greys = rng.uniform(size=(count, 2))
    for (height, width), (y, x), grey in zip(sides, corners, greys, strict=True):
        maps[:, max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = grey[:, None, None]
    return maps[0], maps[1]


def stretch(image: Map, percent: float = 0.0) -> Map:
    """Linear map to [0, 1]; ``percent`` of the pixels are clipped at each end. A constant image becomes 1."""
    low, high = np.percentile(image, (percent, 100 - percent)) if percent else (image.min(), image.max())
    if high <= low:
        return np.ones(image.shape)
    return np.asarray(np.clip((image - low) / (high - low), 0, 1), np.float64)


def _photograph(name: str, shape: Shape, rng: np.random.Generator) -> Map:
    """A random crop of one photograph, low-passed by 0.6 px as an imaging system would, stretched to [0, 1]."""
    from scipy.ndimage import gaussian_filter
    from skimage import color, data, transform

    resize: Any = transform.resize
    image = np.asarray(getattr(data, name)())
    image = color.rgb2gray(image) if image.ndim == 3 else image / 255.0
    # Never upside down: an inverted photograph in a reconstruction then always means a wrong axis.
    if rng.integers(2):
        image = image[:, ::-1]
    # A canvas larger than the photograph is filled by reflection, not by enlarging: blur would make the object easier.
    lack = [max(0, want - have) for want, have in zip(shape, image.shape, strict=True)]
    image = np.pad(image, [(n // 2, n - n // 2) for n in lack], mode="symmetric")
    largest = min(have / want for want, have in zip(shape, image.shape, strict=True))
    zoom = rng.uniform(max(1.0, 0.6 * largest), largest)
    crop = [min(have, round(zoom * want)) for want, have in zip(shape, image.shape, strict=True)]
    top, left = (int(rng.integers(have - take + 1)) for take, have in zip(crop, image.shape, strict=True))
    image = resize(image[top : top + crop[0], left : left + crop[1]], shape, anti_aliasing=True)
    return stretch(gaussian_filter(image, 0.6), percent=0.5)


KINDS: dict[str, Callable[[Shape, np.random.Generator], tuple[Map, Map]]] = {
    "natural": natural,
    "lines": lines,
    "gaussian-field": gaussian_field,
    "siemens-star": siemens_star,
    "dead-leaves": dead_leaves,
    "blocks": blocks,
}
"""Kinds of object by name."""
