"""Where training and inference read patterns: a scan in memory, or a file that is read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.scan import Canvas, Geometry, Scan

PIECE = 256
"""Patterns per piece where a whole scan is gone through."""


class Patterns(Protocol):
    """A scan whose patterns are read when they are asked for.

    ``positions``, ``probe``, ``probe_calibrated``, ``background``, ``geometry`` and ``truth`` as in
    :class:`~diptych.ptycho.scan.Scan`; ``mask`` is (N, N), or None where there is none or it varies from pattern to
    pattern and comes with them.
    """

    name: str
    positions: NDArray[np.float64]
    probe: NDArray[np.complex64] | None
    probe_calibrated: bool
    mask: NDArray[np.bool_] | None
    background: NDArray[np.float32] | None
    geometry: Geometry | None
    truth: Canvas | None

    @property
    def size(self) -> int:
        """N, the side of a pattern."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Counts (n, N, N) of the patterns ``indices``, in that order, zero frequency centred, 0 at masked pixels.

        With them their masks (n, N, N), where the mask varies from pattern to pattern, else None.
        """
        ...


class ScanPatterns:
    """A :class:`Scan` in memory, in its own number type until a batch is read."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.name, self.positions, self.probe = scan.name, scan.positions, scan.probe
        self.probe_calibrated, self.background = scan.probe_calibrated, scan.background
        self.mask = scan.mask if scan.mask is not None and scan.mask.ndim == 2 else None
        self.geometry, self.truth = scan.geometry, scan.truth

    @property
    def size(self) -> int:
        """N, the side of a pattern."""
        return self.scan.size

    def __len__(self) -> int:
        return len(self.scan)

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Counts (n, N, N), zero frequency centred, 0 at masked pixels; and their masks where these vary."""
        counts = self.scan.counts[indices].astype(np.float32)
        varies = self.scan.mask is not None and self.scan.mask.ndim == 3
        valid = self.scan.mask[indices] if varies and self.scan.mask is not None else None
        shown = self.mask if valid is None else valid
        if shown is not None:
            counts[~np.broadcast_to(shown, counts.shape)] = 0
        return counts, valid


def pieces(count: int) -> Iterator[NDArray[np.int64]]:
    """0 .. count - 1 in pieces of :data:`PIECE`."""
    for start in range(0, count, PIECE):
        yield np.arange(start, min(start + PIECE, count))
