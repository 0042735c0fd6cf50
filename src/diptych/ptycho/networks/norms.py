"""Normalisation over the pixels of each channel, and residual blocks whose updates are normalised last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.shared_options import StableForm
from diptych.ptycho.networks.spectral import SpectralBlock

LAYER_SCALE = 1e-3
"""Initial factor on the update of a block with layer scale (Touvron et al., ICCV 2021)."""


class SpatialNorm(nn.Module):
    """gamma (x - mean) / sqrt(variance + eps), over the pixels of each channel of each image; without a shift.

    The result has mean zero in each channel. It works on a grid of a single point too, where it is zero.

    Parameters
    ----------
    channels : int
        Number of factors gamma.
    gamma : float
        Their initial value.
    """

    def __init__(self, channels: int, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), gamma))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        centred = x - x.mean((-2, -1), keepdim=True)
        variance = centred.square().mean((-2, -1), keepdim=True)
        return self.gamma * centred * (variance + 1e-5).rsqrt()


class StableBlock(SpectralBlock):
    """x + s norm(gelu(spectral(x) + conv(x))): the update is normalised last, so its size does not depend on x.

    Its updates have mean zero in each channel, so a stack of blocks cannot drift.

    Parameters
    ----------
    channels, modes : int
        As of :class:`~diptych.ptycho.networks.spectral.SpectralBlock`.
    form : {"norm-last", "layer-scale"}
        norm-last: gamma of the norm starts at 0 and s is 1, so a new block is the identity. layer-scale: gamma starts
        at 1, and s, one factor per channel, at :data:`LAYER_SCALE`.
    """

    def __init__(self, channels: int, modes: int, form: StableForm) -> None:
        super().__init__(channels, modes)
        self.norm = SpatialNorm(channels, 0.0 if form == "norm-last" else 1.0)
        scale = torch.full((channels, 1, 1), LAYER_SCALE)
        self.scale = nn.Parameter(scale) if form == "layer-scale" else None

    def update(self, x: Tensor) -> Tensor:
        """What the block adds."""
        change: Tensor = self.norm(super().update(x))
        return change if self.scale is None else self.scale * change
