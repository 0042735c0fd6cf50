"""Building blocks of the generators."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3 x 3 convolution that keeps the size of the image."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Residual(nn.Module):
    """x + conv(gelu(conv(gelu(x)))); the last convolution starts at zero, so that a new block is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = convolution(channels, channels), convolution(channels, channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        inner: Tensor = self.last(functional.gelu(self.first(functional.gelu(x))))
        return x + inner


class Encoder(nn.Module):
    """Pixel unshuffle by 4, then two levels, each with half the side.

    The convolutions run on grids of N/4 pixels and less, which keeps the network fast.

    Parameters
    ----------
    inputs : int
        Input channels.
    width : int
        Channels of the first level; the others have twice as many.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter = convolution(16 * inputs, width)
        self.level0, self.level1 = Residual(width), Residual(2 * width)
        self.level2 = nn.Sequential(Residual(2 * width), Residual(2 * width))
        self.down1 = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.down2 = nn.Conv2d(2 * width, 2 * width, 2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, N, N) to features of (N/4)^2, (N/8)^2 and (N/16)^2 pixels."""
        fine = self.level0(self.enter(functional.pixel_unshuffle(x, 4)))
        middle = self.level1(self.down1(fine))
        return fine, middle, self.level2(self.down2(middle))


class Decoder(nn.Module):
    """Upsampling path with additive skip connections; a new one returns values near zero.

    Parameters
    ----------
    width : int
        As of the :class:`Encoder`.
    outputs : int
        Output channels.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(2 * width, 2 * width, 2, stride=2)
        self.level1 = Residual(2 * width)
        self.up0 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.level0 = nn.Sequential(Residual(width), Residual(width))
        self.leave = convolution(width, 16 * outputs)
        nn.init.normal_(self.leave.weight, std=1e-3)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Features of :class:`Encoder` to (B, outputs, N, N)."""
        fine, middle, coarse = features
        middle = self.level1(middle + self.up1(coarse))
        return functional.pixel_shuffle(self.leave(self.level0(fine + self.up0(middle))).contiguous(), 4)


class Lift(nn.Module):
    """Pixel unshuffle by ``cell``, then conv(gelu(conv(x))); (B, inputs, N, N) to (B, width, N / cell, N / cell)."""

    def __init__(self, inputs: int, width: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.first, self.last = convolution(inputs * cell**2, width), convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features on the network's grid."""
        features: Tensor = self.last(functional.gelu(self.first(functional.pixel_unshuffle(x, self.cell))))
        return features


class Head(nn.Module):
    """Features to output channels on the pixels; a new one returns values near zero.

    Parameters
    ----------
    width, outputs : int
        Channels.
    cell : int
        As of :class:`Lift`.
    kernel : int
        Side of the convolution.
    """

    def __init__(self, width: int, outputs: int, cell: int, kernel: int = 3) -> None:
        super().__init__()
        self.cell = cell
        self.leave = nn.Conv2d(width, outputs * cell**2, kernel, padding=kernel // 2)
        nn.init.normal_(self.leave.weight, std=1e-3)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, N / cell, N / cell) to (B, outputs, N, N)."""
        return functional.pixel_shuffle(self.leave(x).contiguous(), self.cell)
