"""A U-shaped neural operator: spectral layers that change the resolution, with skips (U-NO, Rahman et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from diptych.ptycho.networks.registry import Network
from diptych.ptycho.networks.shared_options import LevelOptions, level_multiple

if TYPE_CHECKING:
    from torch import nn


class UnoOptions(LevelOptions):
    """Size of the U-shaped neural operator."""

    width: int = Field(16, ge=4, le=512, description="Channels of the first level; deeper levels have twice as many.")


def build(size: int, scale: float, options: UnoOptions) -> nn.Module:
    """See :attr:`Network.build`."""
    from diptych.ptycho.networks.plain import assemble
    from diptych.ptycho.networks.uno.network import UShapedOperator

    return assemble(scale, options, lambda inputs: UShapedOperator(inputs, size, options))


UNO = Network(
    name="uno",
    help="U-shaped neural operator: spectral layers down to a coarse grid and up again, with skips.",
    options=UnoOptions,
    build=build,
    multiple=level_multiple,
)
