"""FFTs inside compiled code, of N x N waves with N = 2^k B, where FFTW's estimated plans are good for B x B px.

Radix-2 steps along both axes (decimation in frequency: Cooley and Tukey, Math. Comput. 19, 297, 1965) leave 2^k x 2^k
pieces of B x B px, each with an FFT of its own that fits into the processor's cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from diptych.ptycho.physics.compiled.fftw import SYMBOL, aligned, plans
from diptych.ptycho.physics.compiled.kernels import Reals, Waves, compiled_function

_execute = types.ExternalFunction(SYMBOL, types.void(types.intp, types.intp, types.intp))

BASES = (32, 48, 64, 128)
"""Sides B for which estimated plans are good: FFTs of 3.5, 9.5, 6 and 33 us on a Zen 3, by PyTorch 8, 14, 19 and 58."""

LARGEST = 1024
"""Largest N: each thread keeps four waves of N x N px for one mode, and two more for each further one."""


class Transform(NamedTuple):
    """What FFTs of one thread need.

    ``pieces`` (R, R, B, B) is memory for R x R pieces, and empty with R = 1. ``twiddles`` (2, k, 2, N / 2) are the
    factors of each step, forward and backward, real and imaginary part, ``order`` (R,) the residue modulo R of the
    frequencies in each row or column of pieces; ``forward`` and ``backward`` are the addresses of the plans of B x B.
    """

    pieces: Waves
    twiddles: Reals
    order: NDArray[np.int64]
    forward: int
    backward: int


def base_of(size: int) -> int:
    """Side B of the pieces of waves of ``size`` x ``size`` px; 0 where there is none."""
    if size > LARGEST:
        return 0
    while size > min(BASES) and size not in BASES and size % 2 == 0:
        size //= 2
    return size if size in BASES else 0


def transform(size: int) -> Transform:
    """Memory, factors and plans for ``size`` x ``size`` px, a size that has a base."""
    base = base_of(size)
    ratio = size // base
    steps = ratio.bit_length() - 1
    twiddles = np.zeros((2, steps, 2, size // 2), np.float32)
    order = np.zeros(1, np.int64)
    for step in range(steps):
        half = size >> (step + 1)
        angles = np.pi * np.arange(half) / half
        twiddles[:, step, 0, :half] = np.cos(angles)
        twiddles[0, step, 1, :half], twiddles[1, step, 1, :half] = -np.sin(angles), np.sin(angles)
        order = np.stack([order, order + (1 << step)], axis=1).ravel()
    shape = (ratio, ratio) if ratio > 1 else (0, 0)
    return Transform(aligned(*shape, base, base), twiddles, order, *plans(base))


@compiled_function
def fft2(wave: Waves, by: Transform, forward: bool) -> None:
    """The FFT of a wave (N, N), or the backward one, in place and unscaled."""
    plan = by.forward if forward else by.backward
    ratio = by.pieces.shape[0]
    if ratio == 0:
        _execute(plan, wave.ctypes.data, wave.ctypes.data)
        return
    _split(wave, by, by.twiddles[0 if forward else 1])
    for i in range(ratio):
        for j in range(ratio):
            piece = by.pieces[i, j]
            _execute(plan, piece.ctypes.data, piece.ctypes.data)
    _interleave(wave, by)


@compiled_function
def _split(wave: Waves, by: Transform, twiddles: Reals) -> None:
    """Radix-2 steps along y, then along x, into the pieces: for the rows that depend on each other at a time.

    As real numbers, because compilers do not vectorise these steps of complex ones.
    """
    size, ratio, base = wave.shape[0], by.pieces.shape[0], by.pieces.shape[2]
    numbers, pieces, less = wave.view(np.float32), by.pieces.view(np.float32), np.empty(2 * size, np.float32)
    for i in range(base):
        for step in range(twiddles.shape[0]):
            half = size >> (step + 1)
            for start in range(0, size, 2 * half):
                for k in range(i, half, base):
                    upper, lower = numbers[start + k], numbers[start + half + k]
                    _step_of_rows(upper, lower, twiddles[step, 0, k], twiddles[step, 1, k], less)
        for p in range(ratio):
            row = numbers[p * base + i]
            for step in range(twiddles.shape[0]):
                half = size >> (step + 1)
                for start in range(0, 2 * size, 4 * half):
                    left, right = row[start : start + 2 * half], row[start + 2 * half : start + 4 * half]
                    _step_in_row(left, right, twiddles[step], less)
            for q in range(ratio):
                into, part = pieces[p, q, i], row[2 * q * base : 2 * (q + 1) * base]
                for j in range(2 * base):
                    into[j] = part[j]


@compiled_function
def _step_of_rows(upper: Reals, lower: Reals, real: np.float32, imaginary: np.float32, less: Reals) -> None:
    for j in range(upper.shape[0]):
        less[j] = upper[j] - lower[j]
        upper[j] = upper[j] + lower[j]
    for j in range(upper.shape[0] // 2):
        lower[2 * j] = less[2 * j] * real - less[2 * j + 1] * imaginary
        lower[2 * j + 1] = less[2 * j] * imaginary + less[2 * j + 1] * real


@compiled_function
def _step_in_row(left: Reals, right: Reals, twiddles: Reals, less: Reals) -> None:
    real, imaginary = twiddles[0], twiddles[1]
    for j in range(left.shape[0]):
        less[j] = left[j] - right[j]
        left[j] = left[j] + right[j]
    for j in range(left.shape[0] // 2):
        right[2 * j] = less[2 * j] * real[j] - less[2 * j + 1] * imaginary[j]
        right[2 * j + 1] = less[2 * j] * imaginary[j] + less[2 * j + 1] * real[j]


@compiled_function
def _interleave(wave: Waves, by: Transform) -> None:
    """The spectra of the pieces, in the order of their frequencies."""
    ratio, base = by.pieces.shape[0], by.pieces.shape[2]
    for p in range(ratio):
        for k in range(base):
            row = wave[k * ratio + by.order[p]]
            for q in range(ratio):
                piece, first = by.pieces[p, q, k], by.order[q]
                for j in range(base):
                    row[j * ratio + first] = piece[j]
