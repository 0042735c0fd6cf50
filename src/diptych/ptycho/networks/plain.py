"""A network without physics at the entrance: from the amplitudes of a pattern to the object, as in the literature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.networks.passes import INPUTS, LOG_LIMITS, Output, PhysicsPasses
from diptych.ptycho.networks.shared_options import PassOptions

PLAIN_INPUTS = 1
"""Channels: the scaled amplitudes c sqrt(k / sum |P|^2), zero frequency centred."""


class PlainGenerator(nn.Module):
    """Each pattern by itself through a network from (B, 1, N, N) to (B, 2, N, N).

    Parameters
    ----------
    scale : float
        c of the input c sqrt(k / sum |P|^2).
    network : nn.Module
        The architecture.
    output : {"amplitude-phase", "real-imag"}
        Object exp(a + i p), or 1 + a + i b. Neither is bounded to the range of one kind of sample.
    """

    scale: Tensor

    def __init__(self, scale: float, network: nn.Module, *, output: Output = "amplitude-phase") -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.output, self.network = output, network

    def forward(self, exposure: Exposure) -> Tensor:
        """Complex patches (B, C, N, N) of the object in each member's window."""
        shape = exposure.counts.shape
        amplitudes = torch.fft.fftshift(self.scale * exposure.counts.clamp(min=0).sqrt(), dim=(-2, -1))
        predicted = self.network(amplitudes.flatten(0, 1).unsqueeze(1))
        first, second = predicted.unflatten(0, shape[:2]).float().unbind(2)
        if self.output == "amplitude-phase":
            return torch.polar(first.clamp(*LOG_LIMITS).exp(), second)
        return torch.complex(1 + first, second)


def assemble(scale: float, options: PassOptions, make: Callable[[int], nn.Module]) -> nn.Module:
    """The generator of an architecture: its passes with physics between them, or the plain network for ``passes=0``.

    Parameters
    ----------
    scale : float
        c of the input c sqrt(k / sum |P|^2).
    options : PassOptions
        Number of passes and meaning of the output.
    make : callable
        ``make(inputs)`` returns a new network from (B, inputs, N, N) to (B, 2, N, N).
    """
    if options.passes == 0:
        return PlainGenerator(scale, make(PLAIN_INPUTS), output=options.output)
    return PhysicsPasses(scale, [make(INPUTS) for _ in range(options.passes)], output=options.output)
