"""A pass of maximum likelihood or PIE over patterns in one compiled call per thread, where what was measured allows it.

It does for a worker's patterns what :class:`~diptych.ptycho.engines.likelihood.maximum_likelihood.MaximumLikelihood`,
:class:`~diptych.ptycho.engines.pie.Pie` and :class:`~diptych.ptycho.neural.canvas.CanvasLikelihood` do in steps, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import local
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.compiled import optional
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.propagators import FarField, centred_frequency, centred_ramps
from diptych.ptycho.physics.varying.probe import VaryingForward

CHUNK = 256
"""Most patterns per call: the sum over them of the probe's gradient is in single precision."""


class Measured(Protocol):
    """What a pass is made over: see :class:`~diptych.ptycho.engines.problem.Problem`."""

    @property
    def counts(self) -> Tensor:
        """(M, N, N)."""

    @property
    def forward(self) -> ForwardModel:
        """Of the M patterns."""

    @property
    def invalid(self) -> Tensor | None:
        """(N, N) or (M, N, N) bool: masked pixels."""

    @property
    def held(self) -> Tensor:
        """(M, h) int64: flat indices of pixels that are not fitted."""

    @property
    def watched(self) -> Tensor:
        """(M, w) int64: flat indices of pixels whose expected counts are kept."""

    @property
    def limits(self) -> object | None:
        """Counts that are lower limits."""

    @property
    def read_variance(self) -> float:
        """Of the read noise."""


class Meter(Protocol):
    """Keeps expected counts."""

    def storage(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Memory (M, w) and (M, h) for those of the watched and the held-out pixels of a batch."""


@dataclass(frozen=True, eq=False)
class CompiledPass:
    """A pass over patterns; see :mod:`diptych.ptycho.physics.compiled.passes`."""

    problem: Measured
    code: Any
    patterns: Any
    frequency: NDArray[np.float64]
    memory: local = field(default_factory=local)

    @classmethod
    def of(cls, problem: Measured) -> CompiledPass | None:
        """A pass over what was measured, or None where only PyTorch can make it.

        Numba and FFTW are needed, a CPU, single precision, the far field, a side of 2^k times 32 or 48 px up to 1024,
        shot noise alone, no lower limits and a constant probe.
        """
        forward = problem.forward
        known = type(forward) is ForwardModel or (type(forward) is VaryingForward and forward.variation is None)
        plain = known and not (problem.limits or problem.read_variance)
        single = problem.counts.is_cpu and problem.counts.dtype == torch.float32
        if not (plain and single and isinstance(forward.propagator, FarField)):
            return None
        found = optional("diptych.ptycho.physics.compiled.passes", "numba", "pyfftw")
        if found is None or not found.base_of(forward.size):
            return None
        return cls(problem, found, _patterns(found, problem), centred_frequency(forward.size).numpy())

    def likelihood(
        self,
        point: Sequence[Tensor],
        shifts: Tensor | None,
        rows: NDArray[np.int64],
        meter: Meter,
        sums: Sequence[Tensor],
        in_shifts: Tensor | None,
        dark: float,
    ) -> float:
        """Loss of some patterns, nats; gradients by object, probe and shifts are added to ``sums`` and ``in_shifts``,
        expected counts to ``meter``.

        Parameters
        ----------
        point, sums : object (H, W) and probe (P, N, N)
            Where the pass is made, and the gradients there.
        shifts, in_shifts : (M, 2) tensors, optional
            Where positions are refined, and their gradients.
        rows : (B,) int64 array
            Which patterns.
        dark : float
            Counts that are added to the expected ones.
        """
        loss = 0.0

        def add(*given: Any) -> None:
            nonlocal loss
            loss += self.code.likelihood_pass(self.patterns, *given, np.float32(dark))

        self._over(add, point, shifts, rows, meter, sums, in_shifts)
        return loss

    def projection(
        self,
        point: Sequence[Tensor],
        rows: NDArray[np.int64],
        meter: Meter,
        sums: Sequence[Tensor],
        denominators: Sequence[Tensor],
        *,
        poisson: bool,
        dark: float,
        largest: float,
        step: float,
    ) -> None:
        """Add the adjoints of PIE's changes of the exit waves of some patterns to ``sums``, and expected counts to
        ``meter``. Rule and denominators are those of :mod:`diptych.ptycho.physics.compiled.passes`.
        """
        rule = self.code.Rule(poisson, np.float32(dark), np.float32(largest), np.float32(step))
        under, size = self.code.Denominators(*(each.numpy() for each in denominators)), self.problem.forward.size
        fits = under.light.shape == (size, size) and under.seen.shape in ((size, size), (0, 0))
        if not fits or under.lit.shape != self.problem.forward.shape:  # Compiled code checks no bounds.
            raise ValueError(f"denominators of {[each.shape for each in under]}, and a canvas of another shape")

        def add(*given: Any) -> None:
            self.code.projection_pass(self.patterns, *given, rule, under)

        self._over(add, point, None, rows, meter, sums, None)

    def _over(
        self,
        add: Callable[..., None],
        point: Sequence[Tensor],
        shifts: Tensor | None,
        rows: NDArray[np.int64],
        meter: Meter,
        sums: Sequence[Tensor],
        in_shifts: Tensor | None,
    ) -> None:
        """Call ``add`` on chunks of the patterns, and add what they sum to."""
        forward, (image, probe), (in_image, in_probe) = self.problem.forward, point, sums
        if not image.shape == in_image.shape == forward.shape:  # Compiled code checks no bounds.
            raise ValueError(f"an object of {tuple(image.shape)} for a canvas of {forward.shape}")
        image = image.contiguous()
        fractions = forward.fractions if shifts is None else shifts
        modes = forward.propagator.enter(probe).contiguous()
        spectrum = modes if fractions is None else torch.fft.fft2(modes)
        total, summed = torch.zeros_like(modes), torch.zeros_like(modes)
        work = self._work(modes) if fractions is not None else self._work(modes)._replace(shifted=modes.numpy())
        for start in range(0, len(rows), CHUNK):
            batch = rows[start : start + CHUNK]
            ramps = self._ramps(fractions, batch)
            along = np.zeros((0 if in_shifts is None else len(batch), 2))
            where = self.code.Point(image.numpy(), spectrum.numpy(), ramps, self.frequency)
            into = self.code.Sums(in_image.numpy(), summed.zero_().numpy(), along, *meter.storage(batch))
            add(where, into, work, batch)
            total += summed
            if in_shifts is not None:
                in_shifts[torch.from_numpy(batch)] = torch.from_numpy(along).to(in_shifts.dtype)
        total = total if fractions is None else torch.fft.fft2(total)
        in_probe += forward.propagator.leave(total.conj_physical_())

    def _work(self, modes: Tensor) -> Any:
        """Memory of the calling thread for these modes (P, N, N), whose number never changes within a pass."""
        if not hasattr(self.memory, "work"):
            self.memory.work = self.code.work(len(modes), self.problem.forward.size)
        return self.memory.work

    def _ramps(self, fractions: Tensor | None, batch: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Factors (B, 2, N) of the spectra of the modes, those of an inverse FFT included; (0, 2, N) without shifts."""
        size = self.problem.forward.size
        if fractions is None:
            return np.zeros((0, 2, size), np.complex64)
        factors = centred_ramps(fractions[torch.from_numpy(batch)], size) / size
        return np.ascontiguousarray(factors.to(torch.complex64).numpy())


def _patterns(passes: Any, problem: Measured) -> Any:
    size, invalid, background = problem.forward.size, problem.invalid, problem.forward.background
    factors, spread = problem.forward.factors, problem.forward.spread
    kernels = spread.kernels if spread is not None else (np.zeros(0), np.zeros(0))
    masked = torch.zeros((0, size, size), dtype=torch.bool) if invalid is None else invalid.reshape(-1, size, size)
    shown = torch.zeros((0, size, size)) if background is None else background.reshape(1, size, size)
    return passes.Patterns(
        problem.forward.corners,
        problem.counts.numpy(),
        masked.contiguous().numpy().view(np.uint8),
        problem.held.numpy(),
        problem.watched.numpy(),
        shown.contiguous().numpy(),
        factors.values.numpy() if factors is not None and factors.fitted else np.zeros(0, np.float32),
        *(each.astype(np.float32) for each in kernels),
    )
