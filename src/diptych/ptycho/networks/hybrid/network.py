"""The network of one pass of ``hybrid`` and ``stable_hybrid``, which differ in the blocks of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.blocks import Head, Lift, Residual, convolution
from diptych.ptycho.networks.passes import OUTPUTS

if TYPE_CHECKING:
    from diptych.ptycho.networks.hybrid import HybridOptions


class HybridNetwork(nn.Module):
    """(B, inputs, N, N) to (B, OUTPUTS, N, N).

    Parameters
    ----------
    inputs : int
        Input channels.
    size : int
        N of the training: no more modes are made than its grids have.
    options : HybridOptions
        Sizes.
    block : callable
        ``block(channels, modes)`` returns a block of the encoder.
    """

    def __init__(self, inputs: int, size: int, options: HybridOptions, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        grid = size // options.cell
        channels = [min(options.width * 2**level, options.max_channels) for level in range(options.levels + 1)]
        modes = [max(1, min(options.modes, grid // 2 ** (level + 1))) for level in range(options.levels)]
        pairs = list(pairwise(channels))
        self.lift = Lift(inputs, channels[0], options.cell)
        self.encoder = nn.ModuleList(block(width, kept) for width, kept in zip(channels, modes, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(above, below, 2, stride=2) for above, below in pairs)
        self.bottleneck = nn.Sequential(*(Residual(channels[-1]) for _ in range(options.bottleneck)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, above, 2, stride=2) for above, below in reversed(pairs))
        self.concatenated = options.skip == "concat"
        joins = [convolution(2 * above, above) for above, _ in reversed(pairs)] if self.concatenated else []
        self.join = nn.ModuleList(joins)
        self.decoder = nn.ModuleList(Residual(above) for above, _ in reversed(pairs))
        self.head = Head(channels[0], OUTPUTS, options.cell)

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels."""
        x = self.lift(x)
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x)
        for number, (up, decode) in enumerate(zip(self.up, self.decoder, strict=True)):
            x, skip = up(x), skips.pop()
            x = decode(self.join[number](torch.cat([x, skip], 1)) if self.concatenated else x + skip)
        result: Tensor = self.head(x)
        return result
