"""The factorised Fourier neural operator: spectral convolutions along each axis, then local refiners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import GridOptions, cell_multiple

if TYPE_CHECKING:
    from torch import nn


class FfnoOptions(GridOptions):
    """Size of the factorised Fourier neural operator."""

    width: int = Field(32, ge=4, le=512, description="Channels, the same in all layers.")
    blocks: int = Field(4, ge=1, le=32, description="Spectral layers.")
    refiners: int = Field(2, ge=0, le=8, description="Local 3 x 3 convolutions behind the spectral layers.")
    gate: float = Field(0.1, ge=0, le=1, description="Initial factor on what a factorised layer adds; it is trained.")
    shared: bool = Field(True, description="One set of spectral weights and one gate for all layers.")
    expansion: int = Field(2, ge=1, le=8, description="Hidden channels of a factorised layer, as a multiple of width.")


def build(size: int, scale: float, options: FfnoOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.ffno.network import FactorisedNetwork
    from diptych.ptycho.networks.plain import assemble

    return assemble(scale, options, lambda inputs: FactorisedNetwork(inputs, size, options))


FFNO = Network(
    name="ffno",
    help="Factorised Fourier neural operator: spectral convolutions along each axis, then local ones; few weights.",
    options=FfnoOptions,
    build=build,
    multiple=cell_multiple,
)
