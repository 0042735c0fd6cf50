"""What a viewer shows: an image with several quantities, each at every resolution."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.physics.measured import Box
from diptych.studio.components.viewer.pyramid import Pyramid, halved

Window = tuple[slice, slice]
Read = Callable[[int, Window], NDArray[Any]]
Scale = Literal["sequential", "cyclic", "diverging", "complex"]
PixelSize = tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Quantity:
    """One way to look at an image.

    Parameters
    ----------
    name : str
        Key in requests.
    label, unit : str
        What the person reads.
    scale : {"sequential", "cyclic", "diverging", "complex"}
        Which colour maps fit.
    read : callable
        ``read(level, window)`` gives the real values (h, w) of a level inside a window of its indices.
    hue : callable, optional
        For ``complex``: the phase, where ``read`` gives the amplitude.
    """

    name: str
    label: str
    unit: str
    scale: Scale
    read: Read
    hue: Read | None = None


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image for a viewer.

    Parameters
    ----------
    name : str
        What the viewer is headed with.
    shape : (int, int)
        Height and width, pixels.
    levels : int
        Number of resolutions.
    quantities : dict of str to Quantity
        What can be shown; the first is the default.
    origin : (int, int)
        Coordinate (y, x) of pixel [0, 0]; viewers with linked views compare by coordinates.
    pixel_m : (float, float), optional
        Pixel (y, x) in metres; without it lengths are in pixels.
    lit : tuple of (h, w) bool arrays, optional
        Per level, the pixels that light reached. None: not known, all count.
    focus : (y0, y1, x0, x1), optional
        Box of coordinates to begin with. Default: the whole image.
    nbytes : int
        Bytes held in memory.
    """

    name: str
    shape: tuple[int, int]
    levels: int
    quantities: dict[str, Quantity]
    origin: tuple[int, int] = (0, 0)
    pixel_m: PixelSize = None
    lit: tuple[NDArray[np.bool_], ...] | None = None
    focus: Box | None = None
    nbytes: int = 0
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    """Display ranges found so far, by quantity."""

    @property
    def extent(self) -> Box:
        """(y0, y1, x0, x1): the half-open box of coordinates that the image covers."""
        (y, x), (h, w) = self.origin, self.shape
        return y, y + h, x, x + w


def real(pyramid: Pyramid) -> Read:
    """Read the values of a real pyramid."""
    return lambda level, window: pyramid.levels[level][window]


class ComplexLayers:
    """Modulus and phase of a complex image at every level.

    The modulus of a level is the mean of the moduli, so that fine phase structure does not darken it; the phase is that
    of the mean. At full resolution both are computed from the complex values when they are read.
    """

    def __init__(self, values: NDArray[np.complex64]) -> None:
        self.field = Pyramid.of(values)
        self._coarse = Pyramid.of(np.abs(values)).levels[1:]

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.field.levels)

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return self.field.nbytes + sum(level.nbytes for level in self._coarse)

    def amplitude(self, level: int, window: Window) -> NDArray[np.float32]:
        """Modulus inside a window of a level."""
        return np.abs(self.field.levels[0][window]) if level == 0 else self._coarse[level - 1][window]

    def phase(self, level: int, window: Window) -> NDArray[np.float32]:
        """Phase inside a window of a level, rad."""
        return np.asarray(np.angle(self.field.levels[level][window]), np.float32)


class Unwrapped:
    """The unwrapped phase of a complex image, computed when it is first read.

    Scikit-image unwraps a level of at most :data:`SIDE` pixels. Each finer level takes the multiple of 2 pi that brings
    its phase nearest to the level before, which is right where the phase changes by less than pi within a block.
    """

    SIDE = 1024

    def __init__(self, layers: ComplexLayers, lit: tuple[NDArray[np.bool_], ...] | None) -> None:
        self._layers, self._lit = layers, lit
        self._lock = threading.Lock()
        self._levels: dict[int, NDArray[np.float32]] = {}

    def __call__(self, level: int, window: Window) -> NDArray[np.float32]:
        """The unwrapped phase inside a window of a level, rad."""
        with self._lock:
            if level not in self._levels:
                self._compute(level)
            return self._levels[level][window]

    def _compute(self, level: int) -> None:
        shapes = [each.shape for each in self._layers.field.levels]
        start = next(k for k, shape in enumerate(shapes) if max(shape) <= self.SIDE)
        if start not in self._levels:
            self._levels[start] = self._from_scratch(start)
        for k in range(start - 1, level - 1, -1):
            if k not in self._levels:
                self._levels[k] = nearest_branch(self._wrapped(k), self._levels[k + 1])
        for k in range(start + 1, level + 1):
            if k not in self._levels:
                self._levels[k] = halved(self._levels[k - 1])

    def _wrapped(self, level: int) -> NDArray[np.float32]:
        return self._layers.phase(level, (slice(None), slice(None)))

    def _from_scratch(self, level: int) -> NDArray[np.float32]:
        from scipy.ndimage import distance_transform_edt
        from skimage.restoration import unwrap_phase

        wrapped = self._wrapped(level)
        if min(wrapped.shape) < 2:
            return wrapped
        mask = None if self._lit is None or not self._lit[level].any() else ~self._lit[level]
        given = wrapped if mask is None else np.ma.array(wrapped, mask=mask)
        found = unwrap_phase(given, rng=0)  # type: ignore[no-untyped-call]
        whole = np.asarray(np.ma.filled(found, 0) if mask is not None else found, np.float32)
        if mask is not None:
            # Finer levels have lit pixels in unlit blocks at the edge: these follow the nearest lit block.
            rows, columns = distance_transform_edt(mask, return_distances=False, return_indices=True)
            whole = np.where(mask, on_branch(wrapped, whole[rows, columns]), whole)
        counted = whole if mask is None else whole[~mask]
        # Unwrapping leaves a multiple of 2 pi free: the mean comes nearest to 0.
        return whole - np.float32(2 * np.pi * np.round(counted.mean() / (2 * np.pi)))


def nearest_branch(wrapped: NDArray[np.float32], coarse: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the multiple of 2 pi to each phase (H, W) that brings it nearest to a level of half the resolution."""
    guess = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: wrapped.shape[0], : wrapped.shape[1]]
    return on_branch(wrapped, guess)


def on_branch(wrapped: NDArray[np.float32], guess: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the multiple of 2 pi to each phase (H, W) that brings it nearest to a guess of the same shape."""
    turn = np.float32(2 * np.pi)
    return np.asarray(wrapped + turn * np.round((guess - wrapped) / turn), np.float32)
