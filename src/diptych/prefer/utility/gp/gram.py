"""Inner products of latents, kept between fits: a new judgement costs one row, not a new matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

CHUNK = 1024
"""Coordinates summed in float32, then in float64: one row at a time and many at once agree to 5e-8, on the diagonal to
5e-7."""

ROWS = 512
"""Rows of latents worked on at a time: 512 x 16,384 x 4 bytes = 34 MB."""

FEW = 7
"""Vectors up to which products with latents are taken in small pieces (fewer than a million multiplications): twice as
quick."""

KEPT = 4096
"""Latents up to which all products are kept: those of 10,000 take a processor 13 s and 200 MB, going through the
latents twice 0.1 s."""

PROBES = 64
"""Coordinates of a row by which it is known again."""


class Gram:
    """G = X X' / d of the rows X (n, d) of the last :meth:`update`, float32.

    The lower triangle is kept as bands of rows, so that growth copies nothing; of more than :data:`KEPT` rows only what
    is asked for.

    Attributes
    ----------
    marks : (n, about 64) float32
        Some coordinates of each row, by which it is known again.
    """

    def __init__(self) -> None:
        self._bands: list[NDArray[np.float32]] = []
        self._latents = np.zeros((0, 0), np.float32)
        self.marks = np.zeros((0, 0), np.float32)
        self._dense = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self.marks)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._latents.shape[1])

    def update(self, latents: NDArray[np.float32]) -> int:
        """Make this the Gram matrix of ``latents`` (n, d). Returns how many rows, from the first on, were there before
        and are kept.
        """
        marks = np.ascontiguousarray(latents[:, :: max(latents.shape[1] // PROBES, 1)], dtype=np.float32)
        kept = self._same(marks)
        self._forget(kept)
        self.marks, self._latents = marks, latents
        return kept

    def dense(self, rows: int | None = None) -> NDArray[np.float64]:
        """The part of the first ``rows`` latents (all when None), in float64. It is this object's own array, not to be
        written to.
        """
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
        """Some rows of the part of the first ``count`` latents, (k, count), ``places`` (k,) in rising order."""
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
        """G v for one vector (n,) or several (n, k), of float32 products; summed in float64 where these are kept."""
        if len(self) > KEPT:
            sums = spread(np.ascontiguousarray(np.reshape(vectors, (len(self), -1)).T), self._latents)
            if len(sums) > 1:
                return np.reshape(cross(sums, self._latents).T, vectors.shape)
            # One vector times the rows as they lie is quickest.
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

    def _same(self, marks: NDArray[np.float32]) -> int:
        """How many rows from the first on are those known already."""
        if self.marks.shape[1] != marks.shape[1]:
            return 0
        count = min(len(self.marks), len(marks))
        differs = np.flatnonzero((self.marks[:count] != marks[:count]).any(axis=1))
        return int(differs[0]) if len(differs) else count

    def _forget(self, count: int) -> None:
        """Forget the rows from ``count`` on."""
        if count < len(self):
            self._bands = [
                band[: count - start, : min(band.shape[1], count)] for band, start in self._placed() if start < count
            ]
            self._dense = self._dense[:count, :count]

    def _multiply(self, rows: int) -> None:
        """Have the bands of the first ``rows`` rows."""
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
            # Above the diagonal block of the band, too, so that each band is whole from its first row on.
            joined[: len(upper), upper.shape[1] :] = lower[:, start : start + len(upper)].T
            self._bands[-2:] = [joined]


def cross(vectors: Floats, latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """V X' / d (k, n) of vectors (k, d) and latents (n, d)."""
    given = np.asarray(vectors, dtype=np.float32)
    return np.hstack(
        [_products(given, np.asarray(latents[a : a + ROWS], dtype=np.float32)) for a in range(0, len(latents), ROWS)]
    )


def spread(weights: NDArray[np.float64], latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of w_i x_i (k, d) for weights (k, n) and latents (n, d)."""
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
        return _few_products(a, b)
    total = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], CHUNK):
        total += a[:, start : start + CHUNK] @ b[:, start : start + CHUNK].T
    return np.asarray(total / a.shape[1])


def _few_products(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same for few rows, where reading B takes the time: once, in pieces for which BLAS copies nothing."""
    total = np.zeros((len(b), len(a)))
    for row in range(0, len(b), 128):
        part = np.zeros((len(b[row : row + 128]), len(a)))
        for start in range(0, a.shape[1], CHUNK):
            part += b[row : row + 128, start : start + CHUNK] @ a[:, start : start + CHUNK].T
        total[row : row + 128] = part
    return np.asarray(total.T / a.shape[1])
