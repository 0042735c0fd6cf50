"""Progress of long work: reports with values and, on request, small images; the caller decides how to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREVIEW_PIXELS = 256
"""Longest side of a preview image."""


@dataclass(frozen=True, eq=False)
class Preview:
    """Small images of a reconstruction in progress.

    Parameters
    ----------
    amplitude, phase : (h, w) float32 arrays
        Of the object, at most 256 pixels wide and high; the phase in radians.
    probe : (n, n) float32 array
        Magnitude of the probe, the root of the sum over modes of |P|^2.
    """

    amplitude: NDArray[np.float32]
    phase: NDArray[np.float32]
    probe: NDArray[np.float32]

    @classmethod
    def of(cls, image: NDArray[Any], probe: NDArray[Any]) -> Self:
        """From an object (H, W) and probe modes (P, N, N), both complex; averaged over blocks of pixels."""
        import numpy as np

        small = _block_mean(image)
        intensity = _block_mean((np.abs(probe) ** 2).sum(0))
        return cls(*(np.asarray(each, np.float32) for each in (np.abs(small), np.angle(small), np.sqrt(intensity))))


def _block_mean(image: NDArray[Any]) -> NDArray[Any]:
    """Means over square blocks such that neither side exceeds :data:`PREVIEW_PIXELS`; an incomplete edge is cut off."""
    block = max(1, -(-max(image.shape) // PREVIEW_PIXELS))
    height, width = (max(1, side // block) for side in image.shape)
    part = image[: height * block, : width * block]
    blocks = part.reshape(height, part.shape[0] // height, width, part.shape[1] // width)
    mean: NDArray[Any] = blocks.mean((1, 3))
    return mean


@dataclass(frozen=True)
class Progress:
    """One report from a long job.

    Parameters
    ----------
    stage : str
        What is being done, for instance ``"ml"`` or ``"download"``.
    done, total : int
        Steps finished and steps planned; ``total`` may be 0 when it is not known.
    values : dict
        Values to show, for instance ``{"fit": 1.02}``.
    preview : callable, optional
        Computes small images of the current state. Call it only within the callback, and only when they are shown.
    note : str
        A remark for the reader, for instance the file of what has just been made.
    state : callable, optional
        Copies the current object (H, W), in full size, and the probe modes (P, N, N), both complex and in the engine's
        own scale. As ``preview``, to be called only within the callback.
    """

    stage: str
    done: int
    total: int
    values: dict[str, float] = field(default_factory=dict)
    preview: Callable[[], Preview] | None = field(default=None, compare=False, repr=False)
    note: str = ""
    state: Callable[[], tuple[NDArray[Any], NDArray[Any]]] | None = field(default=None, compare=False, repr=False)


ProgressCallback = Callable[[Progress], None]
"""Called after each step. Raise :class:`KeyboardInterrupt` from it to stop the job as Ctrl-C would."""
