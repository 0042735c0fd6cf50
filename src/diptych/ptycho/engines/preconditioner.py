"""What a step of maximum likelihood is measured by: a cheap stand-in for the inverse of the Gauss-Newton matrix.

Two parts, added. The diagonal, as usual: the illumination for the object, the transparency for the probe (Thibault and
Guizar-Sicairos, New J. Phys. 14, 063004 (2012)). And slow phases of the object, which the diagonal gets wrong by orders
of magnitude: a phase phi(r) that hardly changes within the probe only moves each pattern by its gradient, so that its
curvature in the loss is that of a ramp, ``light |O|^2 s^2 |grad phi|^2`` with s the probe's spread, and goes to zero
with the square of the spatial frequency. Its inverse is an inverse Laplacian, applied by FFT. Without it the slow
phases of a large object come in last, over hundreds of steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.engines.waves import illumination, intensity, transparency

SLOW_PHASES = 3.0
"""Weight of the slow phases. Between 1 and 10 it makes little difference; too small is worse than too large."""

LIT = 0.1
"""Pixels with more than this share of the strongest illumination count as lit."""

LEAST_SPREAD = 0.1
"""Of a probe, in square pixels: that of one bright pixel is nil."""


class Preconditioner:
    """Takes gradients of the likelihood to steps; linear over the reals, symmetric and positive.

    Parameters
    ----------
    problem : Problem
        What is solved.
    image, probe : (H, W) and (P, N, N) complex tensors
        Where the curvature is taken.
    damping : float
        Share of the diagonal's maximum that is added to it.
    """

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, damping: float) -> None:
        light = illumination(problem, probe)
        seen = transparency(problem, image)
        lit = light > LIT * light.max()
        level = float((light * intensity(image[None]))[lit].mean())
        self._light = light.add_(damping * light.max())
        self._seen = seen.add_(damping * seen.max())
        self._softness = torch.tensor(SLOW_PHASES / max(level * _spread(probe), 1e-30), dtype=torch.float64)

    def __call__(self, image: Tensor, gradient: list[Tensor]) -> list[Tensor]:
        """Step of object and probe for a gradient in both, at the object ``image``; new tensors."""
        in_object, in_probe = gradient
        step = in_object / self._light
        # The part of the gradient that turns phases, Im(conj(O) g), and what that asks of the slow ones.
        turn = torch.fft.rfft2(image.real * in_object.imag - image.imag * in_object.real).mul_(self._filter(image))
        phase = torch.fft.irfft2(turn, s=image.shape)
        torch.view_as_real(step).addcmul_(torch.stack([-image.imag, image.real], -1), phase[..., None])
        return [step, in_probe / self._seen]

    def _filter(self, image: Tensor) -> Tensor:
        """Inverse Laplacian on the half plane of frequencies of ``rfft2``, nil at zero frequency: the global phase is
        free.
        """
        (height, width), real = image.shape, {"dtype": self._light.dtype, "device": image.device}
        squared: Tensor = (
            torch.fft.fftfreq(height, **real)[:, None].square() + torch.fft.rfftfreq(width, **real).square()
        )
        squared[0, 0] = torch.inf
        return squared.mul_((2 * np.pi) ** 2).reciprocal_().mul_(float(self._softness))

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        return {"light": self._light, "seen": self._seen, "softness": self._softness}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self._light, self._seen = state["light"].clone(), state["seen"].clone()
        self._softness = state["softness"].cpu().clone()


def _spread(probe: Tensor) -> float:
    """Variance of the probe's intensity along one axis (mean of both), square pixels."""
    light = intensity(probe).double()
    place = torch.arange(light.shape[-1], dtype=light.dtype, device=light.device)
    found = 0.0
    for profile in (light.sum(0), light.sum(1)):
        share = profile / profile.sum().clamp(min=1e-300)
        found += 0.5 * float((share * (place - (share * place).sum()).square()).sum())
    return max(found, LEAST_SPREAD)
