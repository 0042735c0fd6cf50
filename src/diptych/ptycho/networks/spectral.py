"""Spectral convolutions: linear maps of channels, one matrix for each low spatial frequency.

All work on any grid: the frequencies that a smaller grid lacks are left out, and values do not depend on the number of
points. The arithmetic is in 32 bits, because Fourier transforms in 16 bits are inexact or not available.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.ptycho.networks.blocks import convolution


class SpectralConvolution(nn.Module):
    """The spectral layer of the Fourier neural operator (Li et al., ICLR 2021).

    The transform of a real image is known from half of its spectrum; of that half the corners of low frequencies are
    kept: columns 0 to m - 1, and rows 0 to m - 1 and -m to -1. Both corners are needed, because a row frequency and its
    negative are independent in this half.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    modes : int
        m.
    """

    def __init__(self, inputs: int, outputs: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        # Real and imaginary part: optimisers and safetensors do not support complex numbers.
        self.weight = nn.Parameter(torch.randn(2, inputs, outputs, modes, modes, 2) / (2 * inputs) ** 0.5)

    def forward(self, x: Tensor, size: int | None = None) -> Tensor:
        """(B, inputs, S, S) to (B, outputs, size, size); ``size`` is S by default."""
        side = x.shape[-1]
        size = side if size is None else size
        kept = min(self.modes, side // 2, size // 2)
        with torch.autocast(x.device.type, enabled=False):
            # Normalised so that a constant keeps its value on a grid of another size.
            spectrum = torch.fft.rfft2(x.float(), norm="forward")
            corners = torch.stack([spectrum[..., :kept, :kept], spectrum[..., -kept:, :kept]])
            weight = torch.view_as_complex(self.weight)
            matrices = torch.stack([weight[0, ..., :kept, :kept], weight[1, ..., -kept:, :kept]])
            mixed = torch.einsum("hbirc,hiorc->hborc", corners, matrices)
            result = mixed.new_zeros(*mixed.shape[1:3], size, size // 2 + 1)
            result[..., :kept, :kept], result[..., -kept:, :kept] = mixed[0], mixed[1]
            rows = torch.fft.ifft(result, dim=-2, norm="forward")
            image: Tensor = torch.fft.irfft(_real_at_zero(rows), n=size, dim=-1, norm="forward")
            return image


class FactorisedSpectralConvolution(nn.Module):
    """A spectral convolution along each axis by itself, and their sum (Tran et al., ICLR 2023).

    Parameters
    ----------
    channels : int
        Of input and output.
    modes : int
        Frequencies 0 to modes - 1 of each axis are kept.
    """

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(2, channels, channels, modes, 2) / (2 * channels) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, S, S) to the same."""
        with torch.autocast(x.device.type, enabled=False):
            weight = torch.view_as_complex(self.weight)
            x = x.float()
            along_columns = self._along_last(x, weight[1])
            return along_columns + self._along_last(x.transpose(-1, -2), weight[0]).transpose(-1, -2)

    def _along_last(self, x: Tensor, weight: Tensor) -> Tensor:
        side = x.shape[-1]
        kept = min(self.modes, side // 2)
        spectrum = torch.fft.rfft(x, dim=-1, norm="forward")[..., :kept]
        mixed = torch.einsum("birc,ioc->borc", spectrum, weight[..., :kept])
        result = mixed.new_zeros(*mixed.shape[:-1], side // 2 + 1)
        result[..., :kept] = mixed
        image: Tensor = torch.fft.irfft(_real_at_zero(result), n=side, dim=-1, norm="forward")
        return image


class SpectralBlock(nn.Module):
    """x + gelu(spectral(x) + conv(x)): global mixing of low frequencies beside a local convolution.

    Parameters
    ----------
    channels : int
        Of input and output.
    modes : int
        As of :class:`SpectralConvolution`.
    """

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.spectral, self.local = SpectralConvolution(channels, channels, modes), convolution(channels, channels)

    def update(self, x: Tensor) -> Tensor:
        """What the block adds."""
        return nn.functional.gelu(self.spectral(x) + self.local(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, S, S) to the same."""
        return x + self.update(x)


def _real_at_zero(spectrum: Tensor) -> Tensor:
    """Half spectra (..., S // 2 + 1) with a real first coefficient: libraries differ in what they do with another."""
    factor = torch.ones(spectrum.shape[-1], device=spectrum.device)
    factor[0] = 0
    return torch.complex(spectrum.real, spectrum.imag * factor)
