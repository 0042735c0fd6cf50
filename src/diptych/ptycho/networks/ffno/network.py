"""The network of one pass of the factorised Fourier neural operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych.ptycho.networks.blocks import Head, Lift, Residual
from diptych.ptycho.networks.norms import SpatialNorm
from diptych.ptycho.networks.passes import OUTPUTS
from diptych.ptycho.networks.spectral import FactorisedSpectralConvolution

if TYPE_CHECKING:
    from diptych.ptycho.networks.ffno import FfnoOptions


class FactorisedNetwork(nn.Module):
    """Lift, factorised layers, local refiners; (B, inputs, N, N) to (B, OUTPUTS, N, N).

    Parameters
    ----------
    inputs : int
        Input channels.
    size : int
        N of the training: no more modes are made than its grid has.
    options : FfnoOptions
        Sizes.
    """

    def __init__(self, inputs: int, size: int, options: FfnoOptions) -> None:
        super().__init__()
        width, modes = options.width, min(options.modes, size // options.cell // 2)
        sets = 1 if options.shared else options.blocks
        self.spectral = nn.ModuleList(FactorisedSpectralConvolution(width, modes) for _ in range(sets))
        self.gates = nn.Parameter(torch.full((sets,), options.gate))
        self.lift = Lift(inputs, width, options.cell)
        hidden = width * options.expansion
        self.norms = nn.ModuleList(SpatialNorm(width) for _ in range(options.blocks))
        self.expand = nn.ModuleList(nn.Conv2d(width, hidden, 1) for _ in range(options.blocks))
        self.project = nn.ModuleList(nn.Conv2d(hidden, width, 1) for _ in range(options.blocks))
        self.refiners = nn.Sequential(*(Residual(width) for _ in range(options.refiners)))
        self.head = Head(width, OUTPUTS, options.cell)

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels: x + gate project(gelu(expand(norm(spectral(x))))) in each layer."""
        x = self.lift(x)
        layers = zip(self.norms, self.expand, self.project, strict=True)
        for number, (norm, expand, project) in enumerate(layers):
            own = number % len(self.spectral)
            x = x + self.gates[own] * project(functional.gelu(expand(norm(self.spectral[own](x)))))
        result: Tensor = self.head(self.refiners(x))
        return result
