"""Geometry of image latents: the sphere of radius sqrt(d), the anchor of a prompt, and typicality tests.

Image generators are trained on standard normal noise, whose norm is sqrt(d) with a relative standard deviation of
1 / sqrt(2 d). Moves between latents are therefore angles, and a latent that is atypical of normal noise (for instance
with too much energy at low frequencies) gives a broken image.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

Floats = NDArray[np.float64]

LIMIT = 4.0
"""Largest accepted deviation of each statistic from its mean, in standard deviations."""

BAND = 256
"""Smallest number of coefficients in a band whose energy is a statistic."""

CHANNELS = 4
"""Channels of the latents of Stable Diffusion."""


def on_sphere(latents: ArrayLike) -> Floats:
    """Vectors (..., d) scaled to norm sqrt(d), float64.

    Raises
    ------
    InputError
        If a vector is zero or not finite.
    """
    values = np.asarray(latents, dtype=np.float64)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    if not np.all(np.isfinite(length) & (length > 0)):
        raise InputError(
            "latent", "is zero or not finite, so it has no direction", "finite values that are not all zero"
        )
    return np.asarray(values * (math.sqrt(values.shape[-1]) / length))


def prompt_anchor(prompt: str, dimension: int) -> NDArray[np.float32]:
    """The standard normal vector (d,) of a prompt: NumPy's default generator, seeded by the first eight bytes
    (big-endian) of the SHA-1 of the prompt.
    """
    seed = int.from_bytes(hashlib.sha1(prompt.encode(), usedforsecurity=False).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


def turn(start: ArrayLike, towards: ArrayLike, angle: float) -> Floats:
    """``start`` (d,) rotated by an angle (rad) along the great circle whose tangent is the component of ``towards``
    orthogonal to ``start``.
    """
    a = on_sphere(start)
    tangent = np.asarray(towards, dtype=np.float64)
    tangent = tangent - a * (a @ tangent / (a @ a))
    return on_sphere(math.cos(angle) * a + math.sin(angle) * on_sphere(tangent))


def combine(latents: ArrayLike, weights: ArrayLike) -> Floats:
    """Weighted sum (d,) of latents (k, d), rescaled to the sphere. Linear combinations of normal vectors are normal
    (Bodin et al., arXiv:2408.08558).
    """
    return on_sphere(np.asarray(weights, dtype=np.float64) @ on_sphere(latents))


def usual_shape(dimension: int) -> tuple[int, int, int]:
    """Default shape (channels, height, width) of a latent of ``dimension`` values: four square channels where that is
    possible, otherwise (1, 1, d).
    """
    side = math.isqrt(dimension // CHANNELS)
    return (CHANNELS, side, side) if CHANNELS * side * side == dimension else (1, 1, dimension)


@dataclass(frozen=True)
class Projection:
    """A latent (d,) that passes the tests, and the names of the statistics that had to be changed."""

    latent: Floats
    bound: tuple[str, ...]


class Typicality:
    """Tests that a latent is typical of standard normal noise: each statistic, standardised by its distribution for
    noise, lies within :data:`LIMIT`.

    The statistics are the squared norm; the mean of each channel; the energy of each channel and of each frequency band
    (where it has at least :data:`BAND` coefficients); and the products of vertical and of horizontal neighbours. Bands
    are square shells of the discrete cosine transform whose edges double: orders 1, 2, 4, 8, ...

    Parameters
    ----------
    shape : (channels, height, width)
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.dimension = math.prod(shape)
        channels = range(shape[0]) if shape[0] > 1 and shape[1] * shape[2] >= BAND else range(0)
        label = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
        self._parts = {f"energy of channel {index}": label == index for index in channels}
        bands = _bands(shape)
        if bands.max() > 0:
            self._parts |= {f"energy of band {index}": bands == index for index in range(bands.max() + 1)}

    def scores(self, latent: ArrayLike) -> dict[str, float]:
        """Every statistic of a latent (d,): its deviation from the mean for noise, in standard deviations."""
        from scipy.fft import dctn

        values = np.asarray(latent, dtype=np.float64).reshape(self.shape)
        return self._scores(values, dctn(values, axes=(1, 2), norm="ortho"))

    def passes(self, latent: ArrayLike) -> bool:
        """Whether every statistic is within :data:`LIMIT`."""
        return all(abs(score) <= LIMIT for score in self.scores(latent).values())

    def project(self, latent: ArrayLike) -> Projection:
        """Scale a latent (d,) to the sphere and change each statistic that fails to just within its limit.

        Raises
        ------
        InputError
            If the latent is so far from noise that the tests cannot be met together.
        """
        from scipy.fft import dctn

        bound: dict[str, None] = {}
        values = on_sphere(latent).reshape(self.shape)
        for _ in range(60):
            waves = dctn(values, axes=(1, 2), norm="ortho")
            failed = {name: score for name, score in self._scores(values, waves).items() if abs(score) > LIMIT}
            if not failed:
                return Projection(values.ravel(), tuple(bound))
            bound |= dict.fromkeys(failed)
            values = on_sphere(self._corrected(values, waves, failed).ravel()).reshape(self.shape)
        raise InputError(
            "latent",
            f"is too far from normal noise to pass all typicality tests ({', '.join(bound)})",
            "a latent close to standard normal noise",
            "Start from a normal vector, or use a smaller step.",
        )

    def _scores(self, values: Floats, waves: Floats) -> dict[str, float]:
        size = self.dimension
        scores = {"length": (float((values**2).sum()) - size) / math.sqrt(2 * size)}
        scores |= {f"mean of channel {index}": float(level) for index, level in enumerate(waves[:, 0, 0])}
        energy = waves**2
        for name, part in self._parts.items():
            count = int(part.sum())
            scores[name] = (float(energy[part].sum()) - count) / math.sqrt(2 * count)
        for axis, name in ((1, "neighbours down"), (2, "neighbours across")):
            if self.shape[axis] > 1:
                products = values * _shifted(values, axis)
                scores[name] = float(products.sum()) / math.sqrt(size - size // self.shape[axis])
        return scores

    def _corrected(self, values: Floats, waves: Floats, failed: dict[str, float]) -> Floats:
        """The latent with its failing statistics set to 95 % of the limit, one after the other. The norm is not
        restored here.
        """
        from scipy.fft import idctn

        waves = waves.copy()
        for name, score in failed.items():
            goal = math.copysign(0.95 * LIMIT, score)
            if name.startswith("mean"):
                waves[int(name.split()[-1]), 0, 0] = goal
            elif name in self._parts:
                part = self._parts[name]
                count = int(part.sum())
                wanted = max(count + goal * math.sqrt(2 * count), 0.1 * count)
                waves[part] *= math.sqrt(wanted / (waves[part] ** 2).sum())
        values = idctn(waves, axes=(1, 2), norm="ortho")
        for axis, name in ((1, "neighbours down"), (2, "neighbours across")):
            if name in failed:
                around = _shifted(values, axis) + np.flip(_shifted(np.flip(values, axis), axis), axis)
                scale = math.sqrt(self.dimension - self.dimension // self.shape[axis])
                excess = (
                    float((values * _shifted(values, axis)).sum()) - math.copysign(0.95 * LIMIT, failed[name]) * scale
                )
                values = values - around * (excess / float((around**2).sum()))
        return values


@lru_cache(maxsize=8)
def typicality(shape: tuple[int, int, int]) -> Typicality:
    """The tests for latents of a shape; cached."""
    return Typicality(shape)


def _shifted(values: Floats, axis: int) -> Floats:
    """Each value's successor along an axis, 0 beyond the end."""
    moved = np.zeros_like(values)
    keep, take = [slice(None)] * 3, [slice(None)] * 3
    keep[axis], take[axis] = slice(None, -1), slice(1, None)
    moved[tuple(keep)] = values[tuple(take)]
    return moved


def _bands(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Band index of every coefficient: shells whose edges double; the lowest ones are merged until a band has
    :data:`BAND` coefficients.
    """
    channels, height, width = shape
    order = np.maximum(*np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    shell = np.floor(np.log2(np.maximum(order, 1))).astype(np.int64)
    counts = channels * np.bincount(shell.ravel())
    join, index, held = [], 0, 0
    for count in counts:
        join.append(index)
        held += count
        if held >= BAND:
            index, held = index + 1, 0
    if 0 < held < BAND:
        join = [min(place, max(index - 1, 0)) for place in join]
    return np.broadcast_to(np.asarray(join)[shell], shape)
