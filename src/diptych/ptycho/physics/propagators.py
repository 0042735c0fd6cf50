"""Propagation from exit wave to detector: a protocol, and the far field in two layouts of the FFT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Propagator(Protocol):
    """A unitary map from exit waves to the detector, in two parts.

    ``enter`` is applied once to the probe, so that whatever acts as a factor on the exit wave costs nothing per
    pattern; ``forward`` is applied to each exit wave. The detector field of a wave ``P O`` is ``forward(enter(P) O)``.
    """

    def enter(self, probe: Tensor) -> Tensor:
        """The probe (..., N, N) as it multiplies the object; a factor of modulus 1 for each pixel."""

    def leave(self, probe: Tensor) -> Tensor:
        """The adjoint of :meth:`enter`. May overwrite its argument."""

    def forward(self, waves: Tensor) -> Tensor:
        """Field at the detector (..., N, N) of exit waves (..., N, N)."""

    def adjoint(self, field: Tensor) -> Tensor:
        """The adjoint of :meth:`forward`, which is its inverse."""


@dataclass(frozen=True, eq=False)
class FarField:
    """Fraunhofer propagation: the orthonormal forward FFT, so that a transparent sample has phase -k delta t.

    Parameters
    ----------
    ramp : (N, N) complex tensor, optional
        Phase ramp on the probe that moves zero frequency to [N // 2, N // 2], at no cost per pattern. Without it zero
        frequency lies at [0, 0].
    """

    ramp: Tensor | None = None

    @classmethod
    def centred(cls, size: int, dtype: torch.dtype, device: torch.device) -> FarField:
        """Zero frequency at [N // 2, N // 2], the layout of scans. Its ramp alternates in sign where N is even."""
        turns = torch.arange(size, dtype=torch.float64) * (size // 2) % size / size
        # A half turn is exactly a sign: for even sizes there is nothing else.
        wave = torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
        ramp = torch.where(turns == 0.5, torch.complex(-turns * 2, turns * 0), wave)
        return cls((ramp[:, None] * ramp).to(device, dtype))

    @classmethod
    def cornered(cls) -> FarField:
        """Zero frequency at [0, 0], the layout of network input."""
        return cls()

    def enter(self, probe: Tensor) -> Tensor:
        """The probe times the ramp."""
        return probe if self.ramp is None else probe * self.ramp

    def leave(self, probe: Tensor) -> Tensor:
        """The probe times the conjugate ramp."""
        # Conjugated twice in place: a conjugate ramp would need memory of its own.
        return probe if self.ramp is None else probe.conj_physical_().mul_(self.ramp).conj_physical_()

    def forward(self, waves: Tensor) -> Tensor:
        """Orthonormal FFT over the last two axes."""
        field: Tensor = torch.fft.fft2(waves, norm="ortho")
        return field

    def adjoint(self, field: Tensor) -> Tensor:
        """Orthonormal inverse FFT over the last two axes."""
        waves: Tensor = torch.fft.ifft2(field, norm="ortho")
        return waves


CORNERED = FarField.cornered()
"""The far field with zero frequency at [0, 0]."""
