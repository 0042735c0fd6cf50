"""Options that several generators share: the passes, the heads, the grid and the modes. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych.runtime.options import Options

StableForm = Literal["norm-last", "layer-scale"]
"""Forms of a residual block whose update is normalised last."""


class PassOptions(Options):
    """How often a network runs and what its two output channels mean."""

    passes: int = Field(
        2,
        ge=0,
        le=8,
        description="Passes of the network. Before each, the modulus constraint is applied, and before each further "
        "one overlapping patches are averaged. 0: the plain architecture, which receives the amplitudes of the "
        "pattern and returns the object.",
    )
    output: Literal["real-imag", "amplitude-phase"] = Field(
        "amplitude-phase",
        description="What a pass corrects: amplitude (by a factor) and phase, or real and imaginary part. Neither "
        "bounds the object.",
    )


class GridOptions(PassOptions):
    """The grid that a network computes on."""

    width: int = Field(32, ge=4, le=512, description="Channels of the first level; deeper levels have twice as many.")
    cell: Literal[1, 2, 4] = Field(
        2,
        description="Side of the pixel blocks that become channels at the entrance and pixels again at the exit: the "
        "network computes on N / cell points a side. 1 is the architecture as published; 4 is 16 times as fast.",
    )
    modes: int = Field(
        8,
        ge=1,
        le=128,
        description="Frequencies -modes to modes - 1 are kept along each axis (at most those of the grid).",
    )


class LevelOptions(GridOptions):
    """A network of several resolutions."""

    levels: int = Field(2, ge=1, le=5, description="Number of times the grid is halved.")
    max_channels: int = Field(
        128, ge=4, le=1024, description="Channels double from level to level up to this number, never beyond."
    )


def level_multiple(options: LevelOptions) -> int:
    """N must be a multiple of this many pixels."""
    return int(options.cell * 2**options.levels)


def cell_multiple(options: GridOptions) -> int:
    """N must be a multiple of this many pixels; the grid has an even number of points."""
    return 2 * options.cell
