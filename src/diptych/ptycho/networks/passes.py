"""Passes of a network with a physics step before each: the scheme that generators share.

A diffraction pattern does not look like the object, and a network that must first learn the Fourier transform learns
slowly. So the counts enter through the forward model. Each pass receives the current object patches and the correction
of one step of phase retrieval (:func:`~diptych.ptycho.physics.groups.modulus_correction`), both in the real space of
the member's window, and predicts a correction of its own. Between passes, overlapping patches of a group are averaged
on the group's canvas. The first pass starts from a flat object with the transmission of the pattern.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.groups import modulus_correction

INPUTS = 6
"""Channels a pass receives: current object - 1 (re, im), phase retrieval correction (re, im), illumination (square
root, 1 at most), and the scaled amplitudes c sqrt(k / sum |P|^2) of the pattern."""

OUTPUTS = 2
"""Channels a pass returns: the correction of log amplitude and phase, or of real and imaginary part."""

LOG_LIMITS = (-6.0, 3.0)
"""Range to which the correction of the log amplitude in one pass is clipped."""

Output = Literal["real-imag", "amplitude-phase"]


class PhysicsPasses(nn.Module):
    """A generator of several passes, each a network from (B, INPUTS, N, N) to (B, OUTPUTS, N, N).

    Parameters
    ----------
    scale : float
        c of the input c sqrt(k / sum |P|^2).
    networks : iterable of nn.Module
        One for each pass; they may differ.
    output : {"amplitude-phase", "real-imag"}
        Meaning of the two output channels: factor exp(a + i p) on the object, or a summand a + i b.
    """

    scale: Tensor

    def __init__(self, scale: float, networks: Iterable[nn.Module], *, output: Output = "amplitude-phase") -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.output = output
        self.passes = nn.ModuleList(networks)

    def forward(self, exposure: Exposure) -> Tensor:
        """Complex patches (B, C, N, N) of the object in each member's window."""
        shape, light = exposure.counts.shape, intensity(exposure.modes)
        brightness = (light / light.amax((-1, -2), keepdim=True)).sqrt().expand(shape)
        amplitudes = self.scale * exposure.counts.clamp(min=0).sqrt()
        patches = flat_object(exposure, light)
        for number, network in enumerate(self.passes):
            if number:
                patches = exposure.layout.average_overlaps(patches, light.expand(shape))
            step = modulus_correction(patches, exposure.modes, exposure.counts, exposure.background, exposure.valid)
            inputs = torch.stack([patches.real - 1, patches.imag, step.real, step.imag, brightness, amplitudes], 2)
            first, second = network(inputs.flatten(0, 1)).unflatten(0, shape[:2]).float().unbind(2)
            if self.output == "amplitude-phase":
                patches = patches * torch.polar(first.clamp(*LOG_LIMITS).exp(), second)
            else:
                patches = patches + torch.complex(first, second)
        return patches


def flat_object(exposure: Exposure, light: Tensor) -> Tensor:
    """The initial guess: patches (B, C, N, N) that are constant, with the transmission of their pattern."""
    transmission = signal(exposure).sum((-1, -2), keepdim=True) / light.sum((-1, -2), keepdim=True)
    return transmission.sqrt().expand(exposure.counts.shape).to(exposure.modes.dtype)


def signal(exposure: Exposure) -> Tensor:
    """Counts above background at valid pixels, (B, C, N, N)."""
    counts = exposure.counts if exposure.background is None else exposure.counts - exposure.background
    positive = counts.clamp(min=0)
    return positive if exposure.valid is None else torch.where(exposure.valid, positive, 0.0)
