"""The networks of one pass of the Fourier neural operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from diptych.ptycho.networks.blocks import Head, Lift, convolution
from diptych.ptycho.networks.passes import OUTPUTS
from diptych.ptycho.networks.spectral import SpectralBlock, SpectralConvolution

if TYPE_CHECKING:
    from diptych.ptycho.networks.fno import FnoOptions, FnoVanillaOptions


class FourierNetwork(nn.Module):
    """Lift, spectral blocks with local convolutions, refiners; (B, inputs, N, N) to (B, OUTPUTS, N, N).

    Parameters
    ----------
    inputs : int
        Input channels.
    size : int
        N of the training: no more modes are made than its grid has.
    options : FnoOptions
        Sizes.
    """

    def __init__(self, inputs: int, size: int, options: FnoOptions) -> None:
        super().__init__()
        width, modes = options.width, min(options.modes, size // options.cell // 2)
        self.lift = Lift(inputs, width, options.cell)
        self.blocks = nn.Sequential(*(SpectralBlock(width, modes) for _ in range(options.blocks)))
        self.join = nn.Conv2d(width, width, 1)
        self.refiners = nn.ModuleList(convolution(width, width) for _ in range(options.refiners))
        self.head = Head(width, OUTPUTS, options.cell, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels."""
        x = self.join(self.blocks(self.lift(x)))
        for refiner in self.refiners:
            x = functional.gelu(refiner(x))
        result: Tensor = self.head(x)
        return result


class VanillaFourierNetwork(nn.Module):
    """Pointwise lift, layers gelu(spectral(x) + pointwise(x)) at one resolution, pointwise head.

    Parameters
    ----------
    inputs, size, options
        As of :class:`FourierNetwork`.
    """

    def __init__(self, inputs: int, size: int, options: FnoVanillaOptions) -> None:
        super().__init__()
        self.cell = options.cell
        width, modes = options.width, min(options.modes, size // options.cell // 2)
        self.lift = nn.Conv2d(inputs * options.cell**2, width, 1)
        self.spectral = nn.ModuleList(SpectralConvolution(width, width, modes) for _ in range(options.blocks))
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(options.blocks))
        self.project = nn.Conv2d(width, 2 * width, 1)
        self.head = Head(2 * width, OUTPUTS, options.cell, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels."""
        x = self.lift(functional.pixel_unshuffle(x, self.cell))
        for number, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True), 1):
            x = spectral(x) + pointwise(x)
            if number < len(self.spectral):
                x = functional.gelu(x)
        result: Tensor = self.head(functional.gelu(self.project(x)))
        return result
