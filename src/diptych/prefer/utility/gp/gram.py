"""Inner products of latents, kept between fits: a new judgement costs one row, not a new matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

CHUNK = 1024
"""Coordinates that are summed in float32; chunks are summed in float64. Rows computed one at a time and many at once
agree to 5e-8, on the diagonal to 5e-7.
"""

ROWS = 512
"""Rows of latents processed at a time: 512 x 16,384 x 4 bytes = 34 MB."""

FEW = 7
"""Number of vectors up to which products with latents are computed in small blocks (fewer than a million
multiplications), which is twice as fast.
"""

MAX_KEPT = 4096
"""Number of latents up to which all inner products are kept. Those of 10,000 take 13 s and 200 MB; reading the latents
twice takes 0.1 s.
"""

KEY_COORDINATES = 64
"""Coordinates of a row that are compared to recognize it."""


class Gram:
    """G = X X' / d of the rows X (n, d) of the last :meth:`update`, float32.

    The lower triangle is stored as bands of rows, so that adding rows copies nothing; for more than :data:`MAX_KEPT`
    rows only what is requested is computed.

    Attributes
    ----------
    row_keys : (n, about 64) float32
        Some coordinates of each row, to recognize it in the next fit.
    """

    def __init__(self) -> None:
        self._bands: list[NDArray[np.float32]] = []
        self._latents = np.zeros((0, 0), np.float32)
        self.row_keys = np.zeros((0, 0), np.float32)
        self._dense = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self.row_keys)

    @property
    def dimension(self) -> int:
        """Length d of a latent."""
        return int(self._latents.shape[1])

    def update(self, latents: NDArray[np.float32]) -> int:
        """Make this the Gram matrix of ``latents`` (n, d). Returns the number of leading rows that are kept."""
        row_keys = np.ascontiguousarray(latents[:, :: max(latents.shape[1] // KEY_COORDINATES, 1)], dtype=np.float32)
        kept = self._same(row_keys)
        self._forget(kept)
        self.row_keys, self._latents = row_keys, latents
        return kept

    def dense(self, rows: int | None = None) -> NDArray[np.float64]:
        """The block of the first ``rows`` latents (all if None), in float64. The array is shared: do not modify it."""
        rows = len(self) if rows is None else rows
        have = len(self._dense)
        if have < rows:
            self._multiply(rows)
            full = np.empty((rows, rows))
            full[:have, :have] = self._dense
            for band, start in self._placed():
                stop = min(start + len(band), rows)
                if have < stop and start < rows:
                    full[start:stop, :stop] = band[: stop - start, :stop]
                    full[:stop, start:stop] = full[start:stop, :stop].T
            self._dense = full
        return self._dense[:rows, :rows]

    def some(self, places: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Selected rows ``places`` (k,), in rising order, of the block of the first ``count`` latents: (k, count)."""
        self._multiply(count)
        found = np.empty((len(places), count))
        for band, start in self._placed():
            stop = min(start + len(band), count)
            before, after = np.searchsorted(places, [start, stop])
            found[before:after, :stop] = band[places[before:after] - start, :stop]
            if start < count:
                found[:before, start:stop] = band[: stop - start, places[:before]].T
        return found

    def times(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Product G v with (n,) or (n, k), from float32 inner products; summed in float64 if these are kept."""
        if len(self) > MAX_KEPT:
            sums = spread(np.ascontiguousarray(np.reshape(vectors, (len(self), -1)).T), self._latents)
            if len(sums) > 1:
                return np.reshape(cross(sums, self._latents).T, vectors.shape)
            # A single vector times the rows without copying them is fastest.
            single, found = sums[0].astype(np.float32), np.zeros(len(self))
            for a in range(0, len(self), ROWS):
                for c in range(0, len(single), CHUNK):
                    found[a : a + ROWS] += self._latents[a : a + ROWS, c : c + CHUNK] @ single[c : c + CHUNK]
            return np.reshape(found / len(single), vectors.shape)
        self._multiply(len(self))
        given = np.ascontiguousarray(vectors, dtype=np.float64)
        result = np.zeros(given.shape)
        for band, start in self._placed():
            stop = start + len(band)
            result[start:stop] += band @ given[:stop]
            result[:start] += band[:, :start].T @ given[start:stop]
        return result

    def _placed(self) -> list[tuple[NDArray[np.float32], int]]:
        return [(band, band.shape[1] - len(band)) for band in self._bands]

    def _same(self, row_keys: NDArray[np.float32]) -> int:
        """Number of leading rows that are unchanged."""
        if self.row_keys.shape[1] != row_keys.shape[1]:
            return 0
        count = min(len(self.row_keys), len(row_keys))
        differs = np.flatnonzero((self.row_keys[:count] != row_keys[:count]).any(axis=1))
        return int(differs[0]) if len(differs) else count

    def _forget(self, count: int) -> None:
        """Discard the rows from ``count`` on."""
        if count < len(self):
            self._bands = [
                band[: count - start, : min(band.shape[1], count)] for band, start in self._placed() if start < count
            ]
            self._dense = self._dense[:count, :count]

    def _multiply(self, rows: int) -> None:
        """Compute the bands of the first ``rows`` rows."""
        latents = self._latents
        for start in range(sum(map(len, self._bands)), rows, ROWS):
            stop = min(start + ROWS, rows)
            new = np.asarray(latents[start:stop], dtype=np.float32)
            old = [
                _products(new, np.asarray(latents[a : min(a + ROWS, start)], dtype=np.float32))
                for a in range(0, start, ROWS)
            ]
            self._bands.append(np.hstack([*old, _products(new, new)]).astype(np.float32))
        self._join()

    def _join(self) -> None:
        """Join the last bands while they are small, so that a thousand single rows do not become a thousand bands."""
        while (
            len(self._bands) > 1
            and len(self._bands[-2]) + len(self._bands[-1]) <= ROWS
            and len(self._bands[-1]) >= len(self._bands[-2]) / 2
        ):
            upper, lower = self._bands[-2], self._bands[-1]
            start = upper.shape[1] - len(upper)
            joined = np.zeros((len(upper) + len(lower), lower.shape[1]), np.float32)
            joined[: len(upper), : upper.shape[1]] = upper
            joined[len(upper) :] = lower
            # Fill the block above the diagonal too, so that each band is a full rectangle.
            joined[: len(upper), upper.shape[1] :] = lower[:, start : start + len(upper)].T
            self._bands[-2:] = [joined]


def cross(vectors: Floats, latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """V X' / d (k, n) of vectors (k, d) and latents (n, d)."""
    given = np.asarray(vectors, dtype=np.float32)
    return np.hstack(
        [_products(given, np.asarray(latents[a : a + ROWS], dtype=np.float32)) for a in range(0, len(latents), ROWS)]
    )


def spread(weights: NDArray[np.float64], latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weighted sums (k, d) of latents (n, d) with weights (k, n)."""
    given = weights.astype(np.float32)
    rows, columns = (32, 4096) if 1 < len(given) <= FEW else (ROWS, latents.shape[1])
    total = np.empty((len(given), latents.shape[1]))
    for c in range(0, latents.shape[1], columns):
        part = np.zeros((len(given), min(columns, latents.shape[1] - c)))
        for a in range(0, len(latents), rows):
            part += np.ascontiguousarray(given[:, a : a + rows]) @ np.asarray(
                latents[a : a + rows, c : c + columns], dtype=np.float32
            )
        total[:, c : c + columns] = part
    return total


def _products(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """A B' / d of rows (k, d) and (n, d)."""
    if len(a) <= FEW:
        return _products_of_few_rows(a, b)
    total = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], CHUNK):
        total += a[:, start : start + CHUNK] @ b[:, start : start + CHUNK].T
    return np.asarray(total / a.shape[1])


def _products_of_few_rows(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same for few rows, where reading B takes most of the time: once, in blocks that BLAS does not copy."""
    total = np.zeros((len(b), len(a)))
    for row in range(0, len(b), 128):
        part = np.zeros((len(b[row : row + 128]), len(a)))
        for start in range(0, a.shape[1], CHUNK):
            part += b[row : row + 128, start : start + CHUNK] @ a[:, start : start + CHUNK].T
        total[row : row + 128] = part
    return np.asarray(total.T / a.shape[1])
