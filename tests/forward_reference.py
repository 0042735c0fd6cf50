"""The forward model written out with centred FFTs, as a reference for the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.physics.propagators import shift_probe


def propagate(wave: Tensor) -> Tensor:
    """Centred orthonormal FFT over the last two axes."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(wave, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))


def intensities(
    probe: Tensor, patches: Tensor, fractions: Tensor | None = None, background: Tensor | None = None
) -> Tensor:
    """Expected counts (B, N, N) of patches (B, N, N) under modes (P, N, N) moved by ``fractions`` (B, 2)."""
    modes = probe[None] if fractions is None else shift_probe(probe, fractions)
    total = propagate(modes * patches[:, None]).abs().square().sum(1)
    return total if background is None else total + background
