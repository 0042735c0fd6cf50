"""Groups of neighbouring patterns: averaging of overlapping patches, and one step of phase retrieval.

Arrays are (B, C, ..., N, N): B groups of C members. Everything is differentiable. Counts are corner-centred (zero
frequency at [0, 0]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.forward import exit_waves, intensity
from diptych.ptycho.physics.patches import gather, split, spread
from diptych.ptycho.physics.propagators import CORNERED

ALPHA = 0.05
"""Regularisation of :func:`modulus_correction`, as a fraction of the largest illumination."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions of the members of B groups on their canvases, which are stacked into one tall canvas.

    Parameters
    ----------
    corners : (B * C, 2) int64 array
        Array index of each member's pixel [0, 0] on the tall canvas.
    shape : (int, int)
        Of the tall canvas, (B * S, S).
    members : int
        C.
    size : int
        N, the side of a patch.
    """

    corners: NDArray[np.int64]
    shape: tuple[int, int]
    members: int
    size: int

    @classmethod
    def of(cls, positions: NDArray[np.float64], size: int) -> Layout:
        """The layout of groups with members at ``positions`` (B, C, 2), rounded to whole pixels."""
        groups, members, _ = positions.shape
        whole, _ = split(positions)
        corners = whole - whole.min(1, keepdims=True)
        side = int(corners.max(initial=0)) + size
        corners[..., 0] += np.arange(groups)[:, None] * side
        return cls(corners.reshape(-1, 2), (groups * side, side), members, size)

    def merge(self, patches: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of each group's patches (B, C, N, N) on the tall canvas; 0 where all weights are 0.

        Numerator and denominator carry the same ``weights`` (B, C, N, N), so that a constant object is preserved.
        """
        flat = (-1, self.size, self.size)
        top = spread((patches * weights).reshape(flat), self.corners, self.shape)
        bottom = spread(weights.expand(patches.shape).reshape(flat), self.corners, self.shape)
        return top / bottom.clamp(min=torch.finfo(bottom.dtype).tiny)

    def average_overlaps(self, patches: Tensor, weights: Tensor) -> Tensor:
        """The overlap constraint: the weighted mean of overlapping patches (B, C, N, N), cut into patches again."""
        if self.members == 1:
            return patches
        return gather(self.merge(patches, weights), self.corners, self.size).reshape(patches.shape)


def modulus_correction(
    patches: Tensor,
    modes: Tensor,
    counts: Tensor,
    background: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    alpha: float = ALPHA,
) -> Tensor:
    """Change of the patches that one modulus constraint asks for.

    The detector field takes the measured moduli and keeps its phases; psi' is the exit wave of that. The correction is
    conj(P) (psi' - psi) / (|P|^2 + alpha max |P|^2), summed over modes: the object update of rPIE (Maiden, Johnson and
    Li, Optica 4, 736, 2017).

    Parameters
    ----------
    patches : (B, C, N, N) complex
        Estimate of the object.
    modes : (B or 1, C or 1, P, N, N) complex
        Probe modes at each member, in the units of ``counts``.
    counts : (B, C, N, N)
        Measured, corner-centred.
    background : (N, N), optional
        Expected background counts.
    valid : bool, broadcast against ``counts``, optional
        True at valid pixels; the others keep their moduli.

    Returns
    -------
    (B, C, N, N) complex
        The correction.
    """
    field = CORNERED.forward(exit_waves(modes, patches))
    total = intensity(field)
    signal = counts if background is None else (counts - background).clamp(min=0)
    # Not the root of the ratio, which has no gradient where no photon was counted.
    floor = 1e-12 * total.detach().amax((-1, -2), keepdim=True) + torch.finfo(total.dtype).tiny
    change = signal.sqrt() * (total + floor).rsqrt() - 1
    if valid is not None:
        change = torch.where(valid, change, 0.0)
    back = CORNERED.adjoint(field * change.unsqueeze(-3))
    weight = intensity(modes)
    correction: Tensor = (modes.conj() * back).sum(-3) / (weight + alpha * weight.amax((-1, -2), keepdim=True))
    return correction
