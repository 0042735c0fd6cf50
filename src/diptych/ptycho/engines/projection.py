"""Difference map and RAAR: projections onto the overlap constraint and the measured amplitudes, for all exit waves.

Difference map: Thibault et al., Ultramicroscopy 109, 338 (2009). RAAR: Luke, Inverse Problems 21, 37 (2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import FitMeter
from diptych.ptycho.engines.problem import Problem, detect, exit_wave_change, frame_factors, in_order, share_out
from diptych.ptycho.physics.forward import Views
from diptych.ptycho.physics.modes import scaled_to

FLOOR = 1e-3
"""Weight of the current value in the overlap projection, as a fraction of the largest illumination."""

CEILING = 1.5
"""Largest modulus of the object, where a transparent one has 1: without it the map can diverge from a poor initial
guess."""


@dataclass(frozen=True)
class ProjectionSettings:
    """``beta`` = 1 is the difference map, smaller values RAAR; the probe is refined from epoch ``probe_from`` on."""

    beta: float = 1.0
    batch: int = 64
    probe_from: int = 3
    refine_probe: bool = True


class Projections:
    """psi <- beta (psi + P_F(2 P_O psi - psi)) + (1 - 2 beta) P_O psi, with P_O the overlap and P_F the amplitude
    projection.

    Keeps the exit waves of all patterns: M * modes * N^2 * 8 bytes in single precision.
    """

    patience: int | None = 100
    most_epochs = 300

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, settings: ProjectionSettings) -> None:
        self.problem, self.settings = problem, settings
        self.image, self.probe = image.clone(), probe.clone()
        self._epochs = 0
        shape = (len(problem), len(probe), problem.size, problem.size)
        self._psi = torch.empty(shape, dtype=problem.complex_dtype, device=problem.device)
        for views in self._views(self._batches()):
            self._psi[views.rows] = views.exit_waves()

    @property
    def settled(self) -> str:
        """Always empty: the held-out fit decides when to stop."""
        return ""

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Current object and probe; no later epoch writes to these tensors."""
        return self.image, self.probe

    def epoch(self) -> dict[str, float]:
        """One cycle: project all exit waves, then take object and probe from them. The fit is that of the object before
        the cycle.
        """
        meter = FitMeter(self.problem)
        share_out(self.problem, lambda some: self._project_on_amplitudes(some, meter), self._batches())
        self._epochs += 1
        self._project_on_overlap()
        return meter.values()

    def _project_on_amplitudes(self, batches: Sequence[NDArray[np.int64]], meter: FitMeter) -> None:
        """Update the exit waves of some batches."""
        beta, forward = self.settings.beta, self.problem.forward
        for views in self._views(batches):
            overlap = views.exit_waves()
            meter.add(views.batch, detect(self.problem, views.batch, overlap)[1])
            psi = self._psi[views.rows]
            reflected = overlap.mul(2).sub_(psi)
            field, found = forward.detect(reflected, frame_factors(self.problem, views.batch))
            counts = self.problem.counts[views.rows].clamp(min=0)
            weights = counts.div(found.clamp(min=1e-12)).sqrt_().sub_(1)
            reflected += exit_wave_change(self.problem, views.batch, field, weights)
            psi.add_(reflected).mul_(beta).add_(overlap, alpha=1 - 2 * beta)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return {"image": self.image, "probe": self.probe, "psi": self._psi, "epochs": torch.tensor(self._epochs)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self.image, self.probe, self._psi = state["image"].clone(), state["probe"].clone(), state["psi"].clone()
        self._epochs = int(state["epochs"])

    def _batches(self) -> list[NDArray[np.int64]]:
        return in_order(len(self.problem), self.settings.batch)

    def _views(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[Views]:
        for batch in batches:
            yield self.problem.forward.views(self.image, self.probe, batch)

    def _project_on_overlap(self) -> None:
        """Object, then probe, from the exit waves: one alternation of the least-squares overlap constraint."""
        in_object = self._collect(self._object_part)
        light = self.problem.forward.illumination(self.probe)
        floor = FLOOR * light.max()
        self.image = (in_object + floor * self.image) / (light + floor)
        self.image.mul_(CEILING / self.image.abs().clamp_(min=CEILING))
        if self.settings.refine_probe and self._epochs >= self.settings.probe_from:
            in_probe = self._collect(self._probe_part)
            seen = self.problem.forward.transparency(self.image)
            probe = self.probe + in_probe / (seen + FLOOR * seen.max())
            # The scale between object and probe is free, and would drift in a scan that fits poorly.
            self.probe = scaled_to(probe, self.problem.power)

    def _collect(self, part: Callable[[Sequence[NDArray[np.int64]]], Tensor]) -> Tensor:
        parts = share_out(self.problem, part, self._batches())
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def _object_part(self, batches: Sequence[NDArray[np.int64]]) -> Tensor:
        total = torch.zeros_like(self.image)
        for views in self._views(batches):
            self.problem.forward.add_object_adjoint(views, self._psi[views.rows], total)
        return total

    def _probe_part(self, batches: Sequence[NDArray[np.int64]]) -> Tensor:
        total = torch.zeros_like(self.probe)
        for views in self._views(batches):
            total += self.problem.forward.probe_adjoint(views, self._psi[views.rows] - views.exit_waves())
        return total
