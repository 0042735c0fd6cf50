"""The probe, mask and background of a scan as a torch module: from object patches to predicted counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diptych.errors import InputError
from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.neural.data.patterns import Patterns, pieces
from diptych.ptycho.physics.forward import AXES, expected_counts, shifted_modes
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.probe import gauge_power, power


class ProbeModel(nn.Module):
    """Probe, valid pixels and background of a scan.

    Parameters
    ----------
    probe : (P, N, N) complex
        Incoherent modes, in any units: they are scaled so that sum |P|^2 is ``power``.
    power : float
        Photons per pattern through a transparent object.
    valid : (N, N) bool, optional
        True at valid detector pixels, zero frequency centred. Masks that differ between patterns are passed with each
        batch.
    background : (N, N), optional
        Expected background counts, zero frequency centred.
    refine : bool
        Optimise the probe: its modes become parameters, normalised so that their scale has no effect.
    """

    probe: Tensor
    valid: Tensor | None
    background: Tensor | None

    def __init__(
        self,
        probe: NDArray[np.complexfloating[Any, Any]],
        power: float,
        valid: NDArray[np.bool_] | None = None,
        background: NDArray[np.float32] | None = None,
        *,
        refine: bool = False,
    ) -> None:
        super().__init__()
        self.power = float(power)
        start = torch.from_numpy(np.ascontiguousarray(probe, np.complex64))
        # Stored as real and imaginary part, because optimisers and safetensors do not support complex numbers.
        stored = torch.view_as_real(start / start.abs().square().sum().sqrt()).clone()
        if refine:
            self.probe = nn.Parameter(stored)
        else:
            self.register_buffer("probe", stored)
        self.register_buffer("valid", None if valid is None else torch.from_numpy(np.fft.ifftshift(valid, AXES).copy()))
        corner = None if background is None else torch.from_numpy(np.fft.ifftshift(background, AXES).astype(np.float32))
        self.register_buffer("background", None if corner is None else corner / self.power)

    @classmethod
    def of(cls, patterns: Patterns, *, refine: bool = False) -> ProbeModel:
        """Make the probe model of a scan that has a probe, scaled by :func:`power_of` as in every engine.

        Raises
        ------
        InputError
            If the patterns are near-field images.
        """
        if patterns.geometry is not None and patterns.geometry.propagation == "near":
            raise InputError(
                patterns.name,
                "is a near-field scan",
                "far-field patterns: networks know the far field alone",
                "Reconstruct it with an engine, without a model.",
            )
        assert patterns.probe is not None
        return cls(patterns.probe, power_of(patterns), patterns.mask, patterns.background, refine=refine)

    @property
    def size(self) -> int:
        """N."""
        return int(self.probe.shape[-2])

    def modes(self) -> Tensor:
        """Probe modes (P, N, N) with sum |P|^2 = 1."""
        probe = torch.view_as_complex(self.probe)
        return probe / probe.abs().square().sum().sqrt()

    def expose(self, counts: Tensor, positions: NDArray[np.float64], valid: Tensor | None = None) -> Exposure:
        """Make the input of a generator.

        Parameters
        ----------
        counts : (B, C, N, N) tensor
            Measured counts of B groups of C patterns, corner-centred.
        positions : (B, C, 2) float64
            (y, x), object pixels.
        valid : (B, C, N, N) bool tensor, optional
            Masks of the patterns, where they differ.
        """
        offsets = torch.from_numpy(positions - positions.mean(1, keepdims=True)).to(counts.device, counts.dtype)
        return Exposure(
            counts / self.power,
            shifted_modes(self.modes(), positions),
            self.background,
            self.valid if valid is None else valid,
            Layout.of(positions, self.size),
            offsets,
        )

    def predicted_counts(self, patches: Tensor, exposure: Exposure) -> Tensor:
        """The forward model: predicted counts (B, C, N, N) of object patches (B, C, N, N)."""
        return self.power * expected_counts(exposure.modes, patches, self.background)


def power_of(patterns: Patterns) -> float:
    """Photons per pattern through a transparent object.

    sum |P|^2 of a calibrated probe; otherwise the 99th percentile of the patterns' valid totals above background.
    """
    if patterns.probe_calibrated and patterns.probe is not None:
        return power(patterns.probe)
    totals = []
    for part in pieces(len(patterns)):
        counts, valid = patterns.read(part)
        total = counts.sum((-1, -2), dtype=np.float64)
        if patterns.background is not None:
            seen = patterns.mask if valid is None else valid
            shown = patterns.background if seen is None else patterns.background * seen
            total -= shown.sum((-1, -2), dtype=np.float64)
        totals.append(total)
    return gauge_power(np.concatenate(totals))
