"""The forward model: from object and probe to expected counts, and its adjoints.

One chain serves simulation, networks and engines::

    exit wave        psi_p = P_p O                       probe mode p times the object in the pattern's window
    propagation      Psi_p = A psi_p                     see :mod:`diptych.ptycho.physics.propagators`
    expected counts  lambda = K sum_p |Psi_p|^2 + b      incoherent modes, the detector's point spread and background

The elementary functions (:func:`shifted_modes`, :func:`exit_waves`, :func:`intensity`, :func:`expected_counts`) take
tensors with any leading axes and are differentiable. :class:`ForwardModel` applies them to batches of a scan, with the
adjoints that iterative engines need. Orthonormal FFTs throughout: sum |F psi|^2 = sum |psi|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.compiled.fourier import ifft2
from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.physics.frame_factors import FrameFactors
from diptych.ptycho.physics.patches import add_products, conjugate_product, gather, inside, multiply, scatter_add, split
from diptych.ptycho.physics.propagators import (
    CORNERED,
    FarField,
    Propagator,
    centred_frequency,
    centred_ramps,
    moved,
    on_grid,
    shift_probe,
)

AXES = (-2, -1)
"""The image axes (y, x) of every array."""


def shifted_modes(probe: Tensor, positions: NDArray[np.float64]) -> Tensor:
    """Probe modes (P, N, N) at the sub-pixel remainder of positions (B, C, 2): (B, C, P, N, N).

    (1, 1, P, N, N) where all positions are whole pixels.
    """
    _, fraction = split(positions)
    if not fraction.any():
        return probe[None, None]
    moved = shift_probe(probe, torch.from_numpy(fraction.reshape(-1, 2)).to(probe.device))
    return moved.reshape(*positions.shape[:-1], *probe.shape)


def exit_waves(modes: Tensor, patches: Tensor) -> Tensor:
    """Exit waves (..., P, N, N): probe modes (..., P, N, N) times object patches (..., N, N)."""
    made = compiled.product(modes, patches)
    return modes * patches.unsqueeze(-3) if made is None else made


def intensity(modes: Tensor) -> Tensor:
    """Sum over incoherent modes of |wave|^2: (..., N, N) real from (..., P, N, N)."""
    if (summed := compiled.squared_modulus(modes)) is not None:
        return summed
    if modes.device.type == "cpu" and not modes.requires_grad:
        # NumPy computes moduli several times faster than torch, which has no vector code for them.
        modulus = np.abs(modes.resolve_conj().numpy())
        # Diverging waves give infinite counts, which the fit shows; no warning is needed here.
        with np.errstate(over="ignore"):
            squared = torch.from_numpy(np.square(modulus, out=modulus))
    else:
        squared = modes.real.square() + modes.imag.square()
    return squared.squeeze(-3) if modes.shape[-3] == 1 else squared.sum(-3)


def expected_counts(
    modes: Tensor, patches: Tensor, background: Tensor | None = None, propagator: Propagator = CORNERED
) -> Tensor:
    """Expected counts (..., N, N) of object patches under probe modes.

    Parameters
    ----------
    modes : (..., P, N, N) complex tensor
        Incoherent modes; sum |mode|^2 is the photons per pattern through a transparent object.
    patches : (..., N, N) complex tensor
        The object in each pattern's window.
    background : (N, N) tensor, optional
        Known expected background counts, in the layout of the propagator.
    propagator : Propagator
        From exit wave to detector; the far field with zero frequency at [0, 0] by default.
    """
    total = intensity(propagator.forward(exit_waves(propagator.enter(modes), patches)))
    return total if background is None else total + background


@dataclass(frozen=True, eq=False)
class Views:
    """Object patches and probe modes of a batch of B patterns, before propagation.

    Parameters
    ----------
    batch : (B,) int64 array
        Which patterns.
    patches : (B, N, N) complex tensor
        The object in each window.
    modes : (B or 1, P, N, N) complex tensor
        Probe modes as they multiply the object: shifted by the sub-pixel remainder, and ``enter``-ed.
    ramps : (B, N, N) complex tensor or None
        Fourier factors of the shifts.
    spectrum : (P, N, N) or (B, P, N, N) complex tensor or None
        FFT of the ``enter``-ed modes before the shift.
    fixed : bool
        Near field: the detector shows where a wave is, and does not move with the probe.
    """

    batch: NDArray[np.int64]
    patches: Tensor
    modes: Tensor
    ramps: Tensor | None
    spectrum: Tensor | None = None
    fixed: bool = False

    @property
    def rows(self) -> slice:
        """The batch as a slice; only for batches of consecutive patterns."""
        return slice(int(self.batch[0]), int(self.batch[-1]) + 1)

    def exit_waves(self) -> Tensor:
        """(B, P, N, N), where they stand before the detector."""
        return self.placed(exit_waves(self.modes, self.patches))

    def placed(self, waves: Tensor) -> Tensor:
        """Waves (B, P, N, N) made of these modes and patches, where they stand before the detector.

        The modes were moved against the object by the sub-pixel remainder. In the near field it is the object that
        moves, so the waves are moved back; far-field counts do not show it.
        """
        return waves if self.ramps is None or not self.fixed else moved(waves, self.ramps.conj())

    def unplaced(self, waves: Tensor) -> Tensor:
        """The adjoint of :meth:`placed`."""
        return waves if self.ramps is None or not self.fixed else moved(waves, self.ramps)

    def changes(self, slopes: Tensor, frequency: Tensor) -> Tensor:
        """Change of the exit waves (B, P, N, N) along a shift, from that of the modes, ``slopes`` (B, P, N, N).

        ``frequency`` is that of each pixel of the spectrum along the shift, cycles, (N, N) or (B, N, N).
        """
        change = slopes * self.patches[:, None]
        if self.fixed:
            change = change + moved(exit_waves(self.modes, self.patches), 2j * math.pi * frequency)
        return self.placed(change)


@dataclass(eq=False)
class ForwardModel:
    """The forward model of a scan's patterns, and its adjoints.

    Parameters
    ----------
    size : int
        N, the side of a pattern.
    corners : (M, 2) int64 array
        Array index on the object canvas of each window's pixel [0, 0].
    origin : (int, int)
        Coordinate (y, x) of the canvas's pixel [0, 0].
    shape : (int, int)
        Of the object canvas.
    propagator : Propagator
        From exit wave to detector.
    fractions : (M, 2) float64 tensor or None
        Shift (y, x) of the probe against each window, pixels: the sub-pixel remainder of the positions, and more where
        positions are refined. None where all positions are whole pixels.
    background : (N, N) tensor or None
        Expected background counts.
    factors : FrameFactors or None
        Factor of each pattern's intensity.
    spread : PointSpread or None
        Of the detector.
    """

    size: int
    corners: NDArray[np.int64]
    origin: tuple[int, int]
    shape: tuple[int, int]
    propagator: Propagator
    fractions: Tensor | None = None
    background: Tensor | None = None
    factors: FrameFactors | None = None
    spread: PointSpread | None = None

    @classmethod
    def placed(
        cls,
        propagator: Propagator,
        positions: NDArray[np.float64],
        size: int,
        origin: tuple[int, int],
        shape: tuple[int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
        subpixel: bool = True,
        least_shift: float = 0.0,
        background: Tensor | None = None,
    ) -> ForwardModel:
        """Patterns at positions on a canvas.

        Parameters
        ----------
        propagator : Propagator
            From exit wave to detector; see :func:`~diptych.ptycho.physics.propagators.propagator_of`.
        positions : (M, 2) float64 array
            (y, x) in object pixels.
        size, origin, shape : int, (int, int), (int, int)
            N; coordinate of the object canvas's pixel [0, 0], and its sides.
        dtype : torch.dtype
            complex64 or complex128.
        subpixel : bool
            Shift the probe by the sub-pixel remainder of each position; else positions are rounded.
        least_shift : float
            Where no remainder exceeds this, in pixels, all positions count as whole, and no probe is shifted.

        Raises
        ------
        InputError
            If a window leaves the canvas.
        """
        whole, fraction = split(positions)
        corners = inside(whole - np.asarray(origin) - size // 2, size, shape)
        moved = subpixel and np.abs(fraction).max(initial=0.0) > least_shift
        fractions = torch.from_numpy(fraction).to(device) if moved else None
        factors = FrameFactors(len(positions), dtype.to_real(), device)
        return cls(size, corners, origin, shape, propagator, fractions, background, factors)

    @classmethod
    def far_field(
        cls,
        positions: NDArray[np.float64],
        size: int,
        origin: tuple[int, int],
        shape: tuple[int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
        **rest: Any,
    ) -> ForwardModel:
        """:meth:`placed` with far-field patterns that have zero frequency at [N // 2, N // 2]."""
        far = FarField.centred(size, dtype, device)
        return cls.placed(far, positions, size, origin, shape, dtype=dtype, device=device, **rest)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Current positions (M, 2), (y, x) in object pixels."""
        whole: NDArray[np.float64] = (self.corners + np.asarray(self.origin) + self.size // 2).astype(np.float64)
        if self.fractions is not None:
            whole += self.fractions.cpu().numpy()
        return whole

    def move(self, positions: NDArray[np.float64], origin: tuple[int, int], shape: tuple[int, int]) -> None:
        """Change the positions, and the canvas that holds their windows.

        Raises
        ------
        InputError
            If a window leaves the canvas.
        """
        whole, fraction = split(positions)
        self.corners = inside(whole - np.asarray(origin) - self.size // 2, self.size, shape)
        self.fractions = torch.from_numpy(fraction)
        self.origin, self.shape = origin, shape

    def views(self, image: Tensor, probe: Tensor, batch: NDArray[np.int64], fractions: Tensor | None = None) -> Views:
        """Patches and probe modes of some patterns.

        Parameters
        ----------
        image : (H, W) complex tensor
            The object on the canvas.
        probe : (P, N, N) complex tensor
            Incoherent modes.
        batch : (B,) int64 array
            Which patterns.
        fractions : (M, 2) tensor, optional
            Shifts in the place of :attr:`fractions`.
        """
        patches = gather(image, self.corners[batch], self.size)
        return self.views_of(patches, probe, batch, self.fractions if fractions is None else fractions)

    def views_of(self, patches: Tensor, probe: Tensor, batch: NDArray[np.int64], fractions: Tensor | None) -> Views:
        """:meth:`views` of given patches (B, N, N)."""
        return Views(batch, patches, *self._modes(probe, batch, fractions), self.propagator.fixed)

    def moved_modes(self, probe: Tensor, batch: NDArray[np.int64]) -> Tensor:
        """Probe modes (P, N, N), or a change of them, as they multiply the object: (B or 1, P, N, N). Linear."""
        return self._modes(probe, batch, self.fractions)[0]

    def _modes(
        self, probe: Tensor, batch: NDArray[np.int64], fractions: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Entered probe modes shifted for a batch (B or 1, P, N, N), their ramps (B, N, N) and spectrum (P, N, N)."""
        probe = self.propagator.enter(probe)
        if fractions is None:
            return probe[None], None, None
        # The ramp of the propagator moves the probe's spectrum to the centre, and the shift factors with it.
        some = fractions[torch.from_numpy(batch).to(fractions.device)].to(probe.device)
        ramps = on_grid(centred_ramps(some, self.size).to(probe.dtype))
        spectrum = torch.fft.fft2(probe)
        return ifft2(exit_waves(spectrum[None], ramps), norm="backward"), ramps, spectrum

    def detect(self, waves: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Field at the detector (B, P, N, N) of exit waves, and the expected counts (B, N, N).

        ``factors`` (B, 1, 1) multiply the intensity, not the field.
        """
        field = self.propagator.forward(waves)
        expected = self.seen(intensity(field))
        if factors is not None:
            expected = expected * factors
        return field, expected if self.background is None else expected.add_(self.background)

    def seen(self, light: Tensor) -> Tensor:
        """What the detector counts of the light (B, N, N) on its pixels. Linear, and its own adjoint."""
        return light if self.spread is None else self.spread(light)

    def back(self, field: Tensor, weights: Tensor) -> Tensor:
        """Exit waves (B, P, N, N) of ``field`` times real ``weights`` (B, N, N) of the counts. Overwrites ``field``."""
        return self.propagator.adjoint(multiply(field, self.seen(weights)[:, None]))

    def add_object_adjoint(self, views: Views, waves: Tensor, canvas: Tensor) -> None:
        """Add sum over patterns and modes of conj(P) waves, placed in their windows, to ``canvas`` (H, W) in place.

        The adjoint of ``image -> exit waves``; ``waves`` is (B, P, N, N).
        """
        add_products(canvas, self.corners[views.batch], views.unplaced(waves), views.modes)

    def probe_adjoint(self, views: Views, waves: Tensor) -> Tensor:
        """Sum over patterns of conj(O) waves, each shifted back: (P, N, N).

        The adjoint of ``probe -> exit waves``. Overwrites ``waves`` (B, P, N, N).
        """
        waves = views.unplaced(waves)
        if views.ramps is None:
            summed = self._summed(views, conjugate_product(waves, views.patches))
        else:
            summed = torch.fft.fft2(self._summed(views, self._unshifted(views, waves)))
        return self.propagator.leave(summed.conj_physical_())

    def probe_and_shift_adjoint(self, views: Views, waves: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`probe_adjoint`, and the derivative along each pattern's shift: (P, N, N) and (B, 2), y and x.

        The second is ``Re <waves, d(exit waves) / d(shift)>``, per pixel. The shifts act in Fourier space, so that in
        the far field no further FFT is needed. Overwrites ``waves`` (B, P, N, N).
        """
        assert views.spectrum is not None
        waves = views.unplaced(waves)
        # The object moves with the shift: the exit waves do, besides the modes.
        own = (
            torch.fft.fft2(waves).conj() * torch.fft.fft2(views.modes * views.patches[:, None]) if views.fixed else None
        )
        unshifted = self._unshifted(views, waves)
        weight = (unshifted * views.spectrum).imag.sum(1, dtype=torch.float64)
        weight = weight if own is None else weight - own.imag.sum(1, dtype=torch.float64) / self.size**2
        frequency = centred_frequency(self.size, weight.device)
        along = torch.stack([weight.sum(-1) @ frequency, weight.sum(-2) @ frequency], -1).mul_(2 * math.pi)
        return self.propagator.leave(torch.fft.fft2(self._summed(views, unshifted)).conj_physical_()), along

    def _summed(self, views: Views, conjugates: Tensor) -> Tensor:
        """Sum over the patterns of conjugates (B, P, N, N) of changes of the modes: (P, N, N)."""
        return conjugates.sum(0)

    def _unshifted(self, views: Views, waves: Tensor) -> Tensor:
        """Inverse FFT of conj(waves) O, times the ramps of the shifts: (B, P, N, N). Overwrites ``waves``."""
        assert views.ramps is not None
        unshifted = ifft2(conjugate_product(waves, views.patches), norm="backward")
        made = compiled.product(unshifted, views.ramps)
        return unshifted.mul_(views.ramps[:, None]) if made is None else made

    def illumination(self, probe: Tensor) -> Tensor:
        """Sum over patterns and modes of the probe's |P|^2 on the canvas, (H, W) real, photons per object pixel."""
        canvas = torch.zeros(self.shape, dtype=probe.real.dtype, device=probe.device)
        for start in range(0, len(self.corners), 64):
            batch = np.arange(start, min(start + 64, len(self.corners)))
            light = intensity(probe[None] if self.fractions is None else self._modes(probe, batch, self.fractions)[0])
            scatter_add(canvas, self.corners[batch], light.expand(len(batch), -1, -1))
        return canvas

    def transparency(self, image: Tensor) -> Tensor:
        """Sum over patterns of |O|^2 in the window, (N, N) real."""
        total = torch.zeros((self.size, self.size), dtype=image.real.dtype, device=image.device)
        squared = intensity(image[None])
        for start in range(0, len(self.corners), 256):
            total += gather(squared, self.corners[start : start + 256], self.size).sum(0)
        return total
