"""What a generator costs and sees: weights, operations per pattern, receptive field."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.networks.passes import INPUTS, PhysicsPasses
from diptych.ptycho.networks.plain import PLAIN_INPUTS, PlainGenerator
from diptych.ptycho.networks.registry import NetworkOptions, build_network
from diptych.ptycho.physics.forward import shifted_modes
from diptych.ptycho.physics.groups import Layout


@dataclass(frozen=True)
class Cost:
    """Size of a generator for patterns of N x N pixels in groups of g x g.

    Parameters
    ----------
    parameters : int
        Trained numbers.
    flops_per_pattern : int
        Floating-point operations of one evaluation, per pattern: a multiplication and an addition count as two, of
        complex numbers as eight; a Fourier transform of n complex values as 5 n log2 n, of real ones as half of it.
        Operations on single pixels (activations, normalisation, averages) are not counted.
    receptive_field_px : int or None
        Side of the square of input pixels on which one pixel of a pass depends, N at most; between the passes, the
        physics connects all pixels. None for a generator that is not made of such passes.
    """

    parameters: int
    flops_per_pattern: int
    receptive_field_px: int | None


def cost(options: NetworkOptions, size: int, gridsize: int) -> Cost:
    """Build a generator and measure it.

    Parameters
    ----------
    options : NetworkOptions
        Which generator, and its own options.
    size : int
        N, pixels.
    gridsize : int
        g.

    Raises
    ------
    InputError
        If it does not accept patterns of that size.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(size, 1.0, options).eval().requires_grad_(False)
        return Cost(
            sum(weights.numel() for weights in network.parameters()),
            operations(network, example(size, gridsize**2)) // gridsize**2,
            receptive_field(network, size),
        )


def example(size: int, members: int) -> Exposure:
    """A group of ``members`` patterns of a Gaussian probe, a step of N / 8 apart."""
    across = torch.arange(size) - size // 2
    probe = torch.exp(-(across[:, None] ** 2 + across[None, :] ** 2) / (2 * (size / 8) ** 2)).to(torch.complex64)
    side = math.isqrt(members - 1) + 1
    grid = np.stack(np.divmod(np.arange(members), side), -1) * (size / 8)
    modes = shifted_modes((probe / probe.abs().square().sum().sqrt())[None], grid[None])
    counts = torch.rand(1, members, size, size) / size**2
    offsets = torch.from_numpy(grid - grid.mean(0))[None].float()
    return Exposure(counts, modes, None, None, Layout.of(grid[None], size), offsets)


def operations(network: nn.Module, exposure: Exposure) -> int:
    """Operations of one evaluation; see :attr:`Cost.flops_per_pattern` for what is counted."""
    aten: Any = torch.ops.aten
    transforms = {aten._fft_r2c: _transform, aten._fft_c2r: _transform, aten._fft_c2c: _transform}
    products = {aten.mm: _product, aten.bmm: _product}
    with FlopCounterMode(display=False, custom_mapping={**transforms, **products}) as counter:
        network(exposure)
    return int(counter.get_total_flops())


def receptive_field(network: nn.Module, size: int) -> int | None:
    """Side of the box of input pixels on which the middle pixel of a pass depends, pixels; see :class:`Cost`."""
    if isinstance(network, PhysicsPasses):
        single, inputs = network.passes[0], INPUTS
    elif isinstance(network, PlainGenerator):
        single, inputs = network.network, PLAIN_INPUTS
    else:
        return None
    single = copy.deepcopy(single)
    for weights in single.parameters():
        # Layers that start at zero would hide what lies before them.
        if not weights.any():
            nn.init.normal_(weights, std=0.1)
    with torch.enable_grad():
        x = torch.randn(1, inputs, size, size, requires_grad=True)
        single(x)[..., size // 2, size // 2].abs().sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)) > 0
    extents = [torch.nonzero(seen.any(axis)).flatten() for axis in (0, 1)]
    return max(int(extent.max() - extent.min()) + 1 for extent in extents)


def _transform(x: Tensor, dim: Sequence[int], *rest: Any, out_val: Tensor, **kwargs: Any) -> int:
    """Operations of Fourier transforms along ``dim``; of real data half of those of complex data."""
    real = not (x.is_complex() and out_val.is_complex())
    whole = out_val if x.is_complex() else x
    points = math.prod(whole.shape[axis] for axis in dim)
    return int(5 * whole.numel() * math.log2(max(points, 2)) / (2 if real else 1))


def _product(a: Tensor, b: Tensor, *rest: Any, out_val: Tensor, **kwargs: Any) -> int:
    """Operations of matrix products (..., m, k) times (..., k, n)."""
    return out_val.numel() * a.shape[-1] * (8 if a.is_complex() else 2)


# The counter passes tensors, not shapes, to functions with this attribute.
_transform._get_raw = True  # type: ignore[attr-defined]
_product._get_raw = True  # type: ignore[attr-defined]
