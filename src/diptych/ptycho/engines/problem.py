"""What every engine solves: counts, positions and pixels on one device, and the waves of a batch.

Counts lie as in the scan, zero frequency at [N // 2, N // 2]; no FFT is shifted for that: the probe is tilted instead,
by the phase ramp that moves its far field there. So the counts of a scan in single precision need no copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.diffraction import shift_ramps
from diptych.ptycho.physics.patches import canvas_box, split
from diptych.runtime.parallel import Workers, split_evenly

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

Item = TypeVar("Item")
Result = TypeVar("Result")

MARGIN = 2
"""Pixels of canvas around the outermost windows."""

WATCHED = 0.003
"""Fraction of the fitted pixels on which the fit is followed from epoch to epoch."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A scan, ready to be solved.

    Parameters
    ----------
    counts : (M, N, N) float32 or float64 tensor
        0 at masked pixels. The scan's own memory where that holds what is wanted: never to be written to.
    corners : (M, 2) int64 array
        Array index of each window's pixel [0, 0] on the canvas.
    ramps : (M, 2, N) complex tensor or None
        One-dimensional sub-pixel phase ramps (y, x) of each position, zero frequency at N // 2; None when all positions
        count as whole pixels.
    tilt : (N, N) complex tensor
        The phase ramp that brings zero frequency to [N // 2, N // 2]; its signs alternate where N is even.
    invalid : (N, N) or (M, N, N) bool tensor or None
        True at masked pixels.
    held : (M, h) int64 tensor
        Flat indices of the detector pixels of each pattern that no engine may fit.
    watched : (M, h) int64 tensor
        Flat indices of fitted pixels on which the fit is followed.
    background : (N, N) tensor or None
        Expected background counts.
    origin, shape : (int, int)
        Of the object canvas.
    power : float
        Gauge: sum |probe|^2 of start and result, photons.
    workers : Workers
        Threads over which batches are shared out.
    """

    counts: Tensor
    corners: NDArray[np.int64]
    ramps: Tensor | None
    tilt: Tensor
    invalid: Tensor | None
    held: Tensor
    watched: Tensor
    background: Tensor | None
    origin: tuple[int, int]
    shape: tuple[int, int]
    power: float
    workers: Workers

    @property
    def size(self) -> int:
        """N, the side of a pattern."""
        return int(self.counts.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where the arithmetic runs."""
        return self.counts.device

    @property
    def complex_dtype(self) -> torch.dtype:
        """complex64, or complex128 in double precision."""
        return torch.complex128 if self.counts.dtype == torch.float64 else torch.complex64

    def __len__(self) -> int:
        return len(self.counts)


def prepare(
    scan: Scan,
    *,
    device: torch.device,
    double: bool,
    subpixel: bool,
    held_out: float,
    seed: int,
    power: float | None = None,
    workers: Workers | None = None,
) -> Problem:
    """Put a scan on a device, with held-out and watched pixels drawn by ``seed``."""
    real = torch.float64 if double else torch.float32
    size, patterns = scan.size, len(scan)
    whole, fraction = split(scan.positions)
    origin, shape = canvas_box(scan.positions, size, MARGIN)
    invalid = None
    if scan.mask is not None and not scan.mask.all():
        invalid = torch.from_numpy(~scan.mask).to(device)
    background = None if scan.background is None else _borrowed(scan.background).to(device, real)
    held, watched = _samples(patterns, size, held_out, np.random.default_rng([seed, 1]), device)
    ramps = None
    wave = torch.complex128 if double else torch.complex64
    if subpixel and np.abs(fraction).max() > 1e-3:
        ramps = torch.fft.fftshift(shift_ramps(torch.from_numpy(fraction), size), -1).to(device, wave)
    counts = _counts(scan, device, real, invalid)
    return Problem(
        counts=counts,
        corners=whole - np.asarray(origin) - size // 2,
        ramps=ramps,
        tilt=_tilt(size).to(device, wave),
        invalid=invalid,
        held=held,
        watched=watched,
        background=background,
        origin=origin,
        shape=shape,
        power=photons_through(counts, background, invalid) if power is None else power,
        workers=workers or Workers(1),
    )


def _counts(scan: Scan, device: torch.device, real: torch.dtype, invalid: Tensor | None) -> Tensor:
    """The scan's counts on a device, 0 at masked pixels; without a copy where nothing is to be changed."""
    if device.type == "cpu" and real == torch.float32 and invalid is None and scan.counts.dtype == np.float32:
        return _borrowed(scan.counts)
    counts = torch.empty(scan.counts.shape, dtype=real, device=device)
    for start in range(0, len(counts), 64):
        some = slice(start, start + 64)
        counts[some] = torch.from_numpy(scan.counts[some].astype(np.float64 if real == torch.float64 else np.float32))
    return counts if invalid is None else counts.masked_fill_(invalid, 0.0)


def _borrowed(array: NDArray[Any]) -> Tensor:
    """A tensor over the memory of an array that may be read-only, for reading."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


def _tilt(size: int) -> Tensor:
    """(size, size) complex: the FFT of a wave times this has zero frequency at size // 2."""
    turns = torch.arange(size, dtype=torch.float64) * (size // 2) % size / size
    # A half turn is a sign, exactly: for even sizes there is nothing else.
    ramp = torch.where(
        turns == 0.5, torch.complex(-turns * 2, turns * 0), torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
    )
    return ramp[:, None] * ramp


def photons_through(counts: Tensor, background: Tensor | None, invalid: Tensor | None) -> float:
    """The gauge of an uncalibrated probe: 99th percentile of the patterns' valid totals, less the background on valid
    pixels.
    """
    totals = pattern_totals(counts)
    if background is not None:
        shown = background if invalid is None else torch.where(invalid, 0.0, background)
        totals = totals - shown.sum((-2, -1), dtype=torch.float64)
    return max(float(torch.quantile(totals, 0.99)), 1e-6)


def pattern_totals(counts: Tensor) -> Tensor:
    """Sum of each pattern (M,) in double precision; in chunks, because torch would cast all counts first."""
    # In one piece: small results kept between large passing ones would break up the heap.
    totals = torch.empty(len(counts), dtype=torch.float64, device=counts.device)
    for i in range(0, len(counts), 64):
        totals[i : i + 64] = counts[i : i + 64].sum(-1).sum(-1, dtype=torch.float64)
    return totals


def in_order(patterns: int, batch: int) -> list[NDArray[np.int64]]:
    """All patterns in order, in batches of at most ``batch``."""
    return [np.arange(start, min(start + batch, patterns)) for start in range(0, patterns, batch)]


def sweep_batch(problem: Problem) -> int:
    """Patterns per step where that is a matter of memory and cache alone."""
    if problem.device.type == "cuda":
        return max(1, 2**26 // problem.size**2)
    return int(np.clip(2**17 // problem.size**2, 8, 256))


def share_out(problem: Problem, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
    """``work`` on as many stretches of ``items`` as there are workers, at the same time; results in order."""
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
