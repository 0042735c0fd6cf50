"""The default generator: convolutional passes that refine a physical estimate.

A pattern is no picture of the object, and a network that must learn the Fourier transform first learns slowly. So the
counts enter through the physics: each pass sees the object so far and what one step of phase retrieval would add to it
(:func:`~diptych.ptycho.physics.groups.modulus_correction`), both pictures of the object in the member's window, and adds
its correction. Before the next pass the members of a group agree on their canvas. The first pass starts from a flat object
with the pattern's transmission.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.blocks import Decoder, Encoder
from diptych.ptycho.networks.registry import Exposure, NetworkOptions
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.groups import modulus_correction

INPUTS = 6
"""Object so far (re, im), what the counts add (re, im), illumination, and the scaled amplitudes of the pattern."""

LOG_LIMITS = (-6.0, 3.0)
"""One pass changes the logarithm of the amplitude by no more than this."""


def build(size: int, scale: float, options: NetworkOptions) -> Cnn:
    """A fresh generator; ``size`` may be any multiple of 16, the weights do not depend on it."""
    return Cnn(scale, options)


class Cnn(nn.Module):
    """Encoder-decoder passes with the physics between them.

    Parameters
    ----------
    scale : float
        c of the input c sqrt(k / sum |P|^2).
    options : NetworkOptions
        ``width``, ``passes``, ``output`` and ``decoder`` act.
    """

    scale: Tensor

    def __init__(self, scale: float, options: NetworkOptions) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.polar = options.output == "amplitude-phase"
        self.passes = nn.ModuleList(_Pass(options.width, options.decoder == "two") for _ in range(options.passes))

    def forward(self, exposure: Exposure) -> Tensor:
        """Complex patches (B, C, N, N) of the object in each member's window."""
        counts, modes = exposure.counts, exposure.modes
        light = intensity(modes)
        weights = light.expand(counts.shape)
        amplitudes = self.scale * counts.clamp(min=0).sqrt()
        through = _signal(exposure).sum((-1, -2), keepdim=True) / light.sum((-1, -2), keepdim=True)
        patches = through.sqrt().expand(counts.shape).to(modes.dtype)
        bright = (light / light.amax((-1, -2), keepdim=True)).sqrt().expand(counts.shape)
        for number, network in enumerate(self.passes):
            if number:
                patches = exposure.layout.average_overlaps(patches, weights)
            added = modulus_correction(patches, modes, counts, exposure.background, exposure.valid)
            inputs = torch.stack([patches.real - 1, patches.imag, added.real, added.imag, bright, amplitudes], 2)
            first, second = network(inputs.flatten(0, 1)).unflatten(0, counts.shape[:2]).float().unbind(2)
            if self.polar:
                patches = patches * torch.polar(first.clamp(*LOG_LIMITS).exp(), second)
            else:
                patches = patches + torch.complex(first, second)
        return patches


class _Pass(nn.Module):
    """(B, INPUTS, N, N) to two channels, through one encoder and one decoder or two."""

    def __init__(self, width: int, two: bool) -> None:
        super().__init__()
        self.encoder = Encoder(INPUTS, width)
        self.decoders = (
            nn.ModuleList(Decoder(width, 1) for _ in range(2)) if two else nn.ModuleList([Decoder(width, 2)])
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.encoder(x)
        return torch.cat([decoder(features) for decoder in self.decoders], 1)


def _signal(exposure: Exposure) -> Tensor:
    """Counts above background at valid pixels, (B, C, N, N)."""
    counts = exposure.counts if exposure.background is None else exposure.counts - exposure.background
    signal = counts.clamp(min=0)
    return signal if exposure.valid is None else torch.where(exposure.valid, signal, 0.0)
