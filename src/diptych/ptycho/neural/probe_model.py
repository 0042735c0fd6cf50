"""What the physics knows of one scan besides its patterns: probe, gauge, mask and background."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diptych.ptycho.networks.registry import Exposure
from diptych.ptycho.neural.data.patterns import Patterns, pieces
from diptych.ptycho.physics.forward import AXES, expected_counts, shifted_modes
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.probe import gauge_power, power


class Beam(nn.Module):
    """Probe, valid pixels and background of a scan, on the device of the model.

    Parameters
    ----------
    probe : (P, N, N) complex
        Incoherent modes, in any units: sum |P|^2 becomes ``power``.
    power : float
        Photons per pattern through a transparent object.
    valid : (N, N) bool, optional
        True at valid detector pixels, zero frequency centred. Masks that vary from pattern to pattern come with the
        batch.
    background : (N, N), optional
        Expected background counts, zero frequency centred.
    refine : bool
        Learn the probe: its modes are then parameters, of which only the shape counts, never the scale.
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
        # As two real numbers: optimisers and files that know no complex numbers can then hold it.
        stored = torch.view_as_real(start / start.abs().square().sum().sqrt()).clone()
        if refine:
            self.probe = nn.Parameter(stored)
        else:
            self.register_buffer("probe", stored)
        self.register_buffer("valid", None if valid is None else torch.from_numpy(np.fft.ifftshift(valid, AXES).copy()))
        corner = None if background is None else torch.from_numpy(np.fft.ifftshift(background, AXES).astype(np.float32))
        self.register_buffer("background", None if corner is None else corner / self.power)

    @classmethod
    def of(cls, patterns: Patterns, *, refine: bool = False) -> Beam:
        """The beam of a scan that has a probe, in the gauge that every solver of the package keeps
        (:func:`power_of`).
        """
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
        """What a generator sees of groups: ``counts`` (B, C, N, N), corner-centred, and ``positions`` (B, C, 2).

        ``valid`` (B, C, N, N) is given where the mask varies from pattern to pattern.
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

    def foresee(self, patches: Tensor, exposure: Exposure) -> Tensor:
        """Counts (B, C, N, N) that the patches predict."""
        return self.power * expected_counts(exposure.modes, patches, self.background)


def power_of(patterns: Patterns) -> float:
    """Photons per pattern through a transparent object.

    That of a calibrated probe; else the 99th percentile of the patterns' valid totals, less the background.
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
