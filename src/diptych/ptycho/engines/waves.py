"""The waves of a batch: from object and probe to expected counts, and the adjoints of each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, in_order
from diptych.ptycho.physics.patches import gather, scatter_add, windows


@dataclass(frozen=True, eq=False)
class Beams:
    """Object patches (B, N, N) and tilted probe modes (B or 1, P, N, N) of a batch of B patterns, before the
    detector.
    """

    batch: NDArray[np.int64]
    patches: Tensor
    probes: Tensor
    ramps: Tensor | None
    tilt: Tensor

    @property
    def rows(self) -> slice:
        """The batch as a slice; only for batches in order."""
        return slice(int(self.batch[0]), int(self.batch[-1]) + 1)

    def exit_waves(self) -> Tensor:
        """(B, P, N, N): tilted probe modes times patches."""
        return self.probes * self.patches[:, None]


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
    return Beams(batch, patches, probes, ramps, problem.tilt)


def _probes(problem: Problem, probe: Tensor, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Tilted probe modes at the sub-pixel places of a batch (B or 1, P, N, N), and the ramps (B, N, N) that put them
    there.
    """
    probe = probe * problem.tilt
    if problem.ramps is None:
        return probe[None], None
    one = problem.ramps[torch.from_numpy(batch).to(problem.device)]
    ramps = one[:, 0, :, None] * one[:, 1, None, :]
    return torch.fft.ifft2(torch.fft.fft2(probe)[None] * ramps[:, None]), ramps


def detect(problem: Problem, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Far field (B, P, N, N) of tilted exit waves, and the counts expected from it (B, N, N)."""
    field = torch.fft.fft2(waves, norm="ortho")
    expected = intensity(field)
    return field, expected if problem.background is None else expected.add_(problem.background)


def undetect(problem: Problem, batch: NDArray[np.int64], field: Tensor, weights: Tensor) -> Tensor:
    """Change of the exit waves (B, P, N, N): inverse FFT of ``field`` times real ``weights`` (B, N, N). Overwrites
    both.

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
    """The adjoint of the forward model in the probe (P, N, N): sum over patterns of conj(O) change, each shifted and
    tilted back.

    Overwrites ``change``.
    """
    # All of it conjugate, but for the sum: conj(O) would cost a pass and the memory of the patches.
    part = change.conj_physical_().mul_(beams.patches[:, None])
    summed: Tensor = (
        part.sum(0) if beams.ramps is None else torch.fft.fft2(torch.fft.ifft2(part).mul_(beams.ramps[:, None]).sum(0))
    )
    return summed.mul_(beams.tilt).conj_physical_()


def illumination(problem: Problem, probe: Tensor) -> Tensor:
    """Sum over patterns and modes of |P|^2 on the canvas, (H, W) real, each pattern's probe at its sub-pixel place."""
    canvas = torch.zeros(problem.shape, dtype=problem.counts.dtype, device=problem.device)
    for batch in in_order(len(problem), 64):
        light = (
            intensity(probe).expand(len(batch), -1, -1)
            if problem.ramps is None
            else intensity(_probes(problem, probe, batch)[0])
        )
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
        # Waves that diverge end in infinite counts, which the fit tells; NumPy need not.
        with np.errstate(over="ignore"):
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
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(target, weights.numpy(), out=target)
    return wave
