"""From exit wave to expected counts. Orthonormal FFTs throughout: sum |F psi|^2 = sum |psi|^2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

AXES = (-2, -1)


def propagate(wave: Tensor) -> Tensor:
    """Far field of a wave (..., N, N), zero frequency at [N // 2, N // 2]; the forward FFT is the propagation."""
    field: Tensor = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(wave, dim=AXES), norm="ortho"), dim=AXES)
    return field


def back_propagate(field: Tensor) -> Tensor:
    """The inverse (and adjoint) of :func:`propagate`."""
    wave: Tensor = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(field, dim=AXES), norm="ortho"), dim=AXES)
    return wave


def shift_ramps(fractions: Tensor, size: int) -> Tensor:
    """One-dimensional phase ramps (B, 2, N), corner-centred: an FFT times these is that of the image moved by
    ``fractions`` (B, 2).
    """
    frequency = torch.fft.fftfreq(size, device=fractions.device, dtype=fractions.dtype)
    angle = -2 * math.pi * frequency * fractions[:, :, None]
    ramps = torch.polar(torch.ones_like(angle), angle)
    if size % 2 == 0:
        # The Nyquist row stands for both signs: its mean keeps the shift of a real image real.
        ramps[:, :, size // 2] = torch.cos(math.pi * fractions).to(ramps.dtype)
    return ramps


def shift_probe(probe: Tensor, fractions: Tensor) -> Tensor:
    """Probe modes (P, N, N) moved by sub-pixel ``fractions`` (B, 2) pixels (y, x): (B, P, N, N), band-limited and
    periodic.
    """
    one = shift_ramps(fractions.to(probe.real.dtype), probe.shape[-1])
    ramps = one[:, 0, :, None] * one[:, 1, None, :]
    shifted: Tensor = torch.fft.ifft2(torch.fft.fft2(probe)[None] * ramps[:, None])
    return shifted


def exit_waves(probe: Tensor, patches: Tensor, fractions: Tensor | None = None) -> Tensor:
    """Exit waves (B, P, N, N) = probe modes (P, N, N), moved by ``fractions`` (B, 2) where given, times object patches
    (B, N, N).
    """
    modes = probe[None] if fractions is None else shift_probe(probe, fractions)
    return modes * patches[:, None]


def intensities(
    probe: Tensor, patches: Tensor, fractions: Tensor | None = None, background: Tensor | None = None
) -> Tensor:
    """Expected counts of each pattern.

    Parameters
    ----------
    probe : (P, N, N) complex tensor
        Incoherent modes; sum |probe|^2 is the photons per pattern through a transparent object.
    patches : (B, N, N) complex tensor
        The object under each pattern's window, cut at the nearest whole pixel.
    fractions : (B, 2) tensor, optional
        Sub-pixel remainder (y, x) of each position, by which the probe is moved.
    background : (N, N) tensor, optional
        Known expected background counts, zero frequency at [N // 2, N // 2].

    Returns
    -------
    (B, N, N) real tensor
        Sum over modes of |FFT(psi)|^2 plus background, zero frequency at [N // 2, N // 2].
    """
    field = propagate(exit_waves(probe, patches, fractions))
    total = (field.real.square() + field.imag.square()).sum(1)
    return total if background is None else total + background
