"""Low spatial frequencies of the object's phase: their curvature in the likelihood, and its inverse.

A phase phi(r) that varies little within the probe only shifts each pattern, by its gradient. Its curvature in the loss
is ``light |O|^2 s^2 |grad phi|^2`` with s the probe's spread, and vanishes with the square of the spatial frequency.
Its inverse is an inverse Laplacian, applied by FFT.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.physics.forward import intensity

SLOW_PHASES = 3.0
"""Weight of the slow phases. Results hardly depend on it between 1 and 10; too small is worse than too large."""

LIT = 0.1
"""Pixels with more than this share of the strongest illumination count as lit."""

LEAST_SPREAD = 0.1
"""Lower bound of the probe's variance, square pixels: that of a single bright pixel is 0."""


def softness(light: Tensor, image: Tensor, probe: Tensor) -> float:
    """Weight of the inverse Laplacian, 1 / (level s^2).

    Parameters
    ----------
    light : (H, W) tensor
        Illumination, photons per object pixel.
    image : (H, W) complex tensor
        The object.
    probe : (P, N, N) complex tensor
        Probe modes.
    """
    lit = light > LIT * light.max()
    level = float((light * intensity(image[None]))[lit].mean())
    return SLOW_PHASES / max(level * spread(probe), 1e-30)


def inverse_laplacian(like: Tensor, shape: tuple[int, int], *, half: bool = True) -> Tensor:
    """1 / |k|^2 on the frequencies of ``rfft2`` (``half``) or ``fft2``; 0 at zero frequency: the global phase is free.

    ``like`` gives the (real) data type and the device.
    """
    kind = {"dtype": like.dtype, "device": like.device}
    along = torch.fft.rfftfreq if half else torch.fft.fftfreq
    squared: Tensor = torch.fft.fftfreq(shape[0], **kind)[:, None].square() + along(shape[1], **kind).square()
    squared[0, 0] = torch.inf
    return squared.mul_((2 * np.pi) ** 2).reciprocal_()


def add_slow_phases(step: Tensor, image: Tensor, gradient: Tensor, filtering: Tensor) -> None:
    """Add to ``step`` (H, W) the step in slow phases for a gradient in the object, in place.

    The gradient in the phase, Im(conj(O) g), is filtered by ``filtering`` on the frequencies of ``rfft2``.
    """
    spectrum = torch.fft.rfft2(image.real * gradient.imag - image.imag * gradient.real).mul_(filtering)
    phase = torch.fft.irfft2(spectrum, s=image.shape)
    torch.view_as_real(step).addcmul_(torch.stack([-image.imag, image.real], -1), phase[..., None])


def spread(probe: Tensor) -> float:
    """Variance of the probe's intensity along one axis (mean of both), square pixels."""
    light = intensity(probe).double()
    pixel = torch.arange(light.shape[-1], dtype=light.dtype, device=light.device)
    found = 0.0
    for profile in (light.sum(0), light.sum(1)):
        share = profile / profile.sum().clamp(min=1e-300)
        found += 0.5 * float((share * (pixel - (share * pixel).sum()).square()).sum())
    return max(found, LEAST_SPREAD)
