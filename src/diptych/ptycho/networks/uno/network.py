"""The network of one pass of the U-shaped neural operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych.ptycho.networks.blocks import Head, Lift
from diptych.ptycho.networks.passes import OUTPUTS
from diptych.ptycho.networks.spectral import SpectralConvolution

if TYPE_CHECKING:
    from diptych.ptycho.networks.uno import UnoOptions


class OperatorLayer(nn.Module):
    """gelu(spectral(x) + pointwise(resized x)), from one grid to another.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    modes : int
        As of :class:`~diptych.ptycho.networks.spectral.SpectralConvolution`.
    """

    def __init__(self, inputs: int, outputs: int, modes: int) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(inputs, outputs, modes)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, size: int) -> Tensor:
        """(B, inputs, S, S) to (B, outputs, size, size)."""
        if size < x.shape[-1]:
            resized = functional.avg_pool2d(x, x.shape[-1] // size)
        else:
            resized = functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
        return functional.gelu(self.spectral(x, size) + self.pointwise(resized))


class UShapedOperator(nn.Module):
    """Operator layers to half the grid and back, skips concatenated; (B, inputs, N, N) to (B, OUTPUTS, N, N).

    Parameters
    ----------
    inputs : int
        Input channels.
    size : int
        N of the training: no more modes are made than its grids have.
    options : UnoOptions
        Sizes.
    """

    def __init__(self, inputs: int, size: int, options: UnoOptions) -> None:
        super().__init__()
        grid = size // options.cell
        channels = [min(options.width * 2**level, options.max_channels) for level in range(options.levels + 1)]
        modes = [max(1, min(options.modes, grid // 2 ** (level + 1))) for level in range(options.levels + 1)]
        self.lift = Lift(inputs, channels[0], options.cell)
        pairs = list(zip(channels[:-1], channels[1:], modes[1:], strict=True))
        self.down = nn.ModuleList(OperatorLayer(above, below, kept) for above, below, kept in pairs)
        self.bottom = OperatorLayer(channels[-1], channels[-1], modes[-1])
        # All but the first layer on the way up receive a skip of as many channels beside those from below.
        self.up = nn.ModuleList(
            OperatorLayer(below * (2 if number else 1), above, kept)
            for number, (above, below, kept) in enumerate(reversed(pairs))
        )
        self.head = Head(2 * channels[0], OUTPUTS, options.cell)

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels."""
        x = self.lift(x)
        skips = []
        for layer in self.down:
            skips.append(x)
            x = layer(x, x.shape[-1] // 2)
        x = self.bottom(x, x.shape[-1])
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            x = torch.cat([layer(x, skip.shape[-1]), skip], 1)
        result: Tensor = self.head(x)
        return result
