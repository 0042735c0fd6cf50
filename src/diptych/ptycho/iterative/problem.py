"""What every engine solves: counts, positions and pixels on one device, and the waves of a batch.

Counts, mask and background are corner-centred here (zero frequency at [0, 0]), so that no FFT needs a shift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.physics.diffraction import AXES, shift_ramps
from diptych.ptycho.physics.likelihood import fit_sums
from diptych.ptycho.physics.patches import canvas_box, gather, scatter_add, split, windows
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
        Corner-centred counts; 0 at masked pixels.
    corners : (M, 2) int64 array
        Array index of each window's pixel [0, 0] on the canvas.
    ramps : (M, 2, N) complex tensor or None
        One-dimensional sub-pixel phase ramps (y, x) of each position; None when all positions count as whole pixels.
    invalid : (N, N) or (M, N, N) bool tensor or None
        Corner-centred, True at masked pixels.
    held : (M, h) int64 tensor
        Flat indices of the detector pixels of each pattern that no engine may fit.
    watched : (M, h) int64 tensor
        Flat indices of fitted pixels on which the fit is followed.
    background : (N, N) tensor or None
        Expected background counts, corner-centred.
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


@dataclass(frozen=True, eq=False)
class Beams:
    """Object patches (B, N, N) and probe modes (B or 1, P, N, N) of a batch of B patterns, before the detector."""

    batch: NDArray[np.int64]
    patches: Tensor
    probes: Tensor
    ramps: Tensor | None

    @property
    def rows(self) -> slice:
        """The batch as a slice; only for batches in order."""
        return slice(int(self.batch[0]), int(self.batch[-1]) + 1)

    def exit_waves(self) -> Tensor:
        """(B, P, N, N): probe modes times patches."""
        return self.probes * self.patches[:, None]


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
    counts = torch.empty((patterns, size, size), dtype=real, device=device)
    for start in range(0, patterns, 64):
        part = np.fft.ifftshift(scan.counts[start : start + 64], AXES)
        counts[start : start + 64] = torch.from_numpy(part.astype(np.float64 if double else np.float32))
    invalid = None
    if scan.mask is not None and not scan.mask.all():
        invalid = torch.from_numpy(np.fft.ifftshift(~scan.mask, AXES)).to(device)
        counts.masked_fill_(invalid, 0.0)
    background = None
    if scan.background is not None:
        background = torch.from_numpy(np.fft.ifftshift(scan.background)).to(device, real)
    held, watched = _samples(patterns, size, held_out, np.random.default_rng([seed, 1]), device)
    ramps = None
    if subpixel and np.abs(fraction).max() > 1e-3:
        ramps = shift_ramps(torch.from_numpy(fraction), size).to(device, torch.complex128 if double else torch.complex64)
    return Problem(
        counts=counts,
        corners=whole - np.asarray(origin) - size // 2,
        ramps=ramps,
        invalid=invalid,
        held=held,
        watched=watched,
        background=background,
        origin=origin,
        shape=shape,
        power=photons_through(counts, background, invalid) if power is None else power,
        workers=workers or Workers(1),
    )


def photons_through(counts: Tensor, background: Tensor | None, invalid: Tensor | None) -> float:
    """The gauge of an uncalibrated probe: 99th percentile of the patterns' valid totals, less the background on valid pixels."""
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


def illuminate(problem: Problem, image: Tensor, probe: Tensor, batch: NDArray[np.int64]) -> Beams:
    """Patches and probe modes of some patterns.

    Parameters
    ----------
    image : (H, W) complex tensor
        The object on the problem's canvas.
    probe : (P, N, N) complex tensor
        Incoherent modes.
    batch : (B,) int64 array
        Which patterns.
    """
    patches = gather(image, problem.corners[batch], problem.size)
    probes, ramps = _probes(problem, probe, batch)
    return Beams(batch, patches, probes, ramps)


def _probes(problem: Problem, probe: Tensor, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Probe modes at the sub-pixel places of a batch (B or 1, P, N, N), and the ramps (B, N, N) that put them there."""
    if problem.ramps is None:
        return probe[None], None
    one = problem.ramps[torch.from_numpy(batch).to(problem.device)]
    ramps = one[:, 0, :, None] * one[:, 1, None, :]
    return torch.fft.ifft2(torch.fft.fft2(probe)[None] * ramps[:, None]), ramps


def detect(problem: Problem, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Far field (B, P, N, N) of exit waves, and the counts expected from it (B, N, N); both corner-centred."""
    field = torch.fft.fft2(waves, norm="ortho")
    expected = intensity(field)
    return field, expected if problem.background is None else expected.add_(problem.background)


def undetect(problem: Problem, batch: NDArray[np.int64], field: Tensor, weights: Tensor) -> Tensor:
    """Change of the exit waves (B, P, N, N): inverse FFT of ``field`` times real ``weights`` (B, N, N). Overwrites both.

    Masked and held-out pixels get no weight: the model's value stands there.
    """
    silence(problem, batch, weights)
    scale(field, weights[:, None])
    change: Tensor = torch.fft.ifft2(field, norm="ortho")
    return change


def silence(problem: Problem, batch: NDArray[np.int64], weights: Tensor) -> None:
    """Set ``weights`` (B, N, N) to 0 at masked and held-out pixels, in place."""
    index = torch.from_numpy(batch).to(problem.device)
    if problem.invalid is not None:
        weights.masked_fill_(problem.invalid if problem.invalid.ndim == 2 else problem.invalid[index], 0.0)
    if problem.held.shape[1]:
        weights.view(len(batch), -1).scatter_(1, problem.held[index], 0.0)


def add_object_part(problem: Problem, beams: Beams, change: Tensor, canvas: Tensor) -> None:
    """Add the adjoint of the forward model in the object, sum over modes of conj(P) change, to ``canvas`` in place."""
    corners, probes = problem.corners[beams.batch], beams.probes.conj_physical()
    if canvas.device.type != "cpu":
        scatter_add(canvas, corners, (change * probes).sum(1))
        return
    target = windows(canvas, corners, problem.size)
    for mode, probe in zip(change.unbind(1), probes.unbind(1), strict=True):
        one_each = list(probe.unbind()) if len(probe) == len(target) else [probe[0]] * len(target)
        torch._foreach_addcmul_(target, list(mode.unbind()), one_each)


def probe_part(beams: Beams, change: Tensor) -> Tensor:
    """The adjoint of the forward model in the probe (P, N, N): sum over patterns of conj(O) change, each shifted back.

    Overwrites ``change``.
    """
    # All of it conjugate, but for the sum: conj(O) would cost a pass and the memory of the patches.
    part = change.conj_physical_().mul_(beams.patches[:, None])
    if beams.ramps is None:
        return part.sum(0).conj_physical_()
    summed: Tensor = torch.fft.fft2(torch.fft.ifft2(part).mul_(beams.ramps[:, None]).sum(0)).conj_physical_()
    return summed


def illumination(problem: Problem, probe: Tensor) -> Tensor:
    """Sum over patterns and modes of |P|^2 on the canvas, (H, W) real, each pattern's probe at its sub-pixel place."""
    canvas = torch.zeros(problem.shape, dtype=problem.counts.dtype, device=problem.device)
    for batch in in_order(len(problem), 64):
        light = intensity(probe).expand(len(batch), -1, -1) if problem.ramps is None else intensity(_probes(problem, probe, batch)[0])
        scatter_add(canvas, problem.corners[batch], light)
    return canvas


def transparency(problem: Problem, image: Tensor) -> Tensor:
    """Sum over patterns of |O|^2 in the window, (N, N) real."""
    total = torch.zeros((problem.size, problem.size), dtype=problem.counts.dtype, device=problem.device)
    squared = intensity(image[None])
    for start in range(0, len(problem), 256):
        total += gather(squared, problem.corners[start : start + 256], problem.size).sum(0)
    return total


def intensity(probe: Tensor) -> Tensor:
    """Sum over modes of |P|^2, (..., N, N) real from (..., P, N, N)."""
    if probe.device.type == "cpu":
        # NumPy takes moduli several times faster than torch, which has no vector code for them.
        modulus = np.abs(probe.resolve_conj().numpy())
        squared = torch.from_numpy(np.square(modulus, out=modulus))
    else:
        squared = probe.real.square() + probe.imag.square()
    return squared.squeeze(-3) if probe.shape[-3] == 1 else squared.sum(-3)


def scale(wave: Tensor, weights: Tensor) -> Tensor:
    """Multiply a complex tensor by a real one, in place."""
    if wave.device.type != "cpu":
        return wave.mul_(weights)
    # torch would make a complex copy of the weights first; NumPy does so piece by piece.
    target = wave.numpy()
    np.multiply(target, weights.numpy(), out=target)
    return wave


class FitMeter:
    """Follows the fit over the held-out and the watched pixels of the batches it is shown; reckoned up once, when it is asked for.

    Several threads may show it different patterns at the same time.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        # In one piece: many small results kept between large passing ones would break up the heap.
        self._watched = torch.zeros(problem.watched.shape, dtype=problem.counts.dtype, device=problem.device)
        self._held = torch.zeros(problem.held.shape, dtype=problem.counts.dtype, device=problem.device)
        self._seen = torch.zeros(len(problem), dtype=torch.bool, device=problem.device)

    def add(self, batch: NDArray[np.int64], expected: Tensor) -> None:
        """Take in the expected counts (B, N, N) of a batch."""
        index = torch.from_numpy(batch).to(self._problem.device)
        flat = expected.flatten(1)
        self._watched[index] = flat.gather(1, self._problem.watched[index])
        self._held[index] = flat.gather(1, self._problem.held[index])
        self._seen[index] = True

    def values(self) -> dict[str, float]:
        """``fit``, ``held_out_fit`` (NaN where there were no pixels) and ``excess``, the deviance above that of shot noise per photon.

        The excess does not depend on the dose where the fit does: at 1e9 photons an excellent object still fits badly.
        """
        index = self._seen.nonzero()[:, 0]
        found, foreseen, photons = self._sums(index, self._watched[index], self._problem.watched[index])
        top, bottom, _ = self._sums(index, self._held[index], self._problem.held[index])
        nan = float("nan")
        return {
            "fit": found / foreseen if foreseen > 0 else nan,
            "held_out_fit": top / bottom if bottom > 0 else nan,
            "excess": (found - foreseen) / max(photons, 1.0),
        }

    def _sums(self, index: Tensor, expected: Tensor, pixels: Tensor) -> tuple[float, float, float]:
        """Deviance, expected deviance and photons over some valid pixels (B, h) of some patterns."""
        problem, rows = self._problem, index[:, None]
        counts = problem.counts.flatten(1)[rows, pixels]
        valid = None
        if problem.invalid is not None:
            valid = ~(problem.invalid.flatten()[pixels] if problem.invalid.ndim == 2 else problem.invalid.flatten(1)[rows, pixels])
        return *fit_sums(counts, expected, valid), float(counts.sum())


def in_order(patterns: int, batch: int) -> list[NDArray[np.int64]]:
    """All patterns in order, in batches of at most ``batch``."""
    return [np.arange(start, min(start + batch, patterns)) for start in range(0, patterns, batch)]


def full_fit(problem: Problem, image: Tensor, probe: Tensor, batch: int = 64) -> dict[str, float]:
    """The fit and the excess (see :class:`FitMeter`) over every fitted pixel, and the fit over the held-out ones."""
    meter = FitMeter(problem)

    def part(some_batches: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        sums = np.zeros(3)
        for some in some_batches:
            beams = illuminate(problem, image, probe, some)
            _, expected = detect(problem, beams.exit_waves())
            meter.add(some, expected)
            fitted = torch.ones_like(expected)
            silence(problem, some, fitted)
            counts = problem.counts[beams.rows]
            sums += (*fit_sums(counts, expected, fitted > 0), float((counts * fitted).sum(dtype=torch.float64)))
        return sums

    found, foreseen, photons = sum(share_out(problem, part, in_order(len(problem), batch)), np.zeros(3)).tolist()
    return {**meter.values(), "fit": found / max(foreseen, 1e-30), "excess": (found - foreseen) / max(photons, 1.0)}


def sweep_batch(problem: Problem) -> int:
    """Patterns per step where that is a matter of memory and cache alone."""
    if problem.device.type == "cuda":
        return max(1, 2**26 // problem.size**2)
    return int(np.clip(2**17 // problem.size**2, 8, 256))


def share_out(problem: Problem, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
    """``work`` on as many stretches of ``items`` as there are workers, at the same time; results in order."""
    return problem.workers.map(work, split_evenly(items, problem.workers.count))


def _samples(patterns: int, size: int, fraction: float, rng: np.random.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Disjoint held-out and watched pixel indices of each pattern."""
    held, watched = round(fraction * size * size), max(1, round(WATCHED * size * size))
    drawn = np.empty((patterns, held + watched), np.int64)
    # One random shift of one random choice per pattern: distinct pixels in each, without sorting size^2 numbers for each.
    choice = rng.choice(size * size, held + watched, replace=False)
    drawn[:] = (choice + rng.integers(size * size, size=(patterns, 1))) % (size * size)
    indices = torch.from_numpy(drawn).to(device)
    return indices[:, :held].contiguous(), indices[:, held:].contiguous()
