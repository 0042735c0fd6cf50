"""A smooth total variation of the complex object, as a penalty beside the negative log-likelihood.

For the object O, divided by its root mean square over the lit pixels (U)::

    R(O) = strength * sum over lit pixels of (sqrt(|U_y|^2 + |U_x|^2 + eps^2) - eps)

with forward differences U_y and U_x between lit pixels. Rudin, Osher and Fatemi, Physica D 60, 259 (1992); the smooth
root: Charbonnier et al., IEEE Trans. Image Process. 6, 298 (1997). In nats: the negative logarithm of a prior in which
differences between neighbours are sparse. A prior does not depend on the dose, so neither does the meaning of
``strength``: nats for a step of 1 between neighbours. Division by the root mean square makes the penalty independent of
the object's scale, which an unknown probe leaves free; without it the object would shrink.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EDGE = 0.02
"""Difference between neighbours, relative to the object's root mean square, below which the penalty is quadratic."""


class TotalVariation:
    """The penalty, its gradient and its curvature.

    Parameters
    ----------
    lit : (H, W) bool tensor
        Pixels that count.
    strength : float
        Nats for a step of 1 between neighbours, where the object's root mean square is 1.
    """

    def __init__(self, lit: Tensor, strength: float) -> None:
        self.strength = strength
        self._lit = lit
        self._pairs = [lit[1:] & lit[:-1], lit[:, 1:] & lit[:, :-1]]
        self._count = max(int(lit.sum()), 1)

    def value_and_gradient(self, image: Tensor) -> tuple[float, Tensor]:
        """The penalty in nats, and its derivative by the conjugate of the object, (H, W) complex.

        That is half the gradient in real and imaginary part, as in the gradients of the likelihood.
        """
        scale = self._scale(image)
        unit = image / scale
        along = self._differences(unit)
        root = self._root(along)
        value = self.strength * float((root - EDGE).sum(dtype=torch.float64))
        forces = [step / root for step in along]
        # The adjoint of the forward differences.
        inner = -(forces[0] + forces[1])
        inner[1:] += forces[0][:-1]
        inner[:, 1:] += forces[1][:, :-1]
        inner *= self.strength / 2
        radial = float((inner.real * unit.real + inner.imag * unit.imag).sum(dtype=torch.float64))
        return value, (inner - unit * self._lit * (radial / self._count)) / scale

    def curvature(self, image: Tensor) -> Tensor:
        """Diagonal (H, W) of the curvature at fixed roots, on the scale of the gradient: for a preconditioner."""
        scale = self._scale(image)
        bonds = 1 / self._root(self._differences(image / scale))
        down, right = torch.zeros_like(bonds), torch.zeros_like(bonds)
        down[:-1], right[:, :-1] = bonds[:-1] * self._pairs[0], bonds[:, :-1] * self._pairs[1]
        whole = down + right
        whole[1:] += down[:-1]
        whole[:, 1:] += right[:, :-1]
        return whole * (self.strength / 2 / scale**2)

    def _scale(self, image: Tensor) -> float:
        """Root mean square of the object over the lit pixels."""
        energy = image.abs().square()[self._lit].sum(dtype=torch.float64)
        return max(math.sqrt(float(energy) / self._count), 1e-12)

    def _differences(self, image: Tensor) -> list[Tensor]:
        """Forward differences along y and x, (H, W) each; 0 where one of both pixels is not lit."""
        down, right = torch.zeros_like(image), torch.zeros_like(image)
        down[:-1] = (image[1:] - image[:-1]) * self._pairs[0]
        right[:, :-1] = (image[:, 1:] - image[:, :-1]) * self._pairs[1]
        return [down, right]

    def _root(self, along: list[Tensor]) -> Tensor:
        return (along[0].abs().square() + along[1].abs().square() + EDGE**2).sqrt()
