"""The default generator: a convolutional encoder-decoder in each of a few passes with physics between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.runtime.options import Options

if TYPE_CHECKING:
    from torch import nn


class CnnOptions(Options):
    """Size and output of the convolutional network."""

    width: int = Field(32, ge=4, le=512, description="Channels of the first level; deeper levels have twice as many.")
    passes: int = Field(
        2,
        ge=1,
        le=8,
        description="Encoder-decoder passes. Before each further pass, overlapping patches are averaged and the "
        "modulus constraint is applied.",
    )
    output: Literal["real-imag", "amplitude-phase"] = Field(
        "amplitude-phase",
        description="What a pass corrects: amplitude (by a factor) and phase, or real and imaginary part. Neither "
        "bounds the object.",
    )
    decoder: Literal["shared", "two"] = Field(
        "shared", description="One decoder for both output channels, or one for each."
    )


def build(size: int, scale: float, options: CnnOptions) -> nn.Module:
    """See :attr:`Network.build`; the weights do not depend on ``size``."""
    from diptych.ptycho.networks.cnn.network import EncoderDecoder
    from diptych.ptycho.networks.passes import PhysicsPasses

    networks = [EncoderDecoder(options.width, two_decoders=options.decoder == "two") for _ in range(options.passes)]
    return PhysicsPasses(scale, networks, output=options.output)


CNN = Network(
    name="cnn",
    help="Convolutional encoder-decoder passes that correct a physical estimate of the object.",
    options=CnnOptions,
    build=build,
    multiple=16,
)
