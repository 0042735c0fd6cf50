"""What a probe that varies adds to the Fisher information: its components, and their coefficients per pattern.

The probe of pattern j is ``p_j = sum_k a_jk B_k``, B_0 the first mode and the others the components
(:mod:`diptych.ptycho.physics.varying.probe`). The coefficient of the first mode is no unknown of its own: its phase is
that of the pattern, which the counts do not show, and its modulus keeps the power of p_j equal to that of B_0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.ptycho.physics.varying.probe import Variation


@dataclass(frozen=True, eq=False)
class EqualPower:
    """Changes of the coefficients (B, K + 1) of a batch that leave the power of each pattern's probe that of B_0.

    A change of the shapes, dB, and of the components' coefficients, da, changes ``|p_j|^2 - |B_0|^2``; a factor on all
    coefficients of the pattern undoes it: ``da_jk + c_j a_jk`` with real c_j.

    Parameters
    ----------
    basis : (K + 1, N, N) complex tensor
        B_k.
    weights : (B, K + 1) complex tensor
        a_jk.
    """

    basis: Tensor
    weights: Tensor

    @classmethod
    def of(cls, variation: Variation, weights: Tensor) -> EqualPower:
        """For patterns with these coefficients."""
        return cls(torch.cat([variation.first[None], variation.components]), weights)

    def change(self, basis: Tensor, weights: Tensor) -> Tensor:
        """Change of all coefficients (B, K + 1) for a change of the shapes (K + 1, N, N) and of the components'
        coefficients (B, K).
        """
        weights = torch.cat([torch.zeros_like(weights[:, :1]), weights], 1)
        along = self._gram(basis)
        raw = (self.weights.conj() * (self.weights @ along.T + weights @ self._gram(self.basis).T)).sum(1).real
        scale: Tensor = (along[0, 0].real - raw) / self._power
        return weights + scale[:, None] * self.weights

    def adjoint(self, changes: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint of :meth:`change` for changes (B, K + 1): shapes (K + 1, N, N) and coefficients (B, K)."""
        scale = (changes.conj() * self.weights).sum(1).real / self._power
        weights = changes - scale[:, None] * (self.weights @ self._gram(self.basis).T)
        mixed = (scale[:, None] * self.weights.conj()).T @ self.weights
        shapes = -(mixed @ self.basis.flatten(1)).view_as(self.basis)
        shapes[0] += scale.sum() * self.basis[0]
        return shapes, weights[:, 1:]

    @property
    def _power(self) -> Tensor:
        return self.basis[0].abs().square().sum()

    def _gram(self, other: Tensor) -> Tensor:
        """Inner products <B_k, other_l>, (K + 1, K + 1)."""
        return self.basis.conj().flatten(1) @ other.flatten(1).T
