"""A synthetic image generator: a small random smooth network, for tests and benchmarks without trained weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from diptych.errors import InputError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.decoders.registry import DecoderKind
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.sphere import CHANNELS, usual_shape
from diptych.runtime.options import Options

Floats = NDArray[np.float32]

SMALLEST, LARGEST = 256, 25_600
"""Range of the dimension; the largest is that of a diffusion model of 640 px."""

SIDE = 64
"""Side of the image, px."""

GRIDS = (4, 16)
"""Sides of the grids to which the latent is averaged: layout and details."""

STYLE = 12
"""Number of random sums over the whole latent, which set the style."""

HIDDEN = 10
"""Hidden units per pixel."""

GAIN = 1.2
"""Standard deviation of the local input of a unit: how strongly it is driven into its nonlinear range."""

TINT = 0.5
"""Standard deviation of the style input of a unit."""


class SyntheticOptions(Options):
    """Options of the decoder synthetic."""

    dimension: int = Field(16_384, ge=SMALLEST, le=LARGEST, description="Length of the latent of the synthetic decoder")
    decoder_seed: int = Field(0, ge=0, description="Seed of the random network of the synthetic decoder")


class Synthetic(BaseDecoder):
    """Images of 64 px whose layout, details and colours are smooth functions of the latent.

    A pixel depends on the latent near it, at two scales, and on style sums to which every value of the latent
    contributes. The matrix products are too small for BLAS to split over threads, so the number of threads does not
    change the pixels.

    Parameters
    ----------
    dimension : int
        d, 256 to 25,600.
    prompt, negative_prompt : str
        Stored in the frame; the pixels do not depend on them.
    seed : int
        Seed of the network.

    Raises
    ------
    InputError
        If the dimension is out of range.
    """

    def __init__(self, dimension: int = 16_384, prompt: str = "", negative_prompt: str = "", seed: int = 0) -> None:
        if not SMALLEST <= dimension <= LARGEST:
            raise InputError("synthetic decoder", f"dimension = {dimension}", f"{SMALLEST} to {LARGEST}")
        frame = Frame(
            prompt,
            negative_prompt,
            f"synthetic {seed}" if seed else "synthetic",
            SIDE,
            SIDE,
            seed=seed,
            versions=versions("diptych", "numpy"),
        )
        shape = usual_shape(dimension)
        super().__init__("synthetic", "sphere", dimension, frame, shape if shape[0] == CHANNELS else None)
        # A latent that does not fill four square channels is padded with zeros.
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
        """A decoder with other values of prompt, negative_prompt or seed."""
        kept = {name: getattr(self.frame, name) for name in ("prompt", "negative_prompt", "seed")}
        unknown = sorted(set(fields) - set(kept))
        if unknown:
            raise InputError(
                "synthetic decoder", f"has no {', '.join(unknown)} to change", f"some of {', '.join(kept)}"
            )
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
    """Random rows of norm ``spread``, the standard deviation of their product with standard normal values."""
    found = rng.standard_normal((rows, columns))
    return np.asarray(found * (spread / np.linalg.norm(found, axis=1, keepdims=True)), dtype=np.float32)


def _mixed(weights: Floats, maps: Floats) -> Floats:
    """Weighted sums over maps (c, h, w)."""
    return (weights @ maps.reshape(len(maps), -1)).reshape(-1, *maps.shape[1:])


def _hats(rows: int, columns: int) -> NDArray[np.float64]:
    """Gaussian weights (rows, columns) between two grids over the same interval; their width is the spacing of the
    coarser grid.
    """
    places = (np.arange(rows) + 0.5) / rows
    centres = (np.arange(columns) + 0.5) / columns
    return np.asarray(np.exp(-0.5 * ((places[:, None] - centres) * min(rows, columns) / 0.6) ** 2))


def _averages(grid: int, side: int) -> Floats:
    """Weights (grid, side) of local sums; sums of standard normal values have variance 1."""
    hats = _hats(grid, side)
    return np.asarray(hats / np.linalg.norm(hats, axis=1, keepdims=True), dtype=np.float32)


def _enlargement(size: int, grid: int) -> Floats:
    """Weights (size, grid) of smooth interpolation; they sum to 1."""
    hats = _hats(size, grid)
    return np.asarray(hats / hats.sum(axis=1, keepdims=True), dtype=np.float32)


def _open(options: SyntheticOptions, prompt: str | None, negative_prompt: str | None) -> Synthetic:
    return Synthetic(options.dimension, prompt or "", negative_prompt or "", options.decoder_seed)


DECODER = DecoderKind(
    "synthetic", "A random smooth network, without trained weights.", SyntheticOptions, "sphere", "optional", _open
)
