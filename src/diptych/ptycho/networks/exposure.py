"""The input of every generator: measured counts and what is known of how they were measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.ptycho.physics.groups import Layout


@dataclass(frozen=True, eq=False)
class Exposure:
    """A batch of B groups of C members, as a generator receives it.

    Parameters
    ----------
    counts : (B, C, N, N) tensor
        Measured counts divided by sum |P|^2, corner-centred. Scaling counts and |P|^2 together changes nothing.
    modes : (B or 1, C or 1, P, N, N) complex tensor
        Probe modes at each member divided by sqrt(sum |P|^2), shifted by the sub-pixel remainder of its position.
    background : (N, N) tensor, optional
        Expected background counts divided by sum |P|^2.
    valid : bool tensor, broadcast against ``counts``, optional
        True at valid detector pixels.
    layout : Layout
        Positions of the members on the canvas of their group.
    offsets : (B, C, 2) tensor
        r_i - mean(r) of each group's members, (y, x), object pixels.
    """

    counts: Tensor
    modes: Tensor
    background: Tensor | None
    valid: Tensor | None
    layout: Layout
    offsets: Tensor
