"""Low-resolution features of images of settings, and the distances between them.

Settings that lie far apart in the cube may give nearly the same image, and a person judges images, not settings. A
covariance over image features therefore needs far fewer judgements than one over settings, and it predicts the utility
of every image that was decoded, shown or not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.spaces.cube import Cube, settled

Array = NDArray[np.float64]
Features = NDArray[np.float32]

SIDE = 32
"""Blocks along the longer side of an image. The features are the mean colour of each block and the standard deviation
within it, so that noise is represented too."""


@dataclass(frozen=True, eq=False)
class FeatureSnapshot:
    """The image features that are known at one moment; immutable.

    Attributes
    ----------
    points : (m, d) float64
        Settled points whose image is known.
    distances : (m, m) float64
        Squared distances between the features of their images.
    """

    points: Array
    distances: Array

    def __post_init__(self) -> None:
        for array in (self.points, self.distances):
            array.setflags(write=False)

    def rows(self, points: Array) -> NDArray[np.int64]:
        """Row (k,) of each settled point (k, d) in :attr:`points`; -1 if its image is not known."""
        return np.array([self._index.get(point_key(point), -1) for point in points], dtype=np.int64)

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {point_key(point): row for row, point in enumerate(self.points)}


class ImageFeatures:
    """Features of the images of points of a cube. Points are only added, never changed or removed. Thread-safe.

    Parameters
    ----------
    cube : Cube
        Which points mean the same settings, and so have the same image.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._lock = threading.Lock()
        self._index: dict[bytes, int] = {}
        self._points: list[Array] = []
        self._features: list[Features] = []
        self._distances = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, latent: ArrayLike) -> bool:
        return point_key(settled(latent, self.cube)) in self._index

    def row(self, latent: ArrayLike) -> int:
        """Row of a point (d,), in the order of addition; -1 if its image is not known."""
        return self._index.get(point_key(settled(latent, self.cube)), -1)

    def keep(self, latent: ArrayLike, image: NDArray[np.uint8]) -> bool:
        """Add the features of the image (H, W, 3) of a point (d,); see :meth:`add`."""
        return self.add(latent, image_features(image))

    def add(self, latent: ArrayLike, features: Features) -> bool:
        """Add features (k,) of a point (d,); returns whether they were added. A point that is known keeps its features,
        and features of another length (of an image of another size) are rejected.
        """
        point = settled(latent, self.cube)
        with self._lock:
            known = len(self._features)
            if point_key(point) in self._index or (known and len(features) != len(self._features[0])):
                return False
            distances = np.zeros((known + 1, known + 1))
            distances[:known, :known] = self._distances
            distances[known, :known] = distances[:known, known] = [
                float(((features - other) ** 2).sum()) for other in self._features
            ]
            self._distances = distances
            self._points.append(point)
            self._features.append(features)
            self._index[point_key(point)] = known
        return True

    def snapshot(self, rows: NDArray[np.int64] | None = None) -> FeatureSnapshot:
        """An immutable copy of the features of some rows (all by default), in the order given."""
        with self._lock:
            chosen = np.arange(len(self._points)) if rows is None else rows
            points = [self._points[row] for row in chosen]
            return FeatureSnapshot(
                np.stack(points) if points else np.zeros((0, 0)), self._distances[np.ix_(chosen, chosen)]
            )


def point_key(point: Array) -> bytes:
    """What identifies a settled point (d,): its float32 bytes, because latents are stored in float32."""
    return point.astype(np.float32).tobytes()


def image_features(image: NDArray[np.uint8]) -> Features:
    """Features (2 k,) of an image (H, W, 3): mean, then standard deviation, of the colours (0 to 1) in each block."""
    height, width = image.shape[:2]
    block = max(1, -(-max(height, width) // SIDE))
    rows, columns = (np.arange(0, size, block) for size in (height, width))
    values = image.astype(np.float64) / 255
    inside = np.add.outer(np.zeros(height), np.ones(width))

    def block_sums(array: Array) -> Array:
        return np.asarray(np.add.reduceat(np.add.reduceat(array, rows, axis=0), columns, axis=1))

    size = block_sums(inside)[..., None]
    mean = block_sums(values) / size
    deviation = np.sqrt(np.maximum(block_sums(values**2) / size - mean**2, 0.0))
    return np.concatenate([mean.ravel(), deviation.ravel()]).astype(np.float32)
