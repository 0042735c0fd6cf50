"""The default generator: a convolutional encoder-decoder in each of a few passes with physics between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import PassOptions

if TYPE_CHECKING:
    from torch import nn


class CnnOptions(PassOptions):
    """Size and output of the convolutional network."""

    width: int = Field(32, ge=4, le=512, description="Channels of the first level; deeper levels have twice as many.")
    decoder: Literal["shared", "two"] = Field(
        "shared", description="One decoder for both output channels, or one for each."
    )


def build(size: int, scale: float, options: CnnOptions) -> nn.Module:
    """See :attr:`Network.build`; the weights do not depend on ``size``."""
    from diptych.ptycho.networks.cnn.network import EncoderDecoder
    from diptych.ptycho.networks.plain import assemble

    two = options.decoder == "two"
    return assemble(scale, options, lambda inputs: EncoderDecoder(inputs, options.width, two_decoders=two))


CNN = Network(
    name="cnn",
    help="Convolutional encoder-decoder passes that correct a physical estimate of the object.",
    options=CnnOptions,
    build=build,
    multiple=16,
)
