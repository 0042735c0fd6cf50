"""Low-resolution features of images of settings, and the distances between them.

Settings that lie far apart in the cube may give nearly the same image, and a person judges images, not settings. A
covariance over image features therefore needs far fewer judgements than one over settings, and it predicts the utility
of every image that was decoded, shown or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.spaces.cube import Cube, settled

Array = NDArray[np.float64]
Features = NDArray[np.float32]

SIDE = 32
"""Blocks along the longer side of an image. The features are the mean colour of each block and the standard deviation
within it, so that noise is represented too."""


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of the images of some points of a cube. Immutable: :meth:`extended` and :meth:`selected` return new ones.

    Attributes
    ----------
    cube : Cube
        Which points mean the same settings, and so have the same image.
    points : (m, d) float64
        Settled points whose image is known, each once.
    features : (m, k) float32
        Features of their images.
    squared_distances : (m, m)
        Squared Euclidean distances between the features.
    """

    cube: Cube
    points: Array
    features: Features
    squared_distances: Array

    @classmethod
    def empty(cls, cube: Cube) -> Self:
        """No image is known."""
        return cls(cube, np.zeros((0, 0)), np.zeros((0, 0), np.float32), np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.points)

    def __contains__(self, latent: ArrayLike) -> bool:
        return point_key(settled(latent, self.cube)) in self._index

    def indices(self, points: Array) -> NDArray[np.int64]:
        """Row (k,) of each of the settled points (k, d); -1 where no image is known."""
        return np.array([self._index.get(point_key(point), -1) for point in points], dtype=np.int64)

    def extended(self, latents: Sequence[ArrayLike], features: Sequence[Features]) -> ImageFeatures:
        """These and the features (k,) of more points (d,). A point that is known keeps its features, and features of
        another length than those known (an image of another size) are left out.
        """
        known, points, rows = set(self._index), list(self.points), list(self.features)
        for latent, values in zip(latents, features, strict=True):
            point = settled(latent, self.cube)
            if (key := point_key(point)) in known or (rows and len(values) != len(rows[0])):
                continue
            known.add(key)
            points.append(point)
            rows.append(np.asarray(values, dtype=np.float32))
        if len(points) == len(self.points):
            return self
        stacked, old = np.stack(rows), len(self.points)
        squared = np.zeros((len(points), len(points)))
        squared[:old, :old] = self.squared_distances
        for index in range(old, len(points)):
            row = ((stacked[:index] - stacked[index]) ** 2).sum(axis=1)
            squared[index, :index] = squared[:index, index] = row
        return ImageFeatures(self.cube, np.stack(points), stacked, squared)

    def selected(self, rows: NDArray[np.int64]) -> ImageFeatures:
        """Only some rows, in the order given."""
        return ImageFeatures(
            self.cube, self.points[rows], self.features[rows], self.squared_distances[np.ix_(rows, rows)]
        )

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {point_key(point): row for row, point in enumerate(self.points)}


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
