"""What engines solve: counts, valid pixels and the forward model of a scan on one device.

Counts lie as in the scan, zero frequency at [N // 2, N // 2]. No FFT is shifted for that: the propagator's phase ramp
on the probe moves zero frequency there. So the counts of a scan in single precision need no copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.physics.detector.read_noise import read_variance, shifted_background
from diptych.ptycho.physics.forward import ForwardModel, intensity
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.probe import gauge_power
from diptych.ptycho.physics.propagators import propagator_of
from diptych.runtime.cpu.parallel import Workers, split_evenly

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

Item = TypeVar("Item")
Result = TypeVar("Result")

MARGIN = 2
"""Pixels of canvas around the outermost windows."""

WATCHED = 0.003
"""Fraction of the fitted pixels on which the fit is monitored from epoch to epoch."""

LEAST_SHIFT = 1e-3
"""Positions within this many pixels of whole ones count as whole."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Saturated pixels: masked for the fit, and known to have at least ``value`` counts.

    Parameters
    ----------
    value : float
        Where the detector saturates, counts.
    where : (M, N, N) bool tensor
        True at these pixels, without held-out ones.
    """

    value: float
    where: Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """A scan, prepared for an engine.

    Parameters
    ----------
    counts : (M, N, N) float32 or float64 tensor
        0 at masked pixels. Shares the scan's memory where possible: never to be written to.
    forward : ForwardModel
        Expected counts of each pattern from object and probe, and the adjoints.
    invalid : (N, N) or (M, N, N) bool tensor or None
        True at masked pixels.
    held : (M, h) int64 tensor
        Flat indices of the detector pixels of each pattern that are held out: no engine may fit them.
    watched : (M, h) int64 tensor
        Flat indices of fitted pixels on which the fit is monitored.
    power : float
        Gauge: sum |probe|^2 of start and result, photons.
    workers : Workers
        Threads that batches are distributed over.
    limits : Limits or None
        Masked pixels whose counts are lower limits.
    read_variance : float
        Of the read noise, photons^2. ``counts`` and the background are shifted by it
        (:mod:`~diptych.ptycho.physics.detector.read_noise`); counts may be negative.
    """

    counts: Tensor
    forward: ForwardModel
    invalid: Tensor | None
    held: Tensor
    watched: Tensor
    power: float
    workers: Workers
    limits: Limits | None = None
    read_variance: float = 0.0

    @property
    def size(self) -> int:
        """N, the side of a pattern."""
        return int(self.counts.shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """Of the object canvas (H, W)."""
        return self.forward.shape

    @property
    def origin(self) -> tuple[int, int]:
        """Coordinate (y, x) of the object canvas's pixel [0, 0]."""
        return self.forward.origin

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.counts.device

    @property
    def complex_dtype(self) -> torch.dtype:
        """complex64, or complex128 in double precision."""
        return torch.complex128 if self.counts.dtype == torch.float64 else torch.complex64

    @cached_property
    def watched_counts(self) -> tuple[Tensor, Tensor | None]:
        """Counts at the monitored pixels (M, h), and which of them are valid; None where all are."""
        return self._at(self.watched)

    @cached_property
    def held_counts(self) -> tuple[Tensor, Tensor | None]:
        """Counts at the held-out pixels (M, h), and which of them are valid; None where all are."""
        return self._at(self.held)

    def _at(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        counts = self.counts.flatten(1).gather(1, pixels)
        if self.invalid is None:
            return counts, None
        one = self.invalid.ndim == 2
        return counts, ~(self.invalid.flatten()[pixels] if one else self.invalid.flatten(1).gather(1, pixels))

    def flat_object(self) -> Tensor:
        """A new transparent object (H, W)."""
        return torch.ones(self.shape, dtype=self.complex_dtype, device=self.device)

    def __len__(self) -> int:
        return len(self.counts)


def make_problem(
    scan: Scan,
    *,
    device: torch.device,
    double: bool,
    subpixel: bool,
    held_out: float,
    seed: int,
    power: float | None = None,
    workers: Workers | None = None,
    limit: float | None = None,
) -> Problem:
    """Put a scan on a device, with held-out and monitored pixels drawn by ``seed``.

    Parameters
    ----------
    double : bool
        float64 and complex128 instead of float32 and complex64.
    subpixel : bool
        Shift the probe by the sub-pixel remainder of each position; else positions are rounded.
    held_out : float
        Fraction of the detector pixels that are held out.
    power : float, optional
        sum |P|^2 of a calibrated probe; without it the gauge follows from the counts.
    limit : float, optional
        Masked counts at this value or above are lower limits.
    """
    real, wave = (torch.float64, torch.complex128) if double else (torch.float32, torch.complex64)
    origin, shape = canvas_box(scan.positions, scan.size, MARGIN)
    invalid = None
    if scan.mask is not None and not scan.mask.all():
        invalid = torch.from_numpy(~scan.mask).to(device)
    variance = read_variance(scan)
    shown = shifted_background(scan, variance) if variance else scan.background
    background = None if shown is None else _borrowed(shown).to(device, real)
    forward = ForwardModel.placed(
        propagator_of(scan.geometry, scan.size, wave, device),
        scan.positions,
        scan.size,
        origin,
        shape,
        dtype=wave,
        device=device,
        subpixel=subpixel,
        least_shift=LEAST_SHIFT,
        background=background,
    )
    held, watched = _samples(len(scan), scan.size, held_out, np.random.default_rng([seed, 1]), device)
    counts = _counts(scan, device, real, invalid, variance)
    return Problem(
        counts=counts,
        forward=forward,
        invalid=invalid,
        held=held,
        watched=watched,
        power=photons_through(counts, background, invalid) if power is None else power,
        workers=workers or Workers(1),
        limits=None if limit is None or invalid is None else _limits(scan, limit, held, variance),
        read_variance=variance,
    )


def _limits(scan: Scan, limit: float, held: Tensor, shift: float = 0.0) -> Limits:
    """The masked pixels at the limit, but for the held-out ones and those that are masked in every pattern."""
    assert scan.mask is not None
    mask = np.broadcast_to(scan.mask, scan.counts.shape)
    where = torch.from_numpy((scan.counts >= limit * (1 - 1e-6)) & ~mask & mask.any(0)).to(held.device)
    where.view(len(where), -1).scatter_(1, held, False)
    return Limits(limit + shift, where)


def _counts(scan: Scan, device: torch.device, real: torch.dtype, invalid: Tensor | None, shift: float = 0.0) -> Tensor:
    """The scan's counts plus ``shift`` on a device, 0 at masked pixels; without a copy where nothing changes."""
    as_is = device.type == "cpu" and real == torch.float32 and invalid is None and scan.counts.dtype == np.float32
    if as_is and not shift:
        return _borrowed(scan.counts)
    counts = torch.empty(scan.counts.shape, dtype=real, device=device)
    for start in range(0, len(counts), 64):
        some = slice(start, start + 64)
        counts[some] = torch.from_numpy(scan.counts[some].astype(np.float64 if real == torch.float64 else np.float32))
    if shift:
        counts.add_(shift)
    return counts if invalid is None else counts.masked_fill_(invalid, 0.0)


def _borrowed(array: NDArray[Any]) -> Tensor:
    """A tensor over the memory of an array that may be read-only, for reading."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


def photons_through(counts: Tensor, background: Tensor | None, invalid: Tensor | None) -> float:
    """The gauge of an uncalibrated probe, from the patterns' totals less the background on valid pixels."""
    totals = pattern_totals(counts)
    if background is not None:
        shown = background if invalid is None else torch.where(invalid, 0.0, background)
        totals = totals - shown.sum((-2, -1), dtype=torch.float64)
    return gauge_power(totals.cpu().numpy())


def pattern_totals(counts: Tensor) -> Tensor:
    """Sum of each pattern (M,) in double precision; in chunks, because torch would cast all counts first."""
    # Allocated once: small results kept between large temporary ones would fragment the heap.
    totals = torch.empty(len(counts), dtype=torch.float64, device=counts.device)
    for i in range(0, len(counts), 64):
        totals[i : i + 64] = counts[i : i + 64].sum(-1).sum(-1, dtype=torch.float64)
    return totals


def zero_masked(problem: Problem, batch: NDArray[np.int64], weights: Tensor) -> None:
    """Set ``weights`` (B, N, N) to 0 at masked and held-out pixels, in place."""
    index = torch.from_numpy(batch).to(problem.device)
    if problem.invalid is not None:
        weights.masked_fill_(problem.invalid if problem.invalid.ndim == 2 else problem.invalid[index], 0.0)
    if problem.held.shape[1]:
        weights.view(len(batch), -1).scatter_(1, problem.held[index], 0.0)


def detect(problem: Problem, batch: NDArray[np.int64], waves: Tensor) -> tuple[Tensor, Tensor]:
    """Field at the detector (B, P, N, N) of exit waves, and the expected counts (B, N, N).

    Where factors of the frames are fitted, those of the batch are set to their most likely values first.
    """
    forward, factors = problem.forward, problem.forward.factors
    if factors is None or not factors.fitted:
        return forward.detect(waves)
    field = forward.propagator.forward(waves)
    plain = forward.seen(intensity(field))
    valid = None
    if problem.invalid is not None or problem.held.shape[1]:
        valid = torch.ones_like(plain)
        zero_masked(problem, batch, valid)
    index = torch.from_numpy(batch).to(problem.device)
    expected = plain * factors.fit(index, problem.counts[index], plain, forward.background, valid)
    return field, expected if forward.background is None else expected.add_(forward.background)


def frame_factors(problem: Problem, batch: NDArray[np.int64]) -> Tensor | None:
    """Factors (B, 1, 1) of a batch as last fitted, or None where there are none."""
    factors = problem.forward.factors
    return None if factors is None else factors.of(torch.from_numpy(batch).to(problem.device))


def exit_wave_change(problem: Problem, batch: NDArray[np.int64], field: Tensor, weights: Tensor) -> Tensor:
    """Exit waves (B, P, N, N) of ``field`` times real ``weights`` (B, N, N), 0 at masked and held-out pixels.

    There the model's value is kept. Overwrites ``field`` and ``weights``.
    """
    zero_masked(problem, batch, weights)
    return problem.forward.back(field, weights)


def point_spread(problem: Problem, widths: Sequence[float]) -> PointSpread:
    """A point spread of the detector with two widths (y, x), rms in pixels."""
    first, second = widths
    return PointSpread((float(first), float(second)), problem.size, problem.counts.dtype, problem.device)


def in_order(patterns: int, batch: int) -> list[NDArray[np.int64]]:
    """All patterns in order, in batches of at most ``batch``."""
    return [np.arange(start, min(start + batch, patterns)) for start in range(0, patterns, batch)]


def sweep_batch(problem: Problem) -> int:
    """Patterns per step where only memory and cache size matter."""
    if problem.device.type == "cuda":
        return max(1, 2**26 // problem.size**2)
    # Several threads need larger batches: between two array operations each waits for Python's lock.
    share = min(problem.workers.count, 2)
    return int(np.clip(share * 2**17 // problem.size**2, 8 * share, 256))


def share_out(problem: Problem, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
    """Run ``work`` in parallel on one consecutive part of ``items`` for each worker; results in order."""
    return problem.workers.map(work, split_evenly(items, problem.workers.count))


def _samples(
    patterns: int, size: int, fraction: float, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Disjoint held-out and watched pixel indices of each pattern."""
    held, watched = round(fraction * size * size), max(1, round(WATCHED * size * size))
    drawn = np.empty((patterns, held + watched), np.int64)
    # One random shift of one random choice per pattern: distinct pixels in each, without sorting size^2 numbers for
    # each.
    choice = rng.choice(size * size, held + watched, replace=False)
    drawn[:] = (choice + rng.integers(size * size, size=(patterns, 1))) % (size * size)
    indices = torch.from_numpy(drawn).to(device)
    return indices[:, :held].contiguous(), indices[:, held:].contiguous()
