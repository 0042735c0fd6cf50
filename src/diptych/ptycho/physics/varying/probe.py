"""The forward model of a probe that changes from pattern to pattern: a few shared shapes, coefficients per pattern.

::

    p_j = s_j (a_j0 P_0 + sum_k a_jk V_k),   s_j = |P_0| / |a_j0 P_0 + sum_k a_jk V_k|

P_0 is the first probe mode, V_k are K shapes that all patterns share (orthogonal probe relaxation: Odstrcil et al.,
Opt. Express 24, 8360, 2016); the other modes are the same in all patterns. Every p_j has the power of P_0: a beam that
becomes weaker is a matter of the frames' factors. Coefficients are complex: what is added may have any phase against
the probe. The counts do not show a common phase of a pattern's coefficients, nor the split between P_0 and V_k:
:func:`canonical` fixes both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.forward import ForwardModel, Views, intensity


@dataclass(frozen=True, eq=False)
class Variation:
    """How the first probe mode changes in the course of a scan.

    Parameters
    ----------
    first : (N, N) complex tensor
        P_0. Under a first mode of another norm, the components scale with it.
    components : (K, N, N) complex tensor
        V_k.
    coefficients : (M, K + 1) complex tensor
        ``s_j a_j``: of the first mode, then of the components.
    """

    first: Tensor
    components: Tensor
    coefficients: Tensor

    @classmethod
    def of(cls, first: Tensor, components: Tensor, mixing: Tensor) -> Variation:
        """From the first mode (N, N), components, and coefficients ``a`` (M, K + 1) before they are normalised."""
        return cls(first, components, normalised(first, components, mixing))

    def of_batch(self, batch: NDArray[np.int64]) -> Tensor:
        """Coefficients (B, K + 1) of some patterns."""
        return self.coefficients[torch.from_numpy(batch).to(self.coefficients.device)]


def normalised(first: Tensor, components: Tensor, mixing: Tensor) -> Tensor:
    """Coefficients (M, K + 1), scaled so that each pattern's probe has the norm of ``first``; differentiable."""
    basis = torch.cat([first[None], components]).flatten(1)
    gram = basis.conj() @ basis.T
    squared = ((mixing.conj() @ gram) * mixing).sum(1).real
    return mixing * (gram[0, 0].real / squared).sqrt()[:, None]


def canonical(first: Tensor, components: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First mode, components and coefficients of the same probes p_j, up to their phases, in a fixed gauge.

    The first mode is the shape that has most of the power of all patterns; first mode and components are orthogonal to
    each other. The coefficient of the first mode is real and positive, that of each component has mean square 1 over
    the patterns, and the components are sorted by their power, largest first.

    Returns
    -------
    (N, N), (K, N, N) and (M, K + 1) complex tensors
    """
    basis = torch.cat([first[None], components]).flatten(1).to(torch.complex128)
    mixing = normalised(first, components, mixing).to(torch.complex128)
    flat, triangle = torch.linalg.qr(basis.T)
    left, lengths, right = torch.linalg.svd(mixing @ triangle.T, full_matrices=False)
    shapes, root = right @ flat.T, len(mixing) ** 0.5
    weights = left * lengths
    turned = weights * torch.exp(-1j * weights[:, :1].angle())
    norm = torch.linalg.vector_norm(basis[0])
    scale = torch.cat([norm[None], (lengths[1:] / root).clamp(min=1e-30 * float(norm))])
    # The phase of the first mode stays as it was: it is that of the object.
    turn = torch.exp(1j * (shapes[0].conj() * basis[0]).sum().angle())
    made = (shapes * scale[:, None] * turn).to(first.dtype).view(-1, *first.shape)
    return made[0], made[1:], (turned / scale).to(first.dtype)


@dataclass(eq=False)
class VaryingForward(ForwardModel):
    """The forward model with a probe that may vary; without a variation it is the :class:`ForwardModel` it extends.

    Parameters
    ----------
    variation : Variation or None
        Of the first probe mode.
    """

    variation: Variation | None = None

    @classmethod
    def of(cls, forward: ForwardModel) -> VaryingForward:
        """A forward model whose probe may vary, and does not yet."""
        return cls(**{each.name: getattr(forward, each.name) for each in fields(ForwardModel)})

    def views_of(self, patches: Tensor, probe: Tensor, batch: NDArray[np.int64], fractions: Tensor | None) -> Views:
        """See :meth:`ForwardModel.views_of`; the modes are those of each pattern."""
        if (variation := self.variation) is None:
            return super().views_of(patches, probe, batch, fractions)
        count = len(probe)
        modes, ramps, spectrum = self._modes(torch.cat([probe, self.components(probe)]), batch, fractions)
        weights = variation.of_batch(batch)
        varied = mixed_modes(modes, weights, count)
        spectra = None if spectrum is None else mixed_modes(spectrum[None], weights, count)
        return Views(batch, patches, varied, ramps, spectra, self.propagator.fixed)

    def components(self, probe: Tensor) -> Tensor:
        """Components (K, N, N) of the variation under probe modes (P, N, N), whose scale they follow."""
        assert self.variation is not None
        scale = torch.linalg.vector_norm(probe[0]) / torch.linalg.vector_norm(self.variation.first)
        scaled: Tensor = self.variation.components * scale
        return scaled

    def multiply(self, ramp: Tensor) -> None:
        """Multiply first mode and components by a ramp (N, N), where the probe varies; nothing where it does not."""
        if (old := self.variation) is not None:
            self.variation = Variation(old.first * ramp, old.components * ramp, old.coefficients)

    def varied_adjoint(self, views: Views, waves: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint of ``probe, components -> exit waves``, and that of ``coefficients -> exit waves``.

        For views of the first mode that the variation belongs to.

        Overwrites ``waves`` (B, P, N, N).

        Returns
        -------
        (P + K, N, N) complex tensor
            Of the probe modes, then of the components.
        (B, K + 1) complex tensor
            Of the coefficients of the batch.
        """
        variation = self.variation
        assert variation is not None
        waves = views.unplaced(waves)
        conjugates = waves.conj_physical_().mul_(views.patches[:, None])
        weights = variation.of_batch(views.batch)
        entered = self.propagator.enter(torch.cat([variation.first[None], variation.components]))
        if views.ramps is not None:
            conjugates, entered = torch.fft.ifft2(conjugates).mul_(views.ramps[:, None]), torch.fft.fft2(entered)
        first = conjugates[:, 0].flatten(1)
        in_weights = (first @ entered.flatten(1).T).conj_physical_()
        shared = (weights.T @ first).view(-1, self.size, self.size)
        summed = torch.cat([shared[:1], conjugates[:, 1:].sum(0), shared[1:]])
        if views.ramps is not None:
            summed = torch.fft.fft2(summed)
        return self.propagator.leave(summed.conj_physical_()), in_weights

    def _summed(self, views: Views, conjugates: Tensor) -> Tensor:
        if self.variation is None:
            return super()._summed(views, conjugates)
        first = (self.variation.of_batch(views.batch)[:, 0, None, None] * conjugates[:, 0]).sum(0)
        return torch.cat([first[None], conjugates[:, 1:].sum(0)])


def varies(forward: ForwardModel) -> bool:
    """Whether the probe of a forward model differs from pattern to pattern."""
    return isinstance(forward, VaryingForward) and forward.variation is not None


def shares(first: Tensor, components: Tensor) -> list[float]:
    """Share of each component in the power of the (coherent) probe, in the gauge of :func:`canonical`."""
    power = intensity(torch.cat([first[None], components])[:, None]).sum((1, 2), dtype=torch.float64)
    return [float(each / power[0]) for each in power[1:]]


def mixed_modes(modes: Tensor, weights: Tensor, count: int) -> Tensor:
    """Modes (B, count, N, N) of patterns with coefficients (B, K + 1) from those of probe and components
    (B or 1, count + K, N, N).
    """
    basis = torch.cat([modes[:, :1], modes[:, count:]], 1).flatten(2)
    first = (weights[:, None] @ basis).view(len(weights), 1, *modes.shape[2:])
    return torch.cat([first, modes[:, 1:count].expand(len(weights), -1, -1, -1)], 1)
