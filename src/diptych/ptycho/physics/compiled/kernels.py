"""Numba kernels over batches of patterns: B patterns, P modes, windows of N x N px; complex64 and float32, contiguous.

Importing this module needs Numba. Each function is compiled at its first call and kept on disk. They hold no lock of
Python's, and every sum has a fixed order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, and these functions would run as Python")

_log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])
Waves = NDArray[np.complex64]
Reals = NDArray[np.float32]

# Infinite and undefined numbers keep their meaning: diverging engines are found by them.
_ARITHMETIC = {"contract", "reassoc", "nsz", "arcp"}

LEAST_COUNTS = np.float32(1e-6)
"""In the place of no counts, so that their logarithm is finite."""

_ROOT_HALF = np.int32(0x3F3504F3)
"""The bits of the float32 next to the root of a half."""


def compiled_function(function: Function) -> Function:
    """The function, compiled at its first call for the types of its arguments, and kept on disk where that works."""
    options = {"nogil": True, "fastmath": _ARITHMETIC, "error_model": "numpy"}
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _cache_folder()
    try:
        made: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # No folder can be written to, neither beside this file nor the user's: compile each time.
        made = numba.njit(function, **options)
    finally:
        numba.config.CACHE_DIR = before
    if (cache := getattr(made, "_cache", None)) is not None and hasattr(cache, "save_overload"):
        cache.save_overload = _forgiving(cache.save_overload)
    return made


@lru_cache(maxsize=1)
def _cache_folder() -> str:
    """Of the state of all compiled code: Numba compares only the file of a function, not those of what it calls.

    An empty string, for Numba's choice, where this folder cannot be written to.
    """
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), here.parent / "frame_factors.py"]
    digest = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    if numba.config.CACHE_DIR:
        return str(Path(numba.config.CACHE_DIR) / digest)
    folder = here / "__pycache__" / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


def _forgiving(save: Callable[..., None]) -> Callable[..., None]:
    """Compiled code that cannot be kept (a full disk) is used all the same."""

    def attempt(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError as error:
            _log.warning("compiled code cannot be kept on disk, and is compiled again next time: %s", error)

    return attempt


@compiled_function
def product(modes: Waves, factors: Waves, out: Waves) -> None:
    """``out[b, p] = modes[b, p] * factors[b]`` of (B or 1, P, N, N) and (B, N, N)."""
    for b in range(out.shape[0]):
        m = b if modes.shape[0] > 1 else 0
        for p in range(out.shape[1]):
            for i in range(out.shape[2]):
                mode, factor, row = modes[m, p, i], factors[b, i], out[b, p, i]
                for j in range(row.shape[0]):
                    row[j] = mode[j] * factor[j]


@compiled_function
def squared_modulus(waves: Waves, out: Reals) -> None:
    """``out[b] = sum over p of |waves[b, p]|^2``, (B, N, N) of (B, P, N, N)."""
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            total, wave = out[b, i], waves[b, 0, i]
            for j in range(total.shape[0]):
                total[j] = wave[j].real * wave[j].real + wave[j].imag * wave[j].imag
            for p in range(1, waves.shape[1]):
                wave = waves[b, p, i]
                for j in range(total.shape[0]):
                    total[j] += wave[j].real * wave[j].real + wave[j].imag * wave[j].imag


@compiled_function
def scale(waves: Waves, weights: Reals) -> None:
    """``waves[b, p] *= weights[b]``, (B, P, N, N) and (B, N, N)."""
    for b in range(waves.shape[0]):
        for p in range(waves.shape[1]):
            for i in range(waves.shape[2]):
                wave, weight = waves[b, p, i], weights[b, i]
                for j in range(wave.shape[0]):
                    wave[j] = wave[j] * weight[j]


@compiled_function
def add_windows(waves: Waves, modes: Waves, corners: NDArray[np.int64], canvas: Waves) -> None:
    """Add ``waves[b, p] * conj(modes[b or 0, p])`` to the window of ``canvas`` (H, W) at ``corners[b]``."""
    size = waves.shape[2]
    for b in range(waves.shape[0]):
        m = b if modes.shape[0] > 1 else 0
        y, x = corners[b, 0], corners[b, 1]
        for p in range(waves.shape[1]):
            for i in range(size):
                row, wave, mode = canvas[y + i, x : x + size], waves[b, p, i], modes[m, p, i]
                for j in range(size):
                    row[j] += wave[j] * mode[j].conjugate()


@compiled_function
def conjugate_product(waves: Waves, patches: Waves) -> None:
    """``waves[b, p] = conj(waves[b, p]) * patches[b]``, (B, P, N, N) and (B, N, N)."""
    for b in range(waves.shape[0]):
        for p in range(waves.shape[1]):
            for i in range(waves.shape[2]):
                wave, patch = waves[b, p, i], patches[b, i]
                for j in range(wave.shape[0]):
                    wave[j] = wave[j].conjugate() * patch[j]


@compiled_function
def logarithm(ratio: Reals, bits: NDArray[np.int32], out: Reals) -> None:
    """``out = log(ratio)`` of positive numbers, to 5e-7, and to rounding near 1. ``bits`` is the memory of ``ratio``,
    which is overwritten.

    ratio = 2^k m with m between the roots of 1/2 and 2; log(m) is the minimax polynomial of degree 9 of the Cephes
    library (Moshier, Methods and Programs for Mathematical Functions, 1989). A loop that compilers vectorise, which
    they cannot where it calls a function.
    """
    for i in range(ratio.shape[0]):
        offset = bits[i] - _ROOT_HALF
        bits[i] = (offset & np.int32(0x007FFFFF)) + _ROOT_HALF
        out[i] = np.float32(offset >> 23)
    for i in range(ratio.shape[0]):
        f, power = ratio[i] - np.float32(1), out[i]
        series = np.float32(7.0376836292e-2)
        series = series * f - np.float32(1.1514610310e-1)
        series = series * f + np.float32(1.1676998740e-1)
        series = series * f - np.float32(1.2420140846e-1)
        series = series * f + np.float32(1.4249322787e-1)
        series = series * f - np.float32(1.6668057665e-1)
        series = series * f + np.float32(2.0000714765e-1)
        series = series * f - np.float32(2.4999993993e-1)
        series = series * f + np.float32(3.3333331174e-1)
        small = series * f * f * f - np.float32(2.12194440e-4) * power - np.float32(0.5) * f * f
        out[i] = f + small + np.float32(0.693359375) * power


@compiled_function
def poisson_terms(expected: Reals, counts: Reals, dark: np.float32, weights: Reals) -> None:
    """Half the deviance of each pixel, in place of ``expected``, and ``weights = 1 - counts / expected``, (B, N, N).

    ``dark`` is added to ``expected`` first.
    """
    size = expected.shape[2]
    ratio, logs = np.empty(size, np.float32), np.empty(size, np.float32)
    bits = ratio.view(np.int32)
    for b in range(expected.shape[0]):
        for i in range(expected.shape[1]):
            found, count, weight = expected[b, i], counts[b, i], weights[b, i]
            for j in range(size):
                predicted = found[j] + dark
                weight[j] = (predicted - count[j]) / predicted
                ratio[j] = predicted / max(count[j], LEAST_COUNTS)
                found[j] = ratio[j] - np.float32(1)
            logarithm(ratio, bits, logs)
            for j in range(size):
                found[j] = (found[j] - logs[j]) * max(count[j], LEAST_COUNTS)


@compiled_function
def poisson_steps(
    expected: Reals,
    counts: Reals,
    batch: NDArray[np.int64],
    dark: np.float32,
    largest: np.float32,
    step: np.float32,
) -> None:
    """``step * (ratio - 1)``, at most ``step * largest``, in place of ``expected`` (B, N, N), where ``ratio`` is that
    of ``counts[batch]`` and ``expected`` with ``dark`` added to both.
    """
    for b in range(expected.shape[0]):
        for i in range(expected.shape[1]):
            found, count = expected[b, i], counts[batch[b], i]
            for j in range(found.shape[0]):
                ratio = (count[j] + dark) / (found[j] + dark) - np.float32(1)
                found[j] = step * min(max(ratio, np.float32(-1)), largest)


@compiled_function
def take_pixels(images: Reals, batch: NDArray[np.int64], pixels: NDArray[np.int64], out: Reals) -> None:
    """``out[batch[b]] = images[b]`` at the flat indices ``pixels[batch[b]]``; (B, N, N), and (M, h) of M patterns."""
    size = images.shape[2]
    for b in range(batch.shape[0]):
        where, values = pixels[batch[b]], out[batch[b]]
        for h in range(where.shape[0]):
            values[h] = images[b, where[h] // size, where[h] % size]


@compiled_function
def add_patches(patches: Reals, corners: NDArray[np.int64], canvas: Reals) -> None:
    """Add ``patches[b or 0]`` to the window of ``canvas`` (H, W) at ``corners[b]``."""
    size = patches.shape[2]
    for b in range(corners.shape[0]):
        y, x, m = corners[b, 0], corners[b, 1], b if patches.shape[0] > 1 else 0
        for i in range(size):
            row, patch = canvas[y + i, x : x + size], patches[m, i]
            for j in range(size):
                row[j] += patch[j]


@compiled_function
def divide_sums(
    image: Waves,
    numerators: Waves,
    denominators: Reals,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    share: np.float32,
    least: np.float32,
) -> None:
    """``image += sum(numerators) / (share * sum(denominators) + least)`` in windows of ``shape`` at ``corners``, once
    for each pixel; the sums, over the first axis of (S, H, W), are set to 0 there.
    """
    for b in range(corners.shape[0]):
        along = slice(corners[b, 1], corners[b, 1] + shape[1])
        for i in range(corners[b, 0], corners[b, 0] + shape[0]):
            row, top, bottom = image[i, along], numerators[0, i, along], denominators[0, i, along]
            for s in range(1, numerators.shape[0]):
                more, below = numerators[s, i, along], denominators[s, i, along]
                for j in range(shape[1]):
                    top[j] += more[j]
                    more[j] = np.complex64(0)
                for j in range(shape[1]):
                    bottom[j] += below[j]
                    below[j] = np.float32(0)
            for j in range(shape[1]):
                bottom[j] = np.float32(1) / (share * bottom[j] + least)
            for j in range(shape[1]):
                row[j] += top[j] * bottom[j]
            for j in range(shape[1]):
                top[j], bottom[j] = np.complex64(0), np.float32(0)


@compiled_function
def spread(values: Reals, down: Reals, along: Reals, other: Reals) -> None:
    """Share the values (N, N) out to neighbours along y and x, by ``down`` and ``along`` (r + 1,) at distances from 0
    on; beyond the edges there is nothing. Overwrites ``other`` (N, N).
    """
    size = values.shape[0]
    for i in range(size):
        row, here = other[i], values[i]
        for j in range(size):
            row[j] = down[0] * here[j]
        for d in range(1, min(down.shape[0], size)):
            share = down[d]
            for k in (i - d, i + d):
                if 0 <= k < size:
                    near = values[k]
                    for j in range(size):
                        row[j] += share * near[j]
    for i in range(size):
        row, here = values[i], other[i]
        for j in range(size):
            row[j] = along[0] * here[j]
        for d in range(1, min(along.shape[0], size)):
            share = along[d]
            for j in range(d, size):
                row[j] += share * here[j - d]
            for j in range(size - d):
                row[j] += share * here[j + d]


@compiled_function
def dot(a: Reals, b: Reals) -> float:
    """Inner product of (n,) and (n,), added up in double precision."""
    total = 0.0
    for i in range(a.shape[0]):
        total += np.float64(a[i]) * np.float64(b[i])
    return total
