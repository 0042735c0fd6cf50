"""Spectral and local encoder, ResNet bottleneck, convolutional decoder with skips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import LevelOptions, level_multiple

if TYPE_CHECKING:
    from torch import nn


class HybridOptions(LevelOptions):
    """Size of the hybrid network."""

    width: int = Field(24, ge=4, le=512, description="Channels of the first level; deeper levels have twice as many.")
    cell: Literal[1, 2, 4] = Field(
        4,
        description="Side of the pixel blocks that become channels at the entrance and pixels again at the exit: the "
        "network computes on N / cell points a side. 1 is the architecture as published; 4 is 16 times as fast.",
    )
    max_channels: int = Field(
        48, ge=4, le=1024, description="Channels double from level to level up to this number, never beyond."
    )
    bottleneck: int = Field(4, ge=0, le=16, description="Residual blocks on the coarsest grid.")
    skip: Literal["add", "concat"] = Field("add", description="How the encoder's features join those of the decoder.")


def build(size: int, scale: float, options: HybridOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.hybrid.network import HybridNetwork
    from diptych.ptycho.networks.plain import assemble
    from diptych.ptycho.networks.spectral import SpectralBlock

    return assemble(scale, options, lambda inputs: HybridNetwork(inputs, size, options, SpectralBlock))


HYBRID = Network(
    name="hybrid",
    help="Spectral and local encoder, ResNet bottleneck and convolutional decoder with skips.",
    options=HybridOptions,
    build=build,
    multiple=level_multiple,
)
