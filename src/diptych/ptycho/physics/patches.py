"""Cut windows out of a canvas, and add windows to one: exact adjoints of each other.

A position r is where index ``(N // 2, N // 2)`` of a window lies, in the coordinates of a canvas whose pixel [0, 0] has
the coordinate ``origin``. Positions are rounded to the nearest pixel (half up); the sub-pixel remainder is left to the
forward model, which shifts the probe by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.physics import compiled


def split(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions (M, 2) as nearest whole pixels (half up) and the fraction that is left, in [-0.5, 0.5)."""
    whole = np.floor(positions + 0.5)
    return whole.astype(np.int64), positions - whole


def canvas_box(positions: NDArray[np.float64], size: int, margin: int = 0) -> tuple[tuple[int, int], tuple[int, int]]:
    """Origin and shape (each y, x) of the smallest canvas that holds every window, with ``margin`` pixels on each
    side.
    """
    whole, _ = split(positions)
    low = whole.min(0) - size // 2 - margin
    high = whole.max(0) - size // 2 + size + margin
    return (int(low[0]), int(low[1])), (int(high[0] - low[0]), int(high[1] - low[1]))


def cut(canvas: Tensor, positions: NDArray[np.float64], size: int, *, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Windows of a canvas around positions, rounded to whole pixels.

    Parameters
    ----------
    canvas : (H, W) tensor
        Any dtype and device.
    positions : (B, 2) float
        (y, x) of each window's index (size // 2, size // 2).
    size : int
        Side of a window, pixels.
    origin : (int, int)
        Coordinate of canvas[0, 0].

    Returns
    -------
    (B, size, size) tensor

    Raises
    ------
    InputError
        If a window leaves the canvas.
    """
    whole, _ = split(np.asarray(positions, np.float64))
    return gather(canvas, inside(whole - np.asarray(origin) - size // 2, size, tuple(canvas.shape)), size)


def inside(corners: NDArray[np.int64], size: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """``corners`` (B, 2), the array indices of each window's pixel [0, 0], as they are.

    Raises
    ------
    InputError
        If a window of ``size`` pixels leaves the canvas of ``shape``.
    """
    outside = (corners < 0).any(axis=1) | (corners + size > shape).any(axis=1)
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            f"{int(outside.sum())} of {len(corners)} windows of {size} pixels",
            f"leave the canvas of {shape[0]} x {shape[1]} (first: number {i}, corner y {corners[i, 0]}, "
            f"x {corners[i, 1]})",
            "a canvas that holds every window",
        )
    return corners


def gather(canvas: Tensor, corners: NDArray[np.int64], size: int) -> Tensor:
    """Windows (B, size, size) whose pixel [0, 0] lies at array indices ``corners`` (B, 2). No bounds are checked.

    Differentiable: the gradient is :func:`spread`, several times faster than that of an indexed read.
    """
    if torch.is_grad_enabled() and canvas.requires_grad:
        patches: Tensor = _Gather.apply(canvas, corners, size)  # type: ignore[no-untyped-call]
        return patches
    if canvas.device.type == "cpu" and len(corners):
        # NumPy copies whole rows: about twice as fast as torch's indexed read, or as slices stacked by torch.
        array = np.ascontiguousarray(canvas.detach().resolve_conj().numpy())
        shape = (array.shape[0] - size + 1, array.shape[1] - size + 1, size, size)
        every_window: NDArray[Any] = np.ndarray(shape, array.dtype, array, 0, array.strides * 2)
        return torch.from_numpy(every_window[corners[:, 0], corners[:, 1]])
    view = canvas.unfold(0, size, 1).unfold(1, size, 1)
    index = torch.from_numpy(corners).to(canvas.device)
    return view[index[:, 0], index[:, 1]]


def scatter_add(canvas: Tensor, corners: NDArray[np.int64], patches: Tensor) -> None:
    """Add windows (B, N, N) to ``canvas`` at array indices ``corners`` (B, 2), in place. No bounds are checked."""
    size = patches.shape[-1]
    if compiled.add_patches(canvas, corners, patches):
        return
    if canvas.device.type == "cpu":
        # Slice by slice in one call: several times faster than any indexed add on a CPU, and Python's lock is free
        # meanwhile.
        torch._foreach_add_(windows(canvas, corners, size), list(patches.unbind()))
        return
    width = canvas.shape[1]
    corner = torch.from_numpy(corners[:, 0] * width + corners[:, 1]).to(canvas.device)
    inner = torch.arange(size, device=canvas.device)
    index = corner[:, None, None] + (inner[:, None] * width + inner)
    canvas.view(-1).index_add_(0, index.reshape(-1), patches.reshape(-1))


def add_products(canvas: Tensor, corners: NDArray[np.int64], waves: Tensor, modes: Tensor) -> None:
    """Add the sum over modes of ``waves * conj(modes)``, (B, P, N, N) and (B or 1, P, N, N), to ``canvas`` in place, at
    array indices ``corners`` (B, 2). No bounds are checked.
    """
    if canvas.device.type != "cpu":
        scatter_add(canvas, corners, (waves * modes.conj_physical()).sum(1))
        return
    if compiled.add_windows(waves, modes, corners, canvas):
        return
    target = windows(canvas, corners, waves.shape[-1])
    for wave, mode in zip(waves.unbind(1), modes.conj_physical().unbind(1), strict=True):
        one_each = list(mode.unbind()) if len(mode) == len(target) else [mode[0]] * len(target)
        torch._foreach_addcmul_(target, list(wave.unbind()), one_each)


def spread(patches: Tensor, corners: NDArray[np.int64], shape: tuple[int, int]) -> Tensor:
    """A new canvas of ``shape`` with windows (B, N, N) added at ``corners`` (B, 2): the differentiable adjoint of
    :func:`gather`.
    """
    canvas: Tensor = _Spread.apply(patches, corners, shape)  # type: ignore[no-untyped-call]
    return canvas


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvas: Tensor, corners: NDArray[np.int64], size: int) -> Tensor:
        ctx.corners, ctx.shape = corners, tuple(canvas.shape)
        return gather(canvas, corners, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return spread(gradients[0], ctx.corners, ctx.shape), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, corners: NDArray[np.int64], shape: tuple[int, int]) -> Tensor:
        ctx.corners, ctx.size = corners, patches.shape[-1]
        canvas = torch.zeros(shape, dtype=patches.dtype, device=patches.device)
        scatter_add(canvas, corners, patches.detach())
        return canvas

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gather(gradients[0], ctx.corners, ctx.size), None, None


def windows(canvas: Tensor, corners: NDArray[np.int64], size: int) -> list[Tensor]:
    """Views (size, size) of ``canvas`` at array indices ``corners`` (B, 2), to be written to one after the other. No
    bounds are checked.
    """
    shape, strides = (size, size), canvas.stride()
    starts = canvas.storage_offset() + corners @ np.asarray(strides)
    return [canvas.as_strided(shape, strides, start) for start in starts.tolist()]


def multiply(wave: Tensor, weights: Tensor) -> Tensor:
    """Multiply a complex tensor by a real one, in place; broadcasts."""
    if wave.device.type != "cpu":
        return wave.mul_(weights)
    if compiled.scale(wave, weights):
        return wave
    # torch would make a complex copy of the weights first; NumPy does so piece by piece.
    target = wave.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(target, weights.numpy(), out=target)
    return wave


def conjugate_product(waves: Tensor, patches: Tensor) -> Tensor:
    """conj(waves) O in place of ``waves`` (B, P, N, N): conj(O) would cost a pass and the memory of the patches."""
    if compiled.conjugate_product(waves, patches):
        return waves
    return waves.conj_physical_().mul_(patches[:, None])
