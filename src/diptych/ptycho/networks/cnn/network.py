"""The convolutional encoder-decoder of one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.blocks import Decoder, Encoder
from diptych.ptycho.networks.passes import OUTPUTS


class EncoderDecoder(nn.Module):
    """(B, inputs, N, N) to (B, OUTPUTS, N, N), N a multiple of 16.

    Parameters
    ----------
    inputs : int
        Input channels.
    width : int
        Channels of the first level.
    two_decoders : bool
        One decoder for each output channel, or one for both.
    """

    def __init__(self, inputs: int, width: int, *, two_decoders: bool) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, width)
        self.decoders = nn.ModuleList(
            [Decoder(width, 1) for _ in range(OUTPUTS)] if two_decoders else [Decoder(width, OUTPUTS)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """The correction, as channels."""
        features = self.encoder(x)
        return torch.cat([decoder(features) for decoder in self.decoders], 1)
