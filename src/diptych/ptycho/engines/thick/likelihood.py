"""Maximum likelihood of all slices and the probe together."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.engines.likelihood.maximum_likelihood import MaximumLikelihood
from diptych.ptycho.engines.likelihood.preconditioner import Preconditioner
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.descent.slow_phases import inverse_laplacian, softness
from diptych.ptycho.physics.thick.slices import SlicedForward


class SlicedLikelihood(MaximumLikelihood):
    """L-BFGS on the likelihood, whose object is (S, H, W): slices in the order in which the beam meets them."""

    def _preconditioner(self) -> Preconditioner:
        return SlicePreconditioner(self.problem, self.image, self.probe, self.settings.damping)

    def snapshot(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Slices and probe, and positions and origin of the canvas where positions are refined."""
        forward = self.problem.forward
        refined = (torch.from_numpy(forward.positions), torch.tensor(forward.origin))
        return (self.image, self.probe, *(refined if self.settings.refine_positions else ()))

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        moved = self.problem.forward.fractions if self.settings.refine_positions else None
        return super().state() | ({} if moved is None else {"fractions": moved})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        if "fractions" in state:
            self.problem.forward.fractions = state["fractions"]
        super().restore(state)


class SlicePreconditioner(Preconditioner):
    """:class:`Preconditioner` of S slices.

    The diagonal of each slice is its own illumination, times S: what all slices have in common has S times the
    curvature of one. Low frequencies of the phase act through the sum of the slices' phases, so the step that one slice
    would take is shared out.

    Parameters
    ----------
    problem : Problem
        Its forward model has slices.
    image, probe : (S, H, W) and (P, N, N) complex tensors
        Point at which the curvature is computed.
    damping : float
        Share of each diagonal's maximum that is added to it.
    """

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, damping: float) -> None:
        forward = problem.forward
        assert isinstance(forward, SlicedForward)
        slices = len(image)
        lights = torch.stack([forward.illumination(each) for each in forward.probes(probe, slices)])
        seen = forward.transparency(image)
        soft = softness(lights[0], image.prod(0), probe)
        self._problem = problem
        self._light = slices * (lights + damping * lights.amax((-2, -1), keepdim=True))
        self._seen = seen.add_(damping * seen.max())
        self._softness = torch.tensor(soft, dtype=torch.float64)

    def __call__(self, image: Tensor, gradient: list[Tensor]) -> list[Tensor]:
        """Step of slices and probe for a gradient in both, at the slices ``image`` (S, H, W); new tensors."""
        in_object, in_probe = gradient
        step = in_object / self._light
        shape = (int(image.shape[-2]), int(image.shape[-1]))
        force = (image.real * in_object.imag - image.imag * in_object.real).sum(0)
        weight = float(self._softness) / len(image) ** 2
        phase = torch.fft.irfft2(torch.fft.rfft2(force) * inverse_laplacian(force, shape).mul_(weight), s=shape)
        turned = torch.stack([-image.imag, image.real], -1)
        torch.view_as_real(step).addcmul_(turned, phase[None, ..., None])
        return [step, in_probe / self._seen]

    def warp(self, image: Tensor, in_object: Tensor, in_shifts: Tensor) -> tuple[Tensor, Tensor]:
        """No common displacement of slices and positions is preconditioned: zeros."""
        return torch.zeros_like(image), torch.zeros_like(in_shifts)
