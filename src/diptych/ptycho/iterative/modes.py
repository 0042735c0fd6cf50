"""Incoherent probe modes: starts, and the orthogonal form in which they are returned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EXTRA_POWER = 0.05
"""Share of the power that extra modes start with, all together."""


def start_modes(probe: Tensor, modes: int) -> Tensor:
    """``modes`` orthogonal modes (modes, N, N) from P given ones, total power kept.

    Too many are cut to the strongest; extra ones are the strongest mode times products of Hermite polynomials in y and x (in units of its
    own width), made orthogonal to all before them, sharing 5 % of the power.
    """
    probe = orthogonal_modes(probe)
    power = probe.abs().square().sum()
    if modes <= len(probe):
        kept = probe[:modes]
        return kept * (power / kept.abs().square().sum()).sqrt()
    size, given = probe.shape[-1], len(probe)
    axis = torch.arange(size, dtype=probe.real.dtype, device=probe.device)
    light = probe[0].abs().square()
    y, y_width = _centre_and_width(light.sum(1), axis)
    x, x_width = _centre_and_width(light.sum(0), axis)
    basis = [mode / mode.norm() for mode in probe]
    for order in range(1, 4 * modes):
        for i in range(order + 1):
            if len(basis) == modes:
                break
            factor = _hermite((axis - y) / y_width, order - i)[:, None] * _hermite((axis - x) / x_width, i)
            new = probe[0] * factor
            for other in basis:
                new = new - other * torch.vdot(other.flatten(), new.flatten())
            if new.norm() > 1e-3 * (probe[0] * factor).norm():
                basis.append(new / new.norm())
    extra = torch.stack(basis[given:]) * (EXTRA_POWER * power / (modes - given)).sqrt()
    return torch.cat([probe * (1 - EXTRA_POWER) ** 0.5, extra])


def orthogonal_modes(probe: Tensor) -> Tensor:
    """The same incoherent sum |P|^2 of waves in orthogonal modes (P, N, N), strongest first (from the modes' Gram matrix)."""
    if len(probe) == 1:
        return probe
    flat = probe.flatten(1)
    values, vectors = torch.linalg.eigh(flat.conj() @ flat.T)
    order = torch.argsort(values, descending=True)
    rotated = vectors[:, order].T @ flat
    # A unitary mixture of modes leaves the counts as they are; fix each mode's free phase so that its largest value is positive.
    peak = rotated.gather(1, rotated.abs().argmax(1, keepdim=True))
    return (rotated * torch.exp(-1j * peak.angle())).reshape(probe.shape)


def _centre_and_width(profile: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    share = profile / profile.sum()
    centre = (share * axis).sum()
    return centre, (share * (axis - centre).square()).sum().sqrt().clamp(min=1.0)


def _hermite(x: Tensor, order: int) -> Tensor:
    values = np.polynomial.hermite_e.hermeval(x.cpu().numpy(), np.eye(order + 1)[order])
    return torch.from_numpy(np.asarray(values)).to(x)
