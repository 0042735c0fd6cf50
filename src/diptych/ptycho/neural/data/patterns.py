"""The interface through which training and inference read patterns, and its implementation for scans in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.scan import Canvas, Geometry, Scan

PIECE = 256
"""Patterns per piece when a whole scan is read."""


class Patterns(Protocol):
    """A scan whose patterns are read on request.

    ``positions``, ``probe``, ``probe_calibrated``, ``background``, ``geometry`` and ``truth`` as in
    :class:`~diptych.ptycho.scan.Scan`; ``mask`` is (N, N), or None if there is none or masks differ between
    patterns and are returned with them.
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
        """Read patterns.

        Parameters
        ----------
        indices : (n,) int64 array
            Which, in any order.

        Returns
        -------
        counts : (n, N, N) float32 array
            Zero frequency centred, 0 at masked pixels.
        masks : (n, N, N) bool array or None
            True at valid pixels, if masks differ between patterns.
        """
        ...


class ScanPatterns:
    """A :class:`Scan` in memory; counts keep their data type until a batch is read."""

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
        """Counts and masks of some patterns; see :meth:`Patterns.read`."""
        counts = self.scan.counts[indices].astype(np.float32, copy=False)  # Indexed by an array: a copy already.
        varies = self.scan.mask is not None and self.scan.mask.ndim == 3
        valid = self.scan.mask[indices] if varies and self.scan.mask is not None else None
        shown = self.mask if valid is None else valid
        if shown is not None:
            counts[~np.broadcast_to(shown, counts.shape)] = 0
        return counts, valid


def pieces(count: int) -> Iterator[NDArray[np.int64]]:
    """The indices 0 to count - 1 in pieces of :data:`PIECE`."""
    for start in range(0, count, PIECE):
        yield np.arange(start, min(start + PIECE, count))
