"""Pictures of settings, in small, and how like each other they are.

What settings do is often hard to foresee, and two that lie far apart may give the same picture. Whoever judges sees
pictures, not settings: pictures that look alike are liked alike. That is learned from far fewer judgements, and it
foretells what is thought of every picture that was made, shown or not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.spaces.cube import Cube, settled

Array = NDArray[np.float64]

SIDE = 32
"""Blocks along the longer side of a picture. Of each its mean colour counts, and as much how it varies within: noise is
seen as noise."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is known at one moment.

    Attributes
    ----------
    points : (m, d) float64
        Settled points of which there is a picture.
    apart : (m, m)
        Squared distances between the pictures.
    """

    points: Array
    apart: Array


class Gallery:
    """Keeps what pictures look like; it only grows. Safe to use from several threads.

    Parameters
    ----------
    cube : Cube
        Which points mean the same settings, and so have the same picture.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._lock = threading.Lock()
        self._index: dict[bytes, int] = {}
        self._looks: list[NDArray[np.float32]] = []
        self._pictures: Pictures | None = None

    def __contains__(self, latent: ArrayLike) -> bool:
        return self._mark(settled(latent, self.cube)) in self._index

    @property
    def pictures(self) -> Pictures | None:
        """All that are known; None before the first."""
        return self._pictures

    def keep(self, latent: ArrayLike, image: NDArray[np.uint8]) -> None:
        """Remember what the image (H, W, 3) of a point (d,) looks like; the first counts, and those of another shape do
        not.
        """
        point, look = settled(latent, self.cube), appearance(image)
        with self._lock:
            if self._mark(point) in self._index or (self._looks and len(look) != len(self._looks[0])):
                return
            before = self._pictures
            if before is None:
                self._pictures = Pictures(point[None], np.zeros((1, 1)))
            else:
                count = len(self._looks)
                apart = np.zeros((count + 1, count + 1))
                apart[:count, :count] = before.apart
                apart[count, :count] = apart[:count, count] = [
                    float(((look - other) ** 2).sum()) for other in self._looks
                ]
                self._pictures = Pictures(np.vstack([before.points, point]), apart)
            self._looks.append(look)
            self._index[self._mark(point)] = len(self._looks) - 1

    def places(self, points: Array) -> NDArray[np.int64]:
        """Which picture (k,) belongs to each of the settled points (k, d); -1 where there is none."""
        return np.array([self._index.get(self._mark(point), -1) for point in points], dtype=np.int64)

    @staticmethod
    def _mark(point: Array) -> bytes:
        return point.astype(np.float32).tobytes()


def appearance(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What an image (H, W, 3) looks like from afar: mean and spread (2 k,) of the colours, 0 to 1, of its blocks."""
    height, width = image.shape[:2]
    block = max(1, -(-max(height, width) // SIDE))
    rows, columns = (np.arange(0, size, block) for size in (height, width))
    values = image.astype(np.float64) / 255
    inside = np.add.outer(np.zeros(height), np.ones(width))

    def summed(array: Array) -> Array:
        return np.asarray(np.add.reduceat(np.add.reduceat(array, rows, axis=0), columns, axis=1))

    size = summed(inside)[..., None]
    mean = summed(values) / size
    spread = np.sqrt(np.maximum(summed(values**2) / size - mean**2, 0.0))
    return np.concatenate([mean.ravel(), spread.ravel()]).astype(np.float32)
