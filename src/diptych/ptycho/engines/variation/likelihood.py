"""Maximum likelihood of object, probe, components of the probe, and their coefficients together."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood, joined
from diptych.ptycho.engines.likelihood.preconditioner import Preconditioner
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.forward import Views, intensity
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward, normalised


class VariationLikelihood(MaximumLikelihood):
    """L-BFGS on the likelihood with a first probe mode that varies; see :mod:`diptych.ptycho.physics.varying.probe`.

    The forward model of the problem holds the variation of the current point.

    Parameters
    ----------
    components : (K, N, N) complex tensor
        Start of the components.
    mixing : (M, K + 1) complex tensor
        Start of the coefficients of first mode and components.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        components: Tensor,
        mixing: Tensor,
        settings: LikelihoodSettings,
    ) -> None:
        self._more = components, mixing
        super().__init__(problem, image, probe, settings)

    @property
    def varying(self) -> VaryingForward:
        """The forward model."""
        forward = self.problem.forward
        assert isinstance(forward, VaryingForward)
        return forward

    def snapshot(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Object, probe, components and coefficients, and the shifts (M, 2) where positions are refined."""
        parts = tuple(self._parts(self._point))
        return parts if (shifts := self._shifts(self._point)) is None else (*parts, shifts)

    def epoch(self) -> dict[str, float]:
        """See :meth:`MaximumLikelihood.epoch`."""
        report = super().epoch()
        self._vary(self._point)
        return report

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return super().state() | dict(zip(("components", "mixing"), self._parts(self._point)[2:], strict=True))

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._more = state["components"], state["mixing"]
        super().restore(state)

    def _start(self, image: Tensor, probe: Tensor) -> Tensor:
        parts = [image, probe, *self._more]
        self._shapes = tuple(part.shape for part in parts)
        fractions = self.varying.fractions
        if not self.settings.refine_positions or fractions is None:
            return joined(parts)
        return torch.cat([joined(parts), fractions.flatten().to(self.problem.device, image.real.dtype)])

    def _vary(self, point: Tensor) -> None:
        _, probe, components, mixing = self._parts(point)
        self.varying.variation = Variation.of(probe[0], components, mixing)

    def _evaluate(self, point: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        self._vary(point)
        loss, gradient, fit = super()._evaluate(point)
        _, probe, components, mixing = self._parts(point)
        _, in_probe, in_components, in_mixing = self._parts(gradient)
        with torch.enable_grad():
            leaves = [each.detach().clone().requires_grad_() for each in (probe[0], components, mixing)]
            more = torch.autograd.grad(normalised(*leaves), leaves, in_mixing.clone())
        in_probe[0] += more[0]
        in_components += more[1]
        in_mixing.copy_(more[2])
        return loss, gradient, fit

    def _add_adjoints(self, views: Views, change: Tensor, sums: list[Tensor], in_shifts: Tensor | None) -> None:
        in_object, in_probe, in_components, in_mixing = sums
        self.varying.add_object_adjoint(views, change, in_object)
        if in_shifts is not None:
            _, along = self.varying.probe_and_shift_adjoint(views, change.clone())
            in_shifts[views.batch] = along.to(in_shifts.dtype)
        both, in_mixing[views.batch] = self.varying.varied_adjoint(views, change)
        in_probe += both[: len(in_probe)]
        in_components += both[len(in_probe) :]

    def _preconditioner(self) -> Preconditioner:
        return VariationPreconditioner(self.problem, self._parts(self._point), self.settings.damping)


class VariationPreconditioner(Preconditioner):
    """:class:`Preconditioner` with components and coefficients: the diagonal of each, like that of the probe.

    Parameters
    ----------
    point : list of tensors
        Object, probe, components and coefficients at which the curvature is computed.
    """

    def __init__(self, problem: Problem, point: list[Tensor], damping: float) -> None:
        image, probe, components, mixing = point
        super().__init__(problem, image, probe, damping)
        self._weight = mixing[:, 1:].abs().square().mean(0)[:, None, None]
        power = intensity(torch.cat([probe[:1], components])[:, None]).sum((1, 2))
        self._stiff = power * float(self._seen.mean()) / len(problem)

    def __call__(self, image: Tensor, gradient: list[Tensor]) -> list[Tensor]:
        """Step of object, probe, components and coefficients for a gradient in all; new tensors."""
        in_object, in_probe, in_components, in_mixing = gradient
        step = super().__call__(image, [in_object, in_probe])
        return [*step, in_components / (self._weight * self._seen), in_mixing / self._stiff]
