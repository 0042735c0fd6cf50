"""Incoherent probe modes: starts, and the orthogonal form in which they are returned."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.physics.probe import extra_modes

EXTRA_POWER = 0.05
"""Share of the power that extra modes start with, all together."""


def start_modes(probe: Tensor, modes: int) -> Tensor:
    """``modes`` orthogonal modes (modes, N, N) from P given ones (P, N, N), total power kept.

    Too many are cut to the strongest; extra ones (:func:`~diptych.ptycho.physics.probe.extra_modes`) share 5 % of the
    power.
    """
    probe = orthogonal_modes(probe)
    power = probe.abs().square().sum()
    given = len(probe)
    if modes <= given:
        kept = probe[:modes]
        return kept * (power / kept.abs().square().sum()).sqrt()
    extra = torch.from_numpy(extra_modes(probe.cpu().numpy(), modes - given)).to(probe)
    return torch.cat([probe * (1 - EXTRA_POWER) ** 0.5, extra * (EXTRA_POWER * power / (modes - given)).sqrt()])


def orthogonal_modes(probe: Tensor) -> Tensor:
    """The same incoherent sum |P|^2 of waves in orthogonal modes (P, N, N), strongest first (from the modes' Gram
    matrix).
    """
    if len(probe) == 1:
        return probe
    flat = probe.flatten(1)
    values, vectors = torch.linalg.eigh(flat.conj() @ flat.T)
    order = torch.argsort(values, descending=True)
    rotated = vectors[:, order].T @ flat
    # A unitary mixture of modes leaves the counts as they are; fix each mode's free phase so that its largest value is
    # positive.
    peak = rotated.gather(1, rotated.abs().argmax(1, keepdim=True))
    turned: Tensor = rotated * torch.exp(-1j * peak.angle())
    return turned.reshape(probe.shape)
