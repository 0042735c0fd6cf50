"""Fourier neural operators: ``fno``, with local convolutions too, and ``fno_vanilla``, with spectral ones alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import GridOptions, cell_multiple

if TYPE_CHECKING:
    from torch import nn


class FnoVanillaOptions(GridOptions):
    """Size of the vanilla Fourier neural operator. As published: width 32, modes 12, cell 1, passes 0."""

    width: int = Field(24, ge=4, le=512, description="Channels, the same in all layers.")
    blocks: int = Field(4, ge=1, le=32, description="Spectral layers.")


class FnoOptions(FnoVanillaOptions):
    """Size of the Fourier neural operator with local convolutions."""

    refiners: int = Field(2, ge=0, le=8, description="Local 3 x 3 convolutions behind the spectral layers.")


def build(size: int, scale: float, options: FnoOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.fno.network import FourierNetwork
    from diptych.ptycho.networks.plain import assemble

    return assemble(scale, options, lambda inputs: FourierNetwork(inputs, size, options))


def build_vanilla(size: int, scale: float, options: FnoVanillaOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.fno.network import VanillaFourierNetwork
    from diptych.ptycho.networks.plain import assemble

    return assemble(scale, options, lambda inputs: VanillaFourierNetwork(inputs, size, options))


FNO = Network(
    name="fno",
    help="Fourier neural operator: spectral and local convolutions side by side, then local ones.",
    options=FnoOptions,
    build=build,
    multiple=cell_multiple,
)

FNO_VANILLA = Network(
    name="fno_vanilla",
    help="Fourier neural operator without local convolutions.",
    options=FnoVanillaOptions,
    build=build_vanilla,
    multiple=cell_multiple,
)
