"""A made-up generator: a fixed random smooth network, for trials, tests and benchmarks without any weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.sphere import CHANNELS, usual_shape

Floats = NDArray[np.float32]

SMALLEST, LARGEST = 256, 25_600
"""Dimensions that it takes; the largest is that of images of 640 px."""

SIDE = 64
"""Side of the image, px."""

GRIDS = (4, 16)
"""Sides of the grids on which it sees the latent: broad strokes and details."""

STYLE = 12
"""Random sums over the whole latent: its style."""

HIDDEN = 10
"""Maps between the latent and the three colours."""

GAIN = 1.2
"""Spread of what a place gives to a unit: how far units are driven into their curved part."""

TINT = 0.5
"""Spread of what the style gives to a unit."""


class Synthetic(BaseDecoder):
    """Images of 64 px in which layout, details and colours follow the latent smoothly.

    What a place shows depends on the latent near it, at two scales, and on a style to which every number of the latent
    adds. No arithmetic depends on the number of threads.

    Parameters
    ----------
    dimension : int
        d, 256 to 25,600.
    prompt, negative_prompt : str
        Kept in the frame; the pixels do not depend on them.
    seed : int
        Of the network.

    Raises
    ------
    InputError
        The dimension is out of range.
    """

    def __init__(self, dimension: int = 16_384, prompt: str = "", negative_prompt: str = "", seed: int = 0) -> None:
        if not SMALLEST <= dimension <= LARGEST:
            raise InputError(f"the synthetic decoder has dimension {dimension}; expected {SMALLEST} to {LARGEST}.")
        frame = Frame(
            prompt, negative_prompt, "synthetic", SIDE, SIDE, seed=seed, versions=versions("diptych", "numpy")
        )
        shape = usual_shape(dimension)
        super().__init__("synthetic", "sphere", dimension, frame, shape if shape[0] == CHANNELS else None)
        # A latent that is no image of four channels is laid out as one, the rest of which is empty.
        self._side = math.isqrt(-(-dimension // CHANNELS) - 1) + 1
        self._reduce = [_averages(grid, self._side) for grid in GRIDS]
        self._coarse = _enlargement(GRIDS[1], GRIDS[0])
        self._enlarge = _enlargement(SIDE, GRIDS[1])
        rng = np.random.default_rng(seed)
        self._signs = rng.choice(np.array([-1, 1], np.float32), dimension)
        self._order = rng.permutation(dimension)
        self._sums = np.linspace(0, dimension, STYLE + 1).astype(np.int64)[:-1]
        self._first = _weights(rng, HIDDEN, 2 * CHANNELS, GAIN)
        self._first_style = _weights(rng, HIDDEN, STYLE, TINT)
        self._second = _weights(rng, 3, HIDDEN, GAIN)
        self._second_style = _weights(rng, 3, STYLE, TINT)

    def changed(self, **fields: Any) -> Synthetic:
        """A decoder of another frame: any of prompt, negative_prompt and seed."""
        kept = {name: getattr(self.frame, name) for name in ("prompt", "negative_prompt", "seed")}
        unknown = sorted(set(fields) - set(kept))
        if unknown:
            raise InputError(f"the synthetic decoder has no {', '.join(unknown)} to change; it has {', '.join(kept)}.")
        return Synthetic(self.dimension, **{**kept, **fields})

    def _decode(self, latent: Floats) -> Decoded:
        style = np.add.reduceat((latent * self._signs)[self._order], self._sums) / np.float32(
            math.sqrt(self.dimension / STYLE)
        )
        laid = np.zeros((CHANNELS, self._side, self._side), np.float32)
        laid.reshape(-1)[: self.dimension] = latent
        broad, fine = (rows @ laid @ rows.T for rows in self._reduce)
        seen = np.concatenate([self._coarse @ broad @ self._coarse.T, fine])
        hidden = np.tanh(_mixed(self._first, seen) + (self._first_style @ style)[:, None, None])
        colours = (
            _mixed(self._second, self._enlarge @ hidden @ self._enlarge.T) + (self._second_style @ style)[:, None, None]
        )
        return as_bytes(0.5 + 0.5 * np.tanh(colours.transpose(1, 2, 0)))


def _weights(rng: np.random.Generator, rows: int, columns: int, spread: float) -> Floats:
    """Random rows of length ``spread``: that of their sums over normal numbers."""
    found = rng.standard_normal((rows, columns))
    return np.asarray(found * (spread / np.linalg.norm(found, axis=1, keepdims=True)), dtype=np.float32)


def _mixed(weights: Floats, maps: Floats) -> Floats:
    """Weighted sums over maps (c, h, w)."""
    return (weights @ maps.reshape(len(maps), -1)).reshape(-1, *maps.shape[1:])


def _hats(rows: int, columns: int) -> NDArray[np.float64]:
    """Smooth bumps (rows, columns): that of each row lies at its place among the columns and is as wide as the coarser
    grid's spacing.
    """
    places = (np.arange(rows) + 0.5) / rows
    centres = (np.arange(columns) + 0.5) / columns
    return np.asarray(np.exp(-0.5 * ((places[:, None] - centres) * min(rows, columns) / 0.6) ** 2))


def _averages(grid: int, side: int) -> Floats:
    """Weights (grid, side) of local sums, which of normal numbers have the spread 1."""
    hats = _hats(grid, side)
    return np.asarray(hats / np.linalg.norm(hats, axis=1, keepdims=True), dtype=np.float32)


def _enlargement(size: int, grid: int) -> Floats:
    """Weights (size, grid) of smooth interpolation; a constant stays as it is."""
    hats = _hats(size, grid)
    return np.asarray(hats / hats.sum(axis=1, keepdims=True), dtype=np.float32)
