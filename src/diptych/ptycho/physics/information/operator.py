"""The Fisher information matrix of the Poisson model, as an operator: nothing of the size of the matrix is stored.

Counts k of a detector pixel follow a Poisson law with the expected counts I(x). The Fisher information of the unknowns
x is ``F = J^T diag(1 / I) J`` with J = dI / dx (S. M. Kay, Fundamentals of Statistical Signal Processing: Estimation
Theory, 1993, section 3.9); its inverse bounds the covariance of every unbiased estimator. With ``K = I^(-1/2) J``, the
derivative of twice the square root of the counts, F is ``K^T K``. K is bounded where I vanishes.

Unknowns are one flat real vector (n,): object, probe modes (real and imaginary part of each pixel), shifts of the
patterns (y, x), the relative change of each pattern's intensity, and the components and coefficients of a probe that
varies. Those that are known are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.forward import ForwardModel, Views, intensity
from diptych.ptycho.physics.information.varying import EqualPower
from diptych.ptycho.physics.patches import gather
from diptych.ptycho.physics.varying.probe import VaryingForward, mixed_modes

LEAST_EXPECTED = 1e-30
"""Expected counts below this carry no information: the square root has no derivative there."""


FEW = 0.1
"""Expected counts below which the correction for few photons vanishes again, where expansions do not hold.

Chosen by the coverage of error bars (``benchmarks/bound.py``, 1e5 photons): with a smaller value those of binary lines,
most of whose detector pixels are dark, become still wider than the errors are; with a larger one those of blocks cover
too little."""


@dataclass(frozen=True)
class Refined:
    """What is estimated together with the object.

    Parameters
    ----------
    probe, positions, factors : bool
        The probe modes, with components and coefficients where the probe varies; the shift of each pattern; the
        intensity of each pattern.
    """

    probe: bool = False
    positions: bool = False
    factors: bool = False


@dataclass(frozen=True, eq=False)
class Part:
    """Unknowns, or a change of them, by their meaning.

    Parameters
    ----------
    image : (H, W) complex tensor
        Object.
    probe : (P, N, N) complex tensor or None
        Probe modes.
    shifts : (M, 2) real tensor or None
        Shift (y, x) of each pattern, px.
    factors : (M,) real tensor or None
        Relative change of each pattern's intensity.
    components : (K, N, N) complex tensor or None
        Components of a probe that varies.
    weights : (M, K) complex tensor or None
        Their coefficients.
    """

    image: Tensor
    probe: Tensor | None = None
    shifts: Tensor | None = None
    factors: Tensor | None = None
    components: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Batch:
    """B patterns at the point where the information is computed.

    ``field`` (B, P, N, N) is the derivative of half the counts along the conjugate field, ``root`` (B, N, N) the root
    of the expected counts, larger where a pixel's information counts less and infinite where there is none, ``signal``
    (B, N, N) the counts without background, ``basis`` (B or 1, K + 1, N, N) first mode and components as they multiply
    the object, of a probe that varies.
    """

    views: Views
    field: Tensor
    root: Tensor
    signal: Tensor
    basis: Tensor | None = None


class Information:
    """Fisher information of the object and what is refined with it, at one object and probe.

    Parameters
    ----------
    forward : ForwardModel
        Expected counts of the patterns.
    image : (H, W) complex tensor
        Object.
    probe : (P, N, N) complex tensor
        Probe modes, sum |P|^2 in photons.
    refined : Refined
        What else is unknown.
    valid : (N, N) or (M, N, N) bool tensor, optional
        Detector pixels that were measured. Default: all.
    prior : float
        Standard deviation, in units of the object's modulus, with which a pixel's complex value is known without any
        photons: information of 2 / prior^2 for the real and for the imaginary part. It decides what pixels at the rim
        do that hardly any photons reach; where more than a few photons fall it changes nothing. 0: no prior.
    batch : int
        Patterns per FFT call.
    """

    def __init__(
        self,
        forward: ForwardModel,
        image: Tensor,
        probe: Tensor,
        refined: Refined | None = None,
        *,
        valid: Tensor | None = None,
        prior: float = 1.0,
        batch: int = 32,
    ) -> None:
        refined = refined or Refined()
        if refined.positions and forward.fractions is None:
            zero = torch.zeros((len(forward.corners), 2), dtype=torch.float64, device=image.device)
            forward = replace(forward, fractions=zero)
        self.forward, self.image, self.probe = forward, image, probe
        self.refined, self.valid, self.batch = refined, valid, batch
        # Half the leverage, where the correction for few photons is asked for.
        self.doubt = 0.0
        self.stiffness = 2 / prior**2 if prior else 0.0
        patterns = len(forward.corners)
        self.variation = forward.variation if isinstance(forward, VaryingForward) and refined.probe else None
        shapes = 0 if self.variation is None else len(self.variation.components)
        self._sizes = [
            2 * image.numel(),
            2 * probe.numel() if refined.probe else 0,
            2 * shapes * forward.size**2,
            2 * shapes * patterns,
            2 * patterns if refined.positions else 0,
            patterns if refined.factors else 0,
        ]

    @property
    def unknowns(self) -> int:
        """n, the number of real unknowns."""
        return sum(self._sizes)

    @property
    def patterns(self) -> int:
        """M."""
        return len(self.forward.corners)

    @property
    def measured(self) -> int:
        """Detector pixels of all patterns that were measured."""
        if self.valid is None:
            return self.patterns * self.forward.size**2
        return int(self.valid.sum()) * (self.patterns if self.valid.ndim == 2 else 1)

    def zeros(self) -> Tensor:
        """A vector of zeros (n,)."""
        return torch.zeros(self.unknowns, dtype=self.image.real.dtype, device=self.image.device)

    def parts(self, vector: Tensor) -> Part:
        """Views into a vector (n,), by meaning."""
        image, probe, components, weights, shifts, factors = torch.split(vector, self._sizes)
        varies = self.variation is not None
        return Part(
            torch.view_as_complex(image.view(*self.image.shape, 2)),
            torch.view_as_complex(probe.view(*self.probe.shape, 2)) if self.refined.probe else None,
            shifts.view(-1, 2) if self.refined.positions else None,
            factors if self.refined.factors else None,
            torch.view_as_complex(components.view(-1, *self.probe.shape[1:], 2)) if varies else None,
            torch.view_as_complex(weights.view(self.patterns, -1, 2)) if varies else None,
        )

    def times(self, vectors: Tensor) -> Tensor:
        """F times each of the vectors (K, n): (K, n). Four FFTs for each pattern, mode and two vectors, and no more
        memory than one batch of patterns.
        """
        # Each in memory of its own: the complex views need an even offset.
        added = [self.zeros() for _ in vectors]
        given, into = [self.parts(v.clone()) for v in vectors], [self.parts(v) for v in added]
        for batch in self._batches():
            for change, total in zip(given, into, strict=True):
                self._add_adjoint(batch, self._derivative(batch, change), total)
        out = torch.stack(added)
        out[:, : self._sizes[0]] += self.stiffness * vectors[:, : self._sizes[0]]
        return out

    def derivative(self, vector: Tensor) -> Tensor:
        """K times a vector (n,): the change of twice the square root of the expected counts, (M, N, N)."""
        change = self.parts(vector.clone())
        return torch.cat([self._derivative(batch, change) for batch in self._batches()])

    def adjoint(self, residuals: Tensor) -> Tensor:
        """K^T times residuals (M, N, N): (n,)."""
        out = self.zeros()
        total = self.parts(out)
        for batch in self._batches():
            self._add_adjoint(batch, residuals[batch.views.rows], total)
        return out

    def diagonal(self) -> Tensor:
        """Approximate diagonal of F, (n,), for preconditioning: illumination, transparency, and their counterparts."""
        out = self.zeros()
        light = self.forward.illumination(self.probe)
        parts = self.parts(out)
        torch.view_as_real(parts.image).copy_((2 * light + max(self.stiffness, 1e-9 * float(light.max())))[..., None])
        seen = self.forward.transparency(self.image)
        if parts.probe is not None:
            torch.view_as_real(parts.probe).copy_((2 * seen + 1e-6 * seen.max())[..., None])
        spectrum = intensity(torch.fft.fft2(self.forward.propagator.enter(self.probe), norm="ortho"))
        if self.variation is not None and parts.components is not None and parts.weights is not None:
            share = self.variation.coefficients[:, 1:].abs().square().mean(0)[:, None, None]
            torch.view_as_real(parts.components).copy_((share * (2 * seen + 1e-6 * seen.max()))[..., None])
            power = intensity(self.variation.components[:, None]).sum((1, 2))
            torch.view_as_real(parts.weights).copy_(2 * power[:, None].expand(-1, 2))
        if parts.shifts is not None:
            wave = 2 * math.pi * torch.fft.fftshift(torch.fft.fftfreq(self.forward.size, dtype=spectrum.dtype))
            wave = wave.to(spectrum.device).square()
            parts.shifts.copy_(4 * torch.stack([spectrum.sum(1) @ wave, spectrum.sum(0) @ wave]))
        if parts.factors is not None:
            parts.factors.fill_(float(spectrum.sum()))
        return out

    def dense(self) -> Tensor:
        """F as a matrix (n, n), of a probe that is the same in all patterns; for small problems (n below about 10,000).

        Built pattern by pattern: each touches only the pixels of its window.
        """
        if self.variation is not None:
            raise ValueError("the matrix of a probe that varies is not built: use times()")
        n = self.unknowns
        matrix = torch.zeros((n, n), dtype=self.image.real.dtype, device=self.image.device)
        for pattern in range(self.patterns):
            index, rows = self._rows(pattern)
            matrix.index_put_((index[:, None], index), rows @ rows.T, accumulate=True)
        matrix.diagonal()[: self._sizes[0]] += self.stiffness
        return matrix

    def _rows(self, pattern: int) -> tuple[Tensor, Tensor]:
        """Unknowns that one pattern depends on (u,), and its columns of K for them, (u, N^2)."""
        only = np.array([pattern])
        batch = self._view(only)
        views = batch.views
        size, forward = self.forward.size, self.forward
        everything = torch.arange(self.unknowns, device=self.image.device)
        split = torch.split(everything, self._sizes)
        window = gather(split[0].view(*self.image.shape, 2)[..., 0], forward.corners[only], size).flatten()
        unit = torch.eye(size * size, dtype=self.image.dtype, device=self.image.device).view(-1, size, size)
        index, rows = [], []

        def add(where: Tensor, waves: Tensor) -> None:
            index.append(where)
            rows.append(self._counted(only, self._per_root(batch, waves)).flatten(1))

        for phase in (0, 1):
            add(window + phase, views.placed((1j**phase) * views.modes[0] * unit[:, None]))
        if self.refined.probe:
            for mode in range(len(self.probe)):
                for phase in (0, 1):
                    moved = forward.moved_modes(unit * (1j**phase), only)
                    waves = torch.zeros((len(unit), *self.probe.shape), dtype=unit.dtype, device=unit.device)
                    waves[:, mode] = moved[0] * views.patches
                    add(split[1].view(len(self.probe), -1, 2)[mode, :, phase], views.placed(waves))
        if self.refined.positions:
            shifts = torch.eye(2, dtype=self.image.real.dtype, device=self.image.device)
            waves = torch.cat([self._moving(views, shift[None]) for shift in shifts])
            add(split[4].view(-1, 2)[pattern], waves)
        if self.refined.factors:
            index.append(split[5][pattern : pattern + 1])
            rows.append(self._counted(only, batch.signal / batch.root).flatten(1))
        return torch.cat(index), torch.cat(rows)

    def _batches(self) -> Iterator[_Batch]:
        for start in range(0, self.patterns, self.batch):
            yield self._view(np.arange(start, min(start + self.batch, self.patterns)))

    def _view(self, some: NDArray[np.int64]) -> _Batch:
        views = self.forward.views(self.image, self.probe, some)
        field = self.forward.propagator.forward(views.exit_waves())
        signal = self.forward.seen(intensity(field))
        factors = self.forward.factors
        if factors is not None and (given := factors.of(torch.from_numpy(some).to(self.image.device))) is not None:
            signal, field = signal * given, field * given[:, None]
        expected = signal if self.forward.background is None else signal + self.forward.background
        doubtful = expected * (1 + self.doubt * expected / (expected.square() + FEW**2)) if self.doubt else expected
        root = torch.where(expected > LEAST_EXPECTED, doubtful, torch.inf).sqrt()
        basis = None
        if self.variation is not None:
            basis = self.forward.moved_modes(torch.cat([self.variation.first[None], self.variation.components]), some)
        return _Batch(views, field, root, signal, basis)

    def _derivative(self, batch: _Batch, change: Part) -> Tensor:
        """K times a change, for one batch: (B, N, N)."""
        views = batch.views
        patches = gather(change.image, self.forward.corners[views.batch], self.forward.size)
        waves = views.modes * patches[:, None]
        if change.probe is not None:
            waves = waves + self._probe_change(batch, change) * views.patches[:, None]
        waves = views.placed(waves)
        if change.shifts is not None:
            waves = waves + self._moving(views, change.shifts[views.rows])
        out = self._per_root(batch, waves)
        if change.factors is not None:
            out = out + batch.signal / batch.root * change.factors[views.rows, None, None]
        return self._counted(views.batch, out)

    def _add_adjoint(self, batch: _Batch, residuals: Tensor, total: Part) -> None:
        """Add K^T times the residuals (B, N, N) of one batch to ``total``."""
        views, weighted = batch.views, self._counted(batch.views.batch, residuals) / batch.root
        if total.factors is not None:
            total.factors[views.rows] += (weighted * batch.signal).sum((1, 2))
        waves = self.forward.propagator.adjoint(batch.field * self.forward.seen(2 * weighted)[:, None])
        self.forward.add_object_adjoint(views, waves, total.image)
        if self.variation is not None:
            self._add_variation_adjoint(views, waves.clone(), total)
        constant = None if self.variation is not None else total.probe
        if total.shifts is not None:
            probe, along = self.forward.probe_and_shift_adjoint(views, waves)
            total.shifts[views.rows] += along.to(total.shifts.dtype)
            if constant is not None:
                constant.add_(probe)
        elif constant is not None:
            constant.add_(self.forward.probe_adjoint(views, waves))

    def _probe_change(self, batch: _Batch, change: Part) -> Tensor:
        """Change of the modes as they multiply the object (B or 1, P, N, N), for a change of the probe."""
        assert change.probe is not None
        some = batch.views.batch
        if change.components is None or change.weights is None:
            return self.forward.moved_modes(change.probe, some)
        power, count = self._power(some), len(change.probe)
        moved = self.forward.moved_modes(torch.cat([change.probe, change.components]), some)
        basis = torch.cat([change.probe[:1], change.components])
        weights = power.change(basis, change.weights[batch.views.rows])
        out = mixed_modes(moved, power.weights, count)
        assert batch.basis is not None
        out[:, :1] += mixed_modes(batch.basis, weights, 1)
        return out

    def _add_variation_adjoint(self, views: Views, waves: Tensor, total: Part) -> None:
        """Add the adjoint of :meth:`_probe_change` to ``total``. Overwrites ``waves`` (B, P, N, N)."""
        assert isinstance(self.forward, VaryingForward)
        assert total.probe is not None
        assert total.components is not None
        assert total.weights is not None
        shapes, in_weights = self.forward.varied_adjoint(views, waves)
        basis, weights = self._power(views.batch).adjoint(in_weights)
        count = len(total.probe)
        total.probe.add_(shapes[:count])
        total.components.add_(shapes[count:])
        total.probe[0] += basis[0]
        total.components.add_(basis[1:])
        total.weights[views.rows] += weights

    def _power(self, some: NDArray[np.int64]) -> EqualPower:
        assert self.variation is not None
        return EqualPower.of(self.variation, self.variation.of_batch(some))

    def _per_root(self, batch: _Batch, waves: Tensor) -> Tensor:
        """Change of twice the root of the counts for a change of the exit waves, (B, N, N)."""
        change = self.forward.propagator.forward(waves)
        real, imag = batch.field.real * change.real, batch.field.imag * change.imag
        return self.forward.seen(2 * (real + imag).sum(1)) / batch.root

    def _moving(self, views: Views, shifts: Tensor) -> Tensor:
        """Change of the exit waves (B, P, N, N) for a change of the shifts (B, 2)."""
        assert views.spectrum is not None
        assert views.ramps is not None
        size = self.forward.size
        frequency = torch.fft.fftshift(torch.fft.fftfreq(size, dtype=shifts.dtype, device=shifts.device))
        # As in the adjoint: the Nyquist frequency, with both signs, has no derivative at a shift of 0.
        frequency[0] = 0.0 if size % 2 == 0 else frequency[0]
        angle = shifts[:, 0, None, None] * frequency[:, None] + shifts[:, 1, None, None] * frequency
        ramps = views.ramps * torch.complex(torch.zeros_like(angle), -2 * math.pi * angle)
        # The spectrum of modes that vary has an axis of patterns.
        return views.changes(torch.fft.ifft2(views.spectrum * ramps[:, None]), angle)

    def _counted(self, batch: NDArray[np.int64], values: Tensor) -> Tensor:
        """Values (B, N, N) with 0 at masked pixels."""
        if self.valid is None:
            return values
        return values * (self.valid if self.valid.ndim == 2 else self.valid[torch.from_numpy(batch)])
