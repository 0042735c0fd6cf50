"""Preconditioner of the likelihood: an approximate inverse of the Gauss-Newton matrix.

The sum of two parts. The diagonal: the illumination for the object, the transparency for the probe (Thibault and
Guizar-Sicairos, New J. Phys. 14, 063004, 2012). And low spatial frequencies of the object's phase, for which the
diagonal is wrong by orders of magnitude: a phase phi(r) that varies little within the probe only shifts each pattern,
by its gradient. Its curvature in the loss is that of a ramp, ``light |O|^2 s^2 |grad phi|^2`` with s the probe's
spread, and vanishes with the square of the spatial frequency. Its inverse is an inverse Laplacian, applied by FFT.
Without it the slow phases of a large object converge last, over hundreds of steps. Where a factor is fitted for each
frame, slow changes of the modulus are as free as those of the phase, and are treated alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.descent.slow_phases import LIT, add_slow_phases, inverse_laplacian, softness, spread
from diptych.ptycho.physics.forward import intensity

SLOW_WARPS = 0.3
"""Weight of slow displacements of object and positions together, where positions are refined."""


class Preconditioner:
    """Maps gradients of the likelihood to steps; linear over the reals, symmetric and positive.

    Parameters
    ----------
    problem : Problem
        The problem.
    image, probe : (H, W) and (P, N, N) complex tensors
        Point at which the curvature is computed.
    damping : float
        Share of the diagonal's maximum that is added to it.
    """

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, damping: float) -> None:
        factors = problem.forward.factors
        self._free_modulus = factors is not None and factors.fitted
        light = problem.forward.illumination(probe)
        seen = problem.forward.transparency(image)
        lit = light > LIT * light.max()
        self._problem, self._lit = problem, lit
        slope = sum(intensity(_slope(image, axis)[None]) for axis in (0, 1)) / 2
        stiff = float((light * slope)[lit].mean()) * spread(probe)
        self._warp_softness = SLOW_WARPS / max(stiff, 1e-30)
        soft = softness(light, image, probe)
        self._light = light.add_(damping * light.max())
        self._seen = seen.add_(damping * seen.max())
        self._softness = torch.tensor(soft, dtype=torch.float64)
        self._filters: dict[bool, Tensor] = {}

    def __call__(self, image: Tensor, gradient: list[Tensor]) -> list[Tensor]:
        """Step of object and probe for a gradient in both, at the object ``image``; new tensors."""
        in_object, in_probe = gradient
        step = in_object / self._light
        if self._free_modulus:
            # The gradient in phase and log modulus, conj(O) g, filtered by the inverse Laplacian.
            whole = torch.fft.fft2(image.conj() * in_object).mul_(self._filter(image, half=False))
            return [step.addcmul_(image, torch.fft.ifft2(whole)), in_probe / self._seen]
        add_slow_phases(step, image, in_object, self._filter(image))
        return [step, in_probe / self._seen]

    def stiffen(self, curvature: Tensor) -> None:
        """Add the curvature (H, W) of a penalty to the object's diagonal."""
        self._light = self._light + curvature

    def warp(self, image: Tensor, in_object: Tensor, in_shifts: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of object (H, W) and shifts (M, 2) along slow displacements of both: the object's content and the
        positions move together.
        """
        forward = self._problem.forward
        assert forward.fractions is not None
        slopes = [torch.where(self._lit, _slope(image, axis), 0) for axis in (0, 1)]
        centres = np.rint(forward.corners + forward.size // 2 + forward.fractions.cpu().numpy()).astype(int)
        y, x = (torch.from_numpy(np.clip(c, 0, n - 1)) for c, n in zip(centres.T, image.shape, strict=True))
        step, moved = torch.zeros_like(image), torch.zeros_like(in_shifts)
        for axis, slope in enumerate(slopes):
            force = -(slope.real * in_object.real + slope.imag * in_object.imag)
            force.index_put_((y, x), in_shifts[:, axis], accumulate=True)
            field = self._free_field(force)
            step -= field * slope
            moved[:, axis] = field[y, x]
        return step, moved

    def _free_field(self, force: Tensor) -> Tensor:
        """Displacement (H, W) of an elastic sheet over the lit area, free at its edges, for a force (H, W)."""
        ys, xs = (torch.nonzero(self._lit.any(1 - axis)).flatten() for axis in (0, 1))
        inside = slice(int(ys[0]), int(ys[-1]) + 1), slice(int(xs[0]), int(xs[-1]) + 1)
        field = torch.zeros_like(force)
        field[inside] = laplace_solution(force[inside]).mul_(self._warp_softness)
        return field

    def _filter(self, image: Tensor, half: bool = True) -> Tensor:
        """Inverse Laplacian on the frequencies of ``rfft2`` (``half``) or ``fft2``; 0 at zero frequency.

        The global phase is free.
        """
        # Computed once: the shape of the canvas stays, and so does the softness.
        if half not in self._filters:
            shape = (image.shape[0], image.shape[1])
            self._filters[half] = inverse_laplacian(self._light, shape, half=half).mul_(float(self._softness))
        return self._filters[half]

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        return {"light": self._light, "seen": self._seen, "softness": self._softness}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self._light, self._seen = state["light"].clone(), state["seen"].clone()
        self._softness = state["softness"].cpu().clone()
        self._filters = {}


def laplace_solution(force: Tensor) -> Tensor:
    """The field (h, w) without a mean whose negative Laplacian is a real force (h, w), with no slope at its edges."""
    h, w = force.shape
    if force.is_cpu:
        from scipy.fft import dctn, idctn

        # A quarter of the pixels of the FFT.
        k = np.add.outer((np.arange(h) / (2 * h)) ** 2, (np.arange(w) / (2 * w)) ** 2)
        k[0, 0] = np.inf
        cosines = dctn(force.numpy(), workers=1)
        cosines /= (2 * np.pi) ** 2 * k
        return torch.from_numpy(idctn(cosines, workers=1, overwrite_x=True))
    return _laplace_solution_by_fft(force)


def _laplace_solution_by_fft(force: Tensor) -> Tensor:
    """The same by an FFT of the mirrored force, on any device."""
    h, w = force.shape
    inner = torch.cat([force, force.flip(0)], 0)
    inner = torch.cat([inner, inner.flip(1)], 1)
    given = {"dtype": force.dtype, "device": force.device}
    squared = torch.fft.fftfreq(2 * h, **given).square()[:, None] + torch.fft.rfftfreq(2 * w, **given).square()
    squared[0, 0] = torch.inf
    whole: Tensor = torch.fft.irfft2(torch.fft.rfft2(inner) / ((2 * np.pi) ** 2 * squared), s=inner.shape)
    return whole[:h, :w]


def _slope(image: Tensor, axis: int) -> Tensor:
    """Central difference along an axis, per pixel; periodic."""
    return (image.roll(-1, axis) - image.roll(1, axis)) / 2
