"""Maximum likelihood by preconditioned L-BFGS: object and probe together, all patterns in every step.

The loss is the Poisson (or Gaussian-amplitude) negative log-likelihood, up to a constant. L-BFGS: Nocedal and Wright, Numerical
Optimization, algorithm 7.5, from the inverse Hessian of :mod:`diptych.ptycho.iterative.preconditioner`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.iterative.meter import FitMeter
from diptych.ptycho.iterative.preconditioner import Preconditioner
from diptych.ptycho.iterative.problem import Problem, in_order, share_out
from diptych.ptycho.iterative.waves import add_object_part, detect, illuminate, probe_part, silence, undetect

NEGLIGIBLE_GAIN = 2.5e-5
"""Nats per unknown and step, averaged over ten steps: photon noise itself costs half a nat per unknown."""

Pair = list[Tensor]
"""Object and probe, or a change of both."""


@dataclass(frozen=True)
class LikelihoodSettings:
    """Settings of the maximum-likelihood engine."""

    batch: int = 64
    history: int = 5
    dark: float = 0.01
    damping: float = 0.02
    poisson: bool = True
    refine_probe: bool = True


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
        ``dark`` counts are added to the expected ones, as of a faint background: they bound the weight of stray photons.
    """

    patience: int | None = None
    most_epochs = 200

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, settings: LikelihoodSettings) -> None:
        self.problem, self.settings = problem, settings
        # No step writes to them: each makes new ones.
        self.image, self.probe = image, probe
        self._moves: deque[tuple[Pair, Pair]] = deque(maxlen=settings.history)
        # Made once: canvases that come and go between the small arrays of batches would break up the heap.
        self._store = [torch.empty((settings.history, 2, *x.shape), dtype=x.dtype, device=x.device) for x in (image, probe)]
        self._stored = 0
        self._precondition = self._preconditioner()
        self.loss, self._gradient, self._fit = self._evaluate([self.image, self.probe])
        self._gains: deque[float] = deque(maxlen=10)
        self._failures = 0

    @property
    def settled(self) -> str:
        """Why nothing more is to be gained, or an empty string."""
        if self._failures > 1:
            return "no step lowers the loss any more (rounding)"
        unknowns = 2 * (self.image.numel() + self.settings.refine_probe * self.probe.numel())
        limit = NEGLIGIBLE_GAIN * unknowns * max(self._fit["fit"], 1.0)
        if len(self._gains) == self._gains.maxlen and sum(self._gains) / len(self._gains) < limit:
            return f"ten steps gained less than {limit:.2g} nats each for {unknowns} unknowns"
        return ""

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Object and probe as they stand; no later epoch writes to these tensors."""
        return self.image, self.probe

    def epoch(self) -> dict[str, float]:
        """One L-BFGS step, shortened until it lowers the loss; every try is a pass over the scan."""
        direction = self._direction()
        slope = _dot(direction, self._gradient)
        if slope >= 0:
            self._moves.clear()
            direction = self._direction()
            slope = _dot(direction, self._gradient)
        here, step = [self.image, self.probe], 1.0
        for _ in range(8):
            there = [x.add(d, alpha=step) for x, d in zip(here, direction, strict=True)]
            loss, gradient, fit = self._evaluate(there)
            if loss <= self.loss + 1e-4 * step * slope:
                break
            step *= 0.3
        else:
            self._failures += 1
            self._moves.clear()
            self._precondition = self._preconditioner()
            return self._report()
        move = [d.mul_(step) for d in direction]
        bend = [old.neg_().add_(new) for old, new in zip(self._gradient, gradient, strict=True)]
        if _dot(move, bend) > 0:
            self._remember(move, bend)
        self._failures = 0
        self._gains.append(self.loss - loss)
        self.image, self.probe = there
        self.loss, self._gradient, self._fit = loss, gradient, fit
        return self._report()

    def _remember(self, move: Pair, bend: Pair) -> None:
        """Keep a copy of a step and of the change of the gradient along it, in place of the oldest once there are enough."""
        slot = self._stored % self.settings.history
        self._stored += 1
        for store, one, other in zip(self._store, move, bend, strict=True):
            store[slot, 0], store[slot, 1] = one, other
        self._moves.append(([store[slot, 0] for store in self._store], [store[slot, 1] for store in self._store]))

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to go on exactly."""
        moves = {
            f"{what}{i}_{j}": part
            for i, pair in enumerate(self._moves)
            for what, parts in zip(("move", "bend"), pair, strict=True)
            for j, part in enumerate(parts)
        }
        gains = torch.tensor(list(self._gains), dtype=torch.float64)
        return {
            "image": self.image,
            "probe": self.probe,
            "gains": gains,
            "failures": torch.tensor(self._failures),
            **self._precondition.state(),
            **moves,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier :meth:`state`."""
        self.image, self.probe = state["image"].clone(), state["probe"].clone()
        self._precondition.restore(state)
        self._moves.clear()
        for i in range(sum(name.startswith("move") for name in state) // 2):
            move, bend = ([state[f"{what}{i}_{j}"] for j in (0, 1)] for what in ("move", "bend"))
            self._remember(move, bend)
        self._gains.extend(state["gains"].tolist())
        self._failures = int(state["failures"])
        self.loss, self._gradient, self._fit = self._evaluate([self.image, self.probe])

    def _report(self) -> dict[str, float]:
        return {**self._fit, "loss": self.loss / self.problem.counts.numel()}

    def _direction(self) -> Pair:
        """Two-loop recursion with the preconditioner as first guess of the inverse Hessian."""
        direction = [-g for g in self._gradient]
        weights: list[float] = []
        for move, bend in reversed(self._moves):
            weight = _dot(move, direction) / _dot(bend, move)
            weights.append(weight)
            for d, b in zip(direction, bend, strict=True):
                d.sub_(b, alpha=weight)
        direction = self._precondition(self.image, direction)
        if self._moves:
            move, bend = self._moves[-1]
            shrink = _dot(move, bend) / _dot(bend, self._precondition(self.image, bend))
        else:
            # Half the Gauss-Newton step: the diagonal preconditioner neglects how object and probe act together.
            shrink = 0.25
        for d in direction:
            d.mul_(shrink)
        for (move, bend), weight in zip(self._moves, reversed(weights), strict=True):
            more = weight - _dot(bend, direction) / _dot(bend, move)
            for d, m in zip(direction, move, strict=True):
                d.add_(m, alpha=more)
        return direction

    def _preconditioner(self) -> Preconditioner:
        return Preconditioner(self.problem, self.image, self.probe, self.settings.damping)

    def _evaluate(self, point: Pair) -> tuple[float, Pair, dict[str, float]]:
        """Loss in nats, its gradient in object and probe, and the fit, at a point."""
        meter = FitMeter(self.problem)
        batches = in_order(len(self.problem), self.settings.batch)
        parts = share_out(self.problem, lambda some: self._contribution(point, some, meter), batches)
        loss, gradient = parts[0]
        for more, other in parts[1:]:
            loss += more
            for total, part in zip(gradient, other, strict=True):
                total.add_(part)
        return loss, gradient, meter.values()

    def _contribution(self, point: Pair, batches: Sequence[NDArray[np.int64]], meter: FitMeter) -> tuple[float, Pair]:
        """Loss and gradient of some batches."""
        problem, (image, probe) = self.problem, point
        loss = 0.0
        in_object, in_probe = torch.zeros_like(image), torch.zeros_like(probe)
        for batch in batches:
            beams = illuminate(problem, image, probe, batch)
            field, expected = detect(problem, beams.exit_waves())
            meter.add(batch, expected)
            terms, weights = self._terms(expected, problem.counts[beams.rows])
            silence(problem, batch, terms)
            loss += float(terms.sum(-1).sum(dtype=torch.float64))
            change = undetect(problem, batch, field, weights)
            add_object_part(problem, beams, change, in_object)
            if self.settings.refine_probe:
                in_probe += probe_part(beams, change)
        return loss, [in_object, in_probe]

    def _terms(self, expected: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each pixel (half its deviance, so that nothing large cancels), and 1 - k / lambda or its amplitude counterpart.

        Overwrites ``expected``.
        """
        if not self.settings.poisson:
            amplitude, measured = expected.clamp(min=1e-12).sqrt(), counts.sqrt()
            difference = amplitude - measured
            return 2 * difference.square(), 2 * difference / amplitude
        foreseen, known = expected.add_(self.settings.dark), counts.clamp(min=1e-6)
        weights = counts.div(foreseen).neg_().add_(1)
        excess = foreseen.sub_(known).div_(known)
        return excess.sub_(torch.log1p(excess)).mul_(known), weights


def _dot(a: Pair, b: Pair) -> float:
    """Real inner product over object and probe, summed in double precision."""
    return sum(float(torch.view_as_real(x).mul(torch.view_as_real(y)).sum(dtype=torch.float64)) for x, y in zip(a, b, strict=True))
