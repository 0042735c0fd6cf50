"""Base of the decoders: checks of the latent, one decode at a time, and a record of the last decode."""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import Space
from diptych.prefer.judgement import Frame

log = logging.getLogger("diptych")

FLAT = 2.0
"""Standard deviation, grey levels, below which an image is reported as flat or black."""

_REMEMBERED = 9


@dataclass(frozen=True)
class DecodeRecord:
    """Statistics of one decode.

    Attributes
    ----------
    frame : Frame
        As it was in effect.
    shape : tuple of int
        Of the latent.
    latent_mean, latent_std : float
    image_mean, image_std : float
        Grey levels, 0 to 255, over all pixels and channels.
    image_min, image_max : int
    seconds : float
    flaw : str
        ``not finite``, ``black`` or ``flat``; empty for a normal image.
    retried : str
        Why the decode was repeated, and what was changed; usually empty.
    init_sigma : float or None
        Initial noise level of the scheduler, by which the latent is multiplied; None without one.
    """

    frame: Frame
    shape: tuple[int, ...]
    latent_mean: float
    latent_std: float
    image_mean: float
    image_std: float
    image_min: int
    image_max: int
    seconds: float
    flaw: str = ""
    retried: str = ""
    init_sigma: float | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Result of :meth:`BaseDecoder._decode`: pixels (H, W, 3) uint8, whether they were finite, why the decode was
    repeated (empty if it was not), and the initial noise level where there is one.
    """

    image: NDArray[np.uint8]
    finite: bool = True
    retried: str = ""
    init_sigma: float | None = None


class BaseDecoder(ABC):
    """Base class; a subclass implements :meth:`_decode`.

    Parameters
    ----------
    name : str
    space : "sphere" or "cube"
    dimension : int
        d.
    frame : Frame
    shape : (channels, height, width), optional
        Shape of the latent, if it is an image.
    """

    def __init__(
        self, name: str, space: Space, dimension: int, frame: Frame, shape: tuple[int, int, int] | None = None
    ) -> None:
        self.name, self.space, self.dimension, self.shape = name, space, dimension, shape
        self._frame = frame
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._last: DecodeRecord | None = None

    @property
    def frame(self) -> Frame:
        """Everything besides the latent that determines the pixels, as it was in effect at the last decode."""
        return self._frame

    @property
    def cost(self) -> float:
        """Median time of the last decodes, s; NaN before the first."""
        return statistics.median(self._seconds) if self._seconds else math.nan

    @property
    def last(self) -> DecodeRecord | None:
        """The last decode; None before the first."""
        return self._last

    def decode(self, latent: ArrayLike) -> NDArray[np.uint8]:
        """The image (H, W, 3) of a latent (d,), or of shape ``shape``.

        Raises
        ------
        InputError
            If the latent has another shape, is not finite, or lies outside the cube.
        """
        values = self._checked(latent)
        with self._lock:
            began = time.perf_counter()
            decoded = self._decode(values)
            seconds = time.perf_counter() - began
            self._seconds.append(seconds)
            self._last = self._record(values, decoded, seconds)
        if self._last.flaw:
            log.warning(
                "[pipe] %s: the image is %s (standard deviation %.1f grey levels)",
                self.name,
                self._last.flaw,
                self._last.image_std,
            )
        return decoded.image

    @abstractmethod
    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        """The image of a valid latent (d,); called by one thread at a time."""

    def _checked(self, latent: ArrayLike) -> NDArray[np.float32]:
        values = np.ascontiguousarray(latent, dtype=np.float32)
        if values.shape not in {(self.dimension,), self.shape}:
            also = f" or {self.shape}" if self.shape else ""
            size = (
                f" for images of {self.frame.width} x {self.frame.height} px" if self.shape and self.frame.width else ""
            )
            raise InputError(
                f"latent for the decoder {self.name}", f"has shape {values.shape}", f"({self.dimension},){also}{size}"
            )
        if not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            raise InputError(
                f"latent for the decoder {self.name}", f"has {bad} values that are not finite", "finite values"
            )
        if self.space == "cube" and not (values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"latent for the decoder {self.name}",
                f"has values from {values.min():g} to {values.max():g}",
                "values from 0 to 1",
            )
        return values.reshape(self.dimension)

    def _record(self, latent: NDArray[np.float32], decoded: Decoded, seconds: float) -> DecodeRecord:
        image = decoded.image
        spread = float(image.std())
        flaw = "" if decoded.finite else "not finite"
        if not flaw and spread < FLAT:
            flaw = "black" if image.mean() < FLAT else "flat"
        return DecodeRecord(
            self._frame,
            self.shape or latent.shape,
            float(latent.mean()),
            float(latent.std()),
            float(image.mean()),
            spread,
            int(image.min()),
            int(image.max()),
            seconds,
            flaw,
            decoded.retried,
            decoded.init_sigma,
        )


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Names and versions of installed packages, as a Frame stores them."""
    return tuple((name, metadata.version(name)) for name in packages)


def as_bytes(image: NDArray[Any]) -> Decoded:
    """An image (H, W, 3) of values from 0 to 1 as uint8; NaN and infinities become black and are reported."""
    finite = bool(np.isfinite(image).all())
    levels = np.rint(np.clip(np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), 0, 1) * 255)
    return Decoded(levels.astype(np.uint8), finite)
