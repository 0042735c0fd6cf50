"""Groups of neighbouring patterns: their patches on one canvas, made to agree, and what the counts say of them.

Arrays are (B, C, ..., N, N): B groups of C members. Everything is differentiable. Counts are corner-centred (zero
frequency at [0, 0]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.diffraction import shift_probe
from diptych.ptycho.physics.patches import gather, split, spread

ALPHA = 0.05
"""Regularisation of :func:`lift`, as a fraction of the largest illumination."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the members of B groups lie on their canvases, which are stacked into one tall canvas.

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
        """The layout of groups whose members lie at ``positions`` (B, C, 2), to the nearest whole pixel."""
        groups, members, _ = positions.shape
        whole, _ = split(positions)
        corners = whole - whole.min(1, keepdims=True)
        side = int(corners.max(initial=0)) + size
        corners[..., 0] += np.arange(groups)[:, None] * side
        return cls(corners.reshape(-1, 2), (groups * side, side), members, size)

    def merge(self, patches: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of each group's patches (B, C, N, N) on the tall canvas; 0 where no weight lies.

        Numerator and denominator carry the same ``weights`` (B, C, N, N), so that a flat object merges to itself.
        """
        flat = (-1, self.size, self.size)
        top = spread((patches * weights).reshape(flat), self.corners, self.shape)
        bottom = spread(weights.expand(patches.shape).reshape(flat), self.corners, self.shape)
        return top / bottom.clamp(min=torch.finfo(bottom.dtype).tiny)

    def agree(self, patches: Tensor, weights: Tensor) -> Tensor:
        """The overlap constraint: patches (B, C, N, N) merged with ``weights`` on their group's canvas, and cut from it
        again.
        """
        if self.members == 1:
            return patches
        return gather(self.merge(patches, weights), self.corners, self.size).reshape(patches.shape)


def beams(probe: Tensor, positions: NDArray[np.float64]) -> Tensor:
    """Probe modes (P, N, N) moved by the sub-pixel remainder of each position (B, C, 2): (B, C, P, N, N), or (1, 1, P,
    N, N).
    """
    _, fraction = split(positions)
    if not fraction.any():
        return probe[None, None]
    moved = shift_probe(probe, torch.from_numpy(fraction.reshape(-1, 2)).to(probe.device))
    return moved.reshape(*positions.shape[:2], *probe.shape)


def expected(patches: Tensor, modes: Tensor, background: Tensor | None = None) -> Tensor:
    """Expected counts (B, C, N, N) of patches (B, C, N, N) under ``modes`` (B, C, P, N, N), with corner-centred
    background (N, N).
    """
    total = _power(_field(patches, modes)).sum(-3)
    return total if background is None else total + background


def illumination(modes: Tensor) -> Tensor:
    """|P|^2 summed over the modes of :func:`beams`: (..., N, N)."""
    return _power(modes).sum(-3)


def lift(
    patches: Tensor,
    modes: Tensor,
    counts: Tensor,
    background: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    alpha: float = ALPHA,
) -> Tensor:
    """What the counts add to the patches: one step of phase retrieval, seen from the object's side.

    The exit waves take the measured moduli and keep their phases; the correction is conj(P) (psi' - psi) / (|P|^2 +
    alpha max |P|^2), the object update of ptychographic engines (Maiden, Johnson and Li, Optica 4, 736, 2017) with all
    modes together.

    Parameters
    ----------
    patches : (B, C, N, N) complex
        The object so far.
    modes : (B or 1, C or 1, P, N, N) complex
        Probe modes at each member, in the units of ``counts``.
    counts : (B, C, N, N)
        Measured, corner-centred.
    background : (N, N), optional
        Expected background counts.
    valid : bool, broadcast against ``counts``, optional
        True at valid pixels; the others keep the moduli they have.

    Returns
    -------
    (B, C, N, N) complex
        The correction.
    """
    field = _field(patches, modes)
    total = _power(field).sum(-3)
    signal = counts if background is None else (counts - background).clamp(min=0)
    # A square root of the ratio would have no gradient where no photon was counted.
    floor = 1e-12 * total.detach().amax((-1, -2), keepdim=True) + torch.finfo(total.dtype).tiny
    change = signal.sqrt() * (total + floor).rsqrt() - 1
    if valid is not None:
        change = torch.where(valid, change, 0.0)
    back = torch.fft.ifft2(field * change.unsqueeze(-3), norm="ortho")
    weight = illumination(modes)
    correction: Tensor = (modes.conj() * back).sum(-3) / (weight + alpha * weight.amax((-1, -2), keepdim=True))
    return correction


def _field(patches: Tensor, modes: Tensor) -> Tensor:
    field: Tensor = torch.fft.fft2(modes * patches.unsqueeze(-3), norm="ortho")
    return field


def _power(waves: Tensor) -> Tensor:
    return waves.real.square() + waves.imag.square()
