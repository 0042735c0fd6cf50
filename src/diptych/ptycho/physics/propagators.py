"""Propagation from exit wave to detector: a protocol, the far field in two layouts of the FFT, and the near field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.compiled.fourier import fft2, ifft2

if TYPE_CHECKING:
    from diptych.ptycho.geometry import Geometry


class Propagator(Protocol):
    """A unitary map from exit waves to the detector, in two parts.

    ``enter`` is applied once to the probe, so that whatever acts as a factor on the exit wave costs nothing per
    pattern; ``forward`` is applied to each exit wave. The detector field of a wave ``P O`` is ``forward(enter(P) O)``.
    """

    @property
    def fixed(self) -> bool:
        """Whether the counts show where an exit wave is: not in the far field."""

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
    fixed = False

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
        return fft2(waves)

    def adjoint(self, field: Tensor) -> Tensor:
        """Orthonormal inverse FFT over the last two axes."""
        return ifft2(field)


@dataclass(frozen=True, eq=False)
class NearField:
    """Fresnel propagation by the transfer function exp(-i pi wavelength z q^2), which is unitary and periodic.

    The field at the detector is that of a parallel beam over the effective distance z, on the object's pixels: the
    curvature of a diverging beam only magnifies the image (Fresnel scaling theorem; Paganin, Coherent X-Ray Optics,
    2006, sections 1.4 and 4.1).

    The probe enters with the far field's ramp. So its spectrum, and that of every exit wave, has zero frequency at
    [N // 2, N // 2] as in the far field, and all that acts on spectra (shifts of the probe) is the same code. At the
    detector the ramp is a factor of modulus 1 on the field, which counts do not show.

    Parameters
    ----------
    entrance : FarField
        Holds the ramp.
    transfer : (N, N) complex tensor
        Factors of the frequencies, zero frequency at [N // 2, N // 2].
    """

    entrance: FarField
    transfer: Tensor
    fixed = True

    @classmethod
    def over(
        cls,
        distance_m: float,
        wavelength_m: float,
        pixel_m: tuple[float, float],
        size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> NearField:
        """Propagation over an effective distance, in metres, of waves on object pixels ``pixel_m`` (y, x)."""
        frequency = torch.fft.fftshift(torch.fft.fftfreq(size, dtype=torch.float64))
        y, x = (torch.square(frequency / pixel) for pixel in pixel_m)
        angle = -torch.pi * wavelength_m * distance_m * (y[:, None] + x)
        transfer = torch.polar(torch.ones_like(angle), angle)
        return cls(FarField.centred(size, dtype, device), transfer.to(device, dtype))

    def enter(self, probe: Tensor) -> Tensor:
        """The probe times the ramp."""
        return self.entrance.enter(probe)

    def leave(self, probe: Tensor) -> Tensor:
        """The probe times the conjugate ramp."""
        return self.entrance.leave(probe)

    def forward(self, waves: Tensor) -> Tensor:
        """The propagated waves, times the ramp."""
        return ifft2(fft2(waves).mul_(self.transfer))

    def adjoint(self, field: Tensor) -> Tensor:
        """Propagation back."""
        return ifft2(fft2(field).mul_(self.transfer.conj()))


def shift_ramps(fractions: Tensor, size: int) -> Tensor:
    """Fourier-shift factors (B, 2, N), corner-centred: an FFT times these is that of the image moved by ``fractions``.

    Parameters
    ----------
    fractions : (B, 2) tensor
        Shift (y, x) in pixels.
    size : int
        N.
    """
    frequency = torch.fft.fftfreq(size, device=fractions.device, dtype=fractions.dtype)
    angle = -2 * math.pi * frequency * fractions[:, :, None]
    ramps = torch.polar(torch.ones_like(angle), angle)
    if size % 2 == 0:
        # The Nyquist row stands for both signs: its mean keeps the shift of a real image real.
        ramps[:, :, size // 2] = torch.cos(math.pi * fractions).to(ramps.dtype)
    return ramps


def centred_ramps(fractions: Tensor, size: int) -> Tensor:
    """:func:`shift_ramps` (B, 2, N) of spectra with zero frequency at [N // 2, N // 2], as those of entered probes."""
    ramps: Tensor = torch.fft.fftshift(shift_ramps(fractions, size), -1)
    return ramps


def centred_frequency(size: int, device: torch.device | None = None) -> Tensor:
    """Cycles per pixel (N,) along an axis of such a spectrum, float64; 0 at the Nyquist frequency, which has both signs
    and no derivative along a shift.
    """
    frequency: Tensor = torch.fft.fftshift(torch.fft.fftfreq(size, dtype=torch.float64, device=device))
    frequency[0] = 0.0 if size % 2 == 0 else frequency[0]
    return frequency


def moved(waves: Tensor, factors: Tensor) -> Tensor:
    """Waves (B or 1, P, N, N) with their spectra times ``factors`` (B, N, N), as of a shift, or (N, N)."""
    spectrum = fft2(waves)
    made = compiled.product(spectrum, factors)
    return ifft2(spectrum * (factors if factors.ndim == 2 else factors[:, None]) if made is None else made)


def propagator_of(geometry: Geometry | None, size: int, dtype: torch.dtype, device: torch.device) -> Propagator:
    """From exit wave to detector in a scan's geometry; the far field where none is known.

    Raises
    ------
    InputError
        If the geometry is near field and lacks the energy, the distance or the detector pixel.
    """
    if geometry is None or geometry.propagation == "far":
        return FarField.centred(size, dtype, device)
    pixel, distance, wavelength = geometry.object_pixel_m(size), geometry.effective_distance_m, geometry.wavelength_m
    if pixel is None or distance is None or wavelength is None:
        missing = [name for name in ("energy_eV", "distance_m", "detector_pixel_m") if getattr(geometry, name) is None]
        raise InputError(
            "geometry",
            f"is near field without {', '.join(missing)}",
            "energy, distance and detector pixel: they set how far waves spread",
            f"Pass what is missing ({', '.join('--' + name.replace('_', '-') for name in missing)}).",
        )
    return NearField.over(distance, wavelength, pixel, size, dtype, device)


CORNERED = FarField.cornered()
"""The far field with zero frequency at [0, 0]."""


def shift_probe(probe: Tensor, fractions: Tensor) -> Tensor:
    """Probe modes (P, N, N) moved by ``fractions`` (B, 2) pixels (y, x): (B, P, N, N), band-limited and periodic."""
    return moved(probe[None], on_grid(shift_ramps(fractions.to(probe.real.dtype), probe.shape[-1])))


def on_grid(ramps: Tensor) -> Tensor:
    """(B, N, N) from one factor for each axis, (B, 2, N)."""
    return ramps[:, 0, :, None] * ramps[:, 1, None, :]
