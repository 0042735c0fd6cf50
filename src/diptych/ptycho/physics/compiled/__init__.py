"""Compiled inner loops of the forward model: one pass over memory where PyTorch takes several.

They serve batches of patterns on the CPU, in single precision, where Numba is installed
(``pip install 'diptych[speed]'``), and release Python's lock, so that threads do not wait for each other. Otherwise
each function here returns None or False and does nothing, and PyTorch computes the same numbers up to rounding: on a
GPU, in double precision, under autograd, for other shapes, without Numba.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)

_SINGLE = (torch.float32, torch.complex64)


def product(modes: Tensor, factors: Tensor) -> Tensor | None:
    """``modes * factors[:, None]``, (B, P, N, N), of modes (B or 1, P, N, N) and factors (B, N, N)."""
    fits = modes.ndim == 4 and factors.ndim == 3 and len(modes) in (1, len(factors))
    fits = fits and modes.is_complex() and factors.is_complex()
    if not fits or modes.shape[2:] != factors.shape[1:] or (found := _kernels(modes, factors)) is None:
        return None
    made = torch.empty((len(factors), *modes.shape[1:]), dtype=modes.dtype)
    found.product(modes.numpy(), factors.numpy(), made.numpy())
    return made


def squared_modulus(waves: Tensor) -> Tensor | None:
    """Sum over modes of ``|waves|^2``, (B, N, N), of waves (B, P, N, N)."""
    if waves.ndim != 4 or not waves.is_complex() or (found := _kernels(waves)) is None:
        return None
    made = torch.empty((len(waves), *waves.shape[2:]), dtype=torch.float32)
    found.squared_modulus(waves.numpy(), made.numpy())
    return made


def scale(waves: Tensor, weights: Tensor) -> bool:
    """``waves *= weights`` in place, of waves (B, P, N, N) and weights (B, 1, N, N)."""
    fits = waves.ndim == 4 and weights.shape == (len(waves), 1, *waves.shape[2:])
    if not fits or (found := _kernels(waves, weights)) is None:
        return False
    found.scale(waves.numpy(), weights[:, 0].numpy())
    return True


def add_windows(waves: Tensor, modes: Tensor, corners: NDArray[np.int64], canvas: Tensor) -> bool:
    """Add ``waves * conj(modes)``, (B, P, N, N) and (B or 1, P, N, N), to the windows of ``canvas`` at ``corners``."""
    fits = waves.ndim == 4 and modes.shape[1:] == waves.shape[1:] and len(modes) in (1, len(waves))
    fits = fits and _inside(corners, len(waves), waves.shape[-1], canvas)
    if not fits or (found := _kernels(waves, modes, canvas)) is None:
        return False
    found.add_windows(waves.numpy(), modes.numpy(), corners, canvas.numpy())
    return True


def conjugate_product(waves: Tensor, patches: Tensor) -> bool:
    """``waves = conj(waves) * patches[:, None]`` in place, of waves (B, P, N, N) and patches (B, N, N)."""
    fits = waves.ndim == 4 and patches.shape == (len(waves), *waves.shape[2:])
    if not fits or (found := _kernels(waves, patches)) is None:
        return False
    found.conjugate_product(waves.numpy(), patches.numpy())
    return True


def poisson_terms(expected: Tensor, counts: Tensor, dark: float) -> Tensor | None:
    """The weights ``1 - counts / (expected + dark)``, (B, N, N); half the deviance is in place of ``expected``."""
    if expected.ndim != 3 or expected.shape != counts.shape or (found := _kernels(expected, counts)) is None:
        return None
    weights = torch.empty_like(expected)
    found.poisson_terms(expected.numpy(), counts.numpy(), np.float32(dark), weights.numpy())
    return weights


def poisson_steps(
    expected: Tensor, counts: Tensor, batch: NDArray[np.int64], dark: float, largest: float, step: float
) -> bool:
    """``step * min(ratio - 1, largest)`` in place of ``expected`` (B, N, N), where ``ratio`` is that of
    ``counts[batch]`` and ``expected``, with ``dark`` added to both; counts are (M, N, N).
    """
    if (found := _kernels(expected, counts)) is None:
        return False
    limits = (np.float32(value) for value in (dark, largest, step))
    found.poisson_steps(expected.numpy(), counts.numpy(), batch, *limits)
    return True


def take_pixels(images: Tensor, batch: NDArray[np.int64], pixels: Tensor, out: Tensor) -> bool:
    """``out[batch] = images`` at the flat indices ``pixels[batch]``, of images (B, N, N), and (M, h) of M patterns."""
    if images.ndim != 3 or (found := _kernels(images, out)) is None:
        return False
    found.take_pixels(images.numpy(), batch, pixels.numpy(), out.numpy())
    return True


def add_patches(canvas: Tensor, corners: NDArray[np.int64], patches: Tensor) -> bool:
    """Add real patches (B, N, N) to the windows of ``canvas`` (H, W) at ``corners`` (B, 2)."""
    if not _inside(corners, len(patches), patches.shape[-1], canvas):
        return False
    each = patches[:1] if patches.stride(0) == 0 else patches
    if canvas.is_complex() or each.is_complex() or (found := _kernels(canvas, each)) is None:
        return False
    found.add_patches(each.numpy(), corners, canvas.numpy())
    return True


def divide_sums(
    image: Tensor,
    numerators: Tensor,
    denominators: Tensor,
    corners: NDArray[np.int64],
    shape: tuple[int, int],
    share: float,
    least: Tensor,
) -> bool:
    """Add ``sum(numerators) / (share * sum(denominators) + least)`` to ``image`` (H, W) in the windows of ``shape`` at
    ``corners`` (B, 2), and set what was summed to 0 there.

    The sums are over the first axis of (S, H, W); ``least`` is one number, still on its device.
    """
    if not _inside(corners, len(corners), shape, image) or (found := _kernels(image, numerators, denominators)) is None:
        return False
    arrays = (each.numpy() for each in (image, numerators, denominators))
    found.divide_sums(*arrays, corners, shape, np.float32(share), np.float32(least.item()))
    return True


def dot(a: Tensor, b: Tensor) -> float | None:
    """Inner product of real vectors (n,), added up in double precision."""
    if a.ndim != 1 or a.shape != b.shape or a.is_complex() or a.dtype != b.dtype or (found := _kernels(a, b)) is None:
        return None
    return float(found.dot(a.numpy(), b.numpy()))


@lru_cache(maxsize=8)
def optional(module: str, *needs: str) -> ModuleType | None:
    """A module, or None where packages that it needs are not installed, or do not work with the rest (a warning)."""
    if any(find_spec(each) is None for each in needs):
        return None
    try:
        return import_module(module)
    except Exception as error:  # Whatever an installation that does not fit raises: it must not end a reconstruction.
        names = " or ".join(needs)
        _log.warning("%s is installed but cannot be used here, so that engines are slower: %s", names, error)
        return None


def _inside(corners: NDArray[np.int64], count: int, size: int | tuple[int, int], canvas: Tensor) -> bool:
    """Whether ``count`` windows of ``size`` px at ``corners`` lie on the canvas: compiled code checks no bounds."""
    if canvas.ndim != 2 or len(corners) != count:
        return False
    return not count or bool((corners >= 0).all() and (corners + size <= canvas.shape).all())


def _kernels(*tensors: Tensor) -> ModuleType | None:
    """The kernels, where they can process all of ``tensors``."""
    for each in tensors:
        if not (each.is_cpu and each.dtype in _SINGLE and each.is_contiguous()) or each.requires_grad or each.is_conj():
            return None
    return _module()


def _module() -> ModuleType | None:
    return optional("diptych.ptycho.physics.compiled.kernels", "numba")
