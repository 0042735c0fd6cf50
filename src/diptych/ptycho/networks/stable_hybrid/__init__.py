"""The hybrid network with encoder blocks whose updates are normalised last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from diptych.ptycho.networks.hybrid import HybridOptions
from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import StableForm, level_multiple

if TYPE_CHECKING:
    from torch import nn


class StableHybridOptions(HybridOptions):
    """Size of the hybrid network, and the form of its blocks."""

    residual: StableForm = Field(
        "norm-last",
        description="norm-last: the norm's factors start at zero, so that a new block is the identity; layer-scale: "
        "each channel of the update has a factor that starts at 0.001.",
    )


def build(size: int, scale: float, options: StableHybridOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.hybrid.network import HybridNetwork
    from diptych.ptycho.networks.norms import StableBlock
    from diptych.ptycho.networks.plain import assemble

    def block(channels: int, modes: int) -> nn.Module:
        return StableBlock(channels, modes, options.residual)

    return assemble(scale, options, lambda inputs: HybridNetwork(inputs, size, options, block))


STABLE_HYBRID = Network(
    name="stable_hybrid",
    help="The hybrid with encoder blocks that are normalised last and start as the identity.",
    options=StableHybridOptions,
    build=build,
    multiple=level_multiple,
)
