"""Maximum likelihood by preconditioned L-BFGS: object and probe together, all patterns in every step.

The loss is the Poisson (or Gaussian-amplitude) negative log-likelihood, up to a constant. L-BFGS: Nocedal and Wright,
Numerical Optimization, algorithm 7.5, with the preconditioner of
:mod:`diptych.ptycho.engines.likelihood.preconditioner`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import FitMeter
from diptych.ptycho.engines.likelihood.preconditioner import Preconditioner
from diptych.ptycho.engines.problem import (
    Problem,
    detect,
    frame_factors,
    in_order,
    share_out,
    zero_masked,
)
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.censored import limit_amplitude_terms, survival_terms
from diptych.ptycho.physics.compiled.one_pass import CompiledPass
from diptych.ptycho.physics.descent.lbfgs import Curvature, dot
from diptych.ptycho.physics.descent.total_variation import TotalVariation
from diptych.ptycho.physics.forward import Views, intensity
from diptych.ptycho.physics.likelihood import LEAST_EXPECTED

NEGLIGIBLE_GAIN = 2.5e-5
"""Converged when ten steps gain less than this on average, nats per unknown and step. (Photon noise alone accounts for
half a nat per unknown.)"""

EPOCHS, LONG_EPOCHS = 200, 1000
"""Most epochs, and most where there are :data:`MANY_PHOTONS`. Directions that the data hardly determine converge last
(slow phases; on a raster, factors that nearly repeat with it). Their error exceeds photon noise only where that is
small: with an unknown probe at 1e9 photons it is 2.5 (spiral) and 5 (raster) times the photon limit after 200 epochs,
1.01 and 1.04 times it after 500 to 800. Double precision changes neither (1.014, 1.039)."""

MANY_PHOTONS = 1e7
"""Photons per pattern through a transparent object above which convergence may take long."""


@dataclass(frozen=True)
class LikelihoodSettings:
    """Settings of the maximum-likelihood engine."""

    batch: int = 64
    history: int = 5
    dark: float = 0.01
    damping: float = 0.02
    poisson: bool = True
    refine_probe: bool = True
    refine_positions: bool = False


class MaximumLikelihood:
    """L-BFGS on the likelihood of all patterns.

    Parameters
    ----------
    problem : Problem
        What to solve.
    image : (H, W) complex tensor
        Start of the object.
    probe : (P, N, N) complex tensor
        Start of the probe modes.
    settings : LikelihoodSettings
        ``dark`` counts are added to the expected ones, like a faint background: they bound the weight of stray photons.
    penalty : TotalVariation, optional
        Added to the loss.
    """

    patience: int | None = None

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        settings: LikelihoodSettings,
        penalty: TotalVariation | None = None,
    ) -> None:
        self.problem, self.settings, self._penalty = problem, settings, penalty
        self._shapes: tuple[torch.Size, ...] = (image.shape, probe.shape)
        forward = problem.forward
        if settings.refine_positions and forward.fractions is None:
            forward.move(forward.positions, forward.origin, forward.shape)
        # Never written to: each step makes a new one.
        self._point = self._start(image, probe)
        self._curvature = Curvature(settings.history, self._point)
        self._precondition = self._preconditioner()
        self.loss, self._gradient, self._fit = self._evaluate(self._point)
        self._gains: deque[float] = deque(maxlen=10)
        self._failures = 0

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop."""
        return most_epochs(self.problem)

    @property
    def image(self) -> Tensor:
        """The current object, (H, W)."""
        return self._parts(self._point)[0]

    @property
    def probe(self) -> Tensor:
        """The current probe modes, (P, N, N)."""
        return self._parts(self._point)[1]

    @property
    def settled(self) -> str:
        """Why the engine has converged, or an empty string."""
        if self._failures > 1:
            return "no step lowers the loss further (rounding)"
        unknowns = 2 * (self.image.numel() + self.settings.refine_probe * self.probe.numel())
        limit = NEGLIGIBLE_GAIN * unknowns * max(self._fit["fit"], 1.0)
        if len(self._gains) == self._gains.maxlen and sum(self._gains) / len(self._gains) < limit:
            return f"ten steps gained less than {limit:.2g} nats each for {unknowns} unknowns"
        return ""

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Current object and probe; no later epoch writes to these tensors."""
        return self.image, self.probe

    def epoch(self) -> dict[str, float]:
        """One L-BFGS step, shortened until it lowers the loss; every try is a pass over the scan."""
        direction = self._direction()
        slope = dot(direction, self._gradient)
        if slope >= 0:
            self._curvature.clear()
            direction = self._direction()
            slope = dot(direction, self._gradient)
        step = 1.0
        for _ in range(8):
            there = self._point.add(direction, alpha=step)
            loss, gradient, fit = self._evaluate(there)
            if loss <= self.loss + 1e-4 * step * slope:
                break
            step *= 0.3
        else:
            self._failures += 1
            self._curvature.clear()
            self._precondition = self._preconditioner()
            return self._report()
        self._curvature.add(direction.mul_(step), self._gradient.neg_().add_(gradient))
        self._failures = 0
        self._gains.append(self.loss - loss)
        self._point = there
        if (shifts := self._shifts(there)) is not None:
            self.problem.forward.fractions = shifts.double()
        self.loss, self._gradient, self._fit = loss, gradient, fit
        return self._report()

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return {
            "image": self.image,
            "probe": self.probe,
            "gains": torch.tensor(list(self._gains), dtype=torch.float64),
            "failures": torch.tensor(self._failures),
            **self._precondition.state(),
            **self._curvature.state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._point = self._start(state["image"], state["probe"])
        self._precondition.restore(state)
        self._curvature.restore(state)
        self._gains.extend(state["gains"].tolist())
        self._failures = int(state["failures"])
        self.loss, self._gradient, self._fit = self._evaluate(self._point)

    def _report(self) -> dict[str, float]:
        return {**self._fit, "loss": self.loss / self.problem.counts.numel()}

    def _direction(self) -> Tensor:
        """The step of L-BFGS, (n,)."""

        def precondition(gradient: Tensor) -> Tensor:
            parts = self._precondition(self.image, self._parts(gradient))
            if (shifts := self._shifts(gradient)) is None:
                return joined(parts)
            step, moved = self._precondition.warp(self.image, self._parts(gradient)[0], shifts)
            return torch.cat([joined([parts[0] + step, *parts[1:]]), (shifts / self._stiffness + moved).flatten()])

        # Half the Gauss-Newton step at first: the preconditioner neglects the coupling of object and probe.
        return self._curvature.descent(self._gradient, precondition, first=0.25)

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """Object (H, W), probe (P, N, N), and what a subclass adds, in a flat vector (n,), sharing its memory."""
        parts = torch.split(vector[: 2 * sum(s.numel() for s in self._shapes)], [2 * s.numel() for s in self._shapes])
        return [torch.view_as_complex(part.view(*shape, 2)) for part, shape in zip(parts, self._shapes, strict=True)]

    def _start(self, image: Tensor, probe: Tensor) -> Tensor:
        """Object, probe and, where they are refined, shifts as one flat real vector (n,)."""
        parts = [image, probe]
        if self.settings.refine_positions:
            assert self.problem.forward.fractions is not None
            return torch.cat([joined(parts), self.problem.forward.fractions.flatten().to(image.real.dtype)])
        return joined(parts)

    def _shifts(self, vector: Tensor) -> Tensor | None:
        """The shifts (M, 2) in a flat vector, sharing its memory; None where positions are not refined."""
        return vector[-2 * len(self.problem) :].view(-1, 2) if self.settings.refine_positions else None

    @property
    def _stiffness(self) -> Tensor:
        """Curvature of the loss along a shift of each axis, (2,): energy of the probe's derivative."""
        spectrum = intensity(torch.fft.fft2(self.problem.forward.propagator.enter(self.probe), norm="ortho"))
        wave = 2 * np.pi * torch.fft.fftshift(torch.fft.fftfreq(self.problem.size, dtype=spectrum.dtype))
        return torch.stack([spectrum.sum(1) @ wave.square(), spectrum.sum(0) @ wave.square()])

    def _preconditioner(self) -> Preconditioner:
        found = Preconditioner(self.problem, self.image, self.probe, self.settings.damping)
        if self._penalty is not None:
            found.stiffen(self._penalty.curvature(self.image))
        return found

    def _evaluate(self, point: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """Loss in nats, its gradient, and the fit, at a point; points and gradients are flat, (n,) real."""
        meter = FitMeter(self.problem)
        batches = in_order(len(self.problem), self.settings.batch)
        # Asked for in each pass: positions move, and factors of the frames come and go.
        plain = type(self) is MaximumLikelihood and self.settings.poisson
        in_one = CompiledPass.of(self.problem) if plain else None
        parts = share_out(self.problem, lambda some: self._contribution(point, some, meter, in_one), batches)
        loss, gradient = parts[0]
        for more, other in parts[1:]:
            loss += more
            gradient.add_(other)
        if self._penalty is not None:
            more, force = self._penalty.value_and_gradient(self._parts(point)[0])
            loss += more
            self._parts(gradient)[0].add_(force)
        return loss, gradient, meter.values()

    def _contribution(
        self, point: Tensor, batches: Sequence[NDArray[np.int64]], meter: FitMeter, in_one: CompiledPass | None
    ) -> tuple[float, Tensor]:
        """Loss and gradient (n,) of some batches, by ``in_one`` where it can."""
        problem, forward, (image, probe, *_) = self.problem, self.problem.forward, self._parts(point)
        shifts = self._shifts(point)
        loss = 0.0
        gradient = torch.zeros_like(self._point)
        sums, in_shifts = self._parts(gradient), self._shifts(gradient)
        if in_one is not None:
            rows, dark = np.concatenate(batches), self.settings.dark
            loss = in_one.likelihood((image, probe), shifts, rows, meter, sums, in_shifts, dark)
            if not self.settings.refine_probe:
                sums[1].zero_()
            return loss, gradient
        for batch in batches:
            views = forward.views(image, probe, batch, shifts)
            field, expected = detect(problem, batch, views.exit_waves())
            meter.add(batch, expected)
            limited = None if problem.limits is None else problem.limits.where[views.rows]
            least = None if limited is None else self._limit_terms(expected[limited])
            terms, weights = self._terms(expected, problem.counts[views.rows])
            for each in (terms, weights):
                zero_masked(problem, batch, each)
            if limited is not None and least is not None:
                terms[limited], weights[limited] = least
            loss += float(terms.sum(-1).sum(dtype=torch.float64))
            if (factors := frame_factors(problem, batch)) is not None:
                weights.mul_(factors)
            self._add_adjoints(views, forward.back(field, weights), sums, in_shifts)
        return loss, gradient

    def _add_adjoints(self, views: Views, change: Tensor, sums: list[Tensor], in_shifts: Tensor | None) -> None:
        """Add what a change (B, P, N, N) of the exit waves of a batch means for the parts of the point to ``sums``, and
        for the shifts, where they are refined, to ``in_shifts`` (M, 2).
        """
        forward, (in_object, in_probe, *_) = self.problem.forward, sums
        forward.add_object_adjoint(views, change, in_object)
        if in_shifts is not None:
            part, along = forward.probe_and_shift_adjoint(views, change)
            in_shifts[views.batch] = along.to(in_shifts.dtype)
            in_probe += part if self.settings.refine_probe else 0
        elif self.settings.refine_probe:
            in_probe += forward.probe_adjoint(views, change)

    def _limit_terms(self, expected: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of saturated pixels, and its derivative by their expected counts (n,)."""
        assert self.problem.limits is not None
        if not self.settings.poisson:
            return limit_amplitude_terms(self.problem.limits.value, expected)
        return survival_terms(self.problem.limits.value, expected + max(self.settings.dark, LEAST_EXPECTED))

    def _terms(self, expected: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each pixel (half its deviance, which avoids cancellation), and 1 - k / lambda or its amplitude
        counterpart.

        Overwrites ``expected``.
        """
        if not self.settings.poisson:
            amplitude, measured = expected.clamp(min=1e-12).sqrt(), counts.clamp(min=0).sqrt()
            difference = amplitude - measured
            return 2 * difference.square(), 2 * difference / amplitude
        if not self.problem.read_variance:
            found = compiled.poisson_terms(expected, counts, self.settings.dark)
            if found is not None:
                return expected, found
        predicted, known = expected.add_(self.settings.dark), counts.clamp(min=1e-6)
        weights = predicted.sub(counts).div_(predicted)
        dark = self._dark_terms(predicted, counts) if self.problem.read_variance else None
        ratio = predicted.div_(known)
        logarithm = ratio.log()
        terms = ratio.sub_(1).sub_(logarithm).mul_(known)
        return terms if dark is None else torch.where(counts > 0, terms, dark), weights

    def _dark_terms(self, predicted: Tensor, counts: Tensor) -> Tensor:
        """Loss of shifted readings k that are not positive, lambda - s^2 - k log(lambda / s^2), which has no deviance:
        0 where no photon is expected.
        """
        least = self.problem.read_variance
        return predicted - least - counts * torch.log(predicted / least)


def most_epochs(problem: Problem) -> int:
    """Epochs that L-BFGS may take; far fewer suffice in general."""
    return LONG_EPOCHS if has_many_photons(problem) else EPOCHS


def has_many_photons(problem: Problem) -> bool:
    """Whether there are so many photons in a pattern that convergence may take long."""
    return problem.power > MANY_PHOTONS


def joined(parts: list[Tensor]) -> Tensor:
    """Complex tensors as one flat real vector (n,)."""
    return torch.cat([torch.view_as_real(part).flatten() for part in parts])
