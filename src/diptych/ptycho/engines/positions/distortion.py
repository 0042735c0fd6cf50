"""Slow distortions of a scan: scale, rotation, shear and drift, found by short trial reconstructions.

Where positions are stretched or rotated as a whole, each one sits in the middle of its neighbours, and hardly any force
acts on it: gradients move only the edge of the scan, and the correction diffuses inwards over hundreds of epochs. A
trial moves positions and object together along one distortion, lets the object settle in a few epochs of PIE, and
compares the fit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch
from diptych.runtime.interrupts import stop_if_asked

TRIAL_EPOCHS = 3
"""Epochs of PIE after which a distortion is judged."""

STEPS = (4.0, 2.0, 1.0, 0.5)
"""Distortions that are tried, pixels rms over the scan, in this order."""

MOST_STEPS = 6
"""Steps in one direction at most."""

LEAST_GAIN = 1e-3
"""Share by which a step must lower the fit."""

TRIAL_SEED = 0
"""All trials draw the same batches, so that they can be compared."""


def distortions(positions: Positions) -> list[Positions]:
    """Displacements (M, 2) of unit rms, orthogonal to each other and to common shifts.

    Scale, rotation, aspect, shear, and linear and quadratic drift in the order of the frames. What others already
    span (drift along the slow axis of a raster is a shear) is left out.
    """
    y, x = (positions - positions.mean(0)).T
    t = np.linspace(-1, 1, len(positions))
    zero = np.zeros_like(t)
    raw = [(y, x), (-x, y), (y, -x), (x, y), (t, zero), (zero, t), (t**2, zero), (zero, t**2)]
    return orthogonal(raw)


def orthogonal(raw: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[Positions]:
    """Displacements (M, 2) of unit rms, orthogonal to each other and to common shifts, that span pairs of columns (M,);
    what the ones before span is left out.
    """
    found: list[Positions] = []
    for parts in raw:
        mode = np.stack(parts, 1)
        mode = mode - mode.mean(0)
        before = np.linalg.norm(mode)
        for other in found:
            mode = mode - other * (mode * other).sum() / (other * other).sum()
        if np.linalg.norm(mode) > 0.1 * before > 0:
            found.append(mode * np.sqrt(len(mode)) / np.linalg.norm(mode))
    return found


class PositionSearch:
    """Base of searches over positions: engines whose state is the best one found, not the last one tried."""

    patience: int | None = None
    settled = ""
    _best: Placed

    @property
    def image(self) -> Tensor:
        """The best object, (H, W)."""
        return self._best.image

    @property
    def probe(self) -> Tensor:
        """The best probe modes, (P, N, N)."""
        return self._best.probe

    def snapshot(self) -> tuple[Tensor, ...]:
        """Object and probe; no later epoch writes to these tensors."""
        return self._best.image, self._best.probe

    def _report(self, problem: Problem) -> dict[str, float]:
        """Put the problem at the best positions; the fit there over all pixels."""
        self._best = Placed.of(problem, place(problem, self._best), self._best.probe)
        found = full_fit(problem, self.image, self.probe, sweep_batch(problem))
        return {name: found[name] for name in ("fit", "held_out_fit", "excess")}


class DistortionSearch(PositionSearch):
    """Improves the positions along slow distortions; an engine whose epoch tries one distortion at one size.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    settings : PieSettings
        Of the trials.
    """

    def __init__(self, problem: Problem, image: Tensor, probe: Tensor, settings: PieSettings) -> None:
        self.problem, self._settings, self._next = problem, settings, 0
        self._modes = distortions(problem.forward.positions)
        self._best = Placed.of(problem, image, probe)
        self._fit = float("inf")

    @property
    def most_epochs(self) -> int:
        """Distortions times sizes."""
        return len(STEPS) * len(self._modes)

    def epoch(self) -> dict[str, float]:
        """Steps along one distortion, forwards or backwards, as far as the fit falls."""
        if not np.isfinite(self._fit):
            self._best, self._fit = self._settle(self._best)
        size, mode = STEPS[self._next // len(self._modes)], self._modes[self._next % len(self._modes)]
        self._next += 1
        for sign in (1, -1):
            if self._walk(sign * size * mode):
                break
        return self._report(self.problem)

    def _walk(self, step: Positions) -> bool:
        """Repeat a step (M, 2) as long as the fit falls; whether it did at all."""
        improved = False
        for _ in range(MOST_STEPS):
            trial, fit = self._settle(displaced(self.problem, self._best, step))
            if not fit < self._fit * (1 - LEAST_GAIN):
                break
            self._best, self._fit, improved = trial, fit, True
        return improved

    def _settle(self, start: Placed) -> tuple[Placed, float]:
        """``start`` after a few epochs of PIE, and its fit over all pixels."""
        image = place(self.problem, start)
        engine = Pie(self.problem, image, start.probe.clone(), self._settings, np.random.default_rng(TRIAL_SEED))
        for _ in range(TRIAL_EPOCHS):
            stop_if_asked()
            engine.epoch()
        found = full_fit(self.problem, engine.image, engine.probe, sweep_batch(self.problem))["fit"]
        settled = Placed.of(self.problem, engine.image, engine.probe)
        return settled, found if np.isfinite(found) else float("inf")

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        return {
            "image": self.image,
            "probe": self.probe,
            "search_next": torch.tensor(self._next),
            "search_fit": torch.tensor(self._fit, dtype=torch.float64),
            "search_modes": torch.from_numpy(np.stack(self._modes)),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._next, self._fit = int(state["search_next"]), float(state["search_fit"])
        self._modes = list(state["search_modes"].cpu().numpy())


def displaced(problem: Problem, placed: Placed, displacement: Positions) -> Placed:
    """Positions moved by ``displacement`` (M, 2), and the object's content with them."""
    whole = place(problem, placed)
    field = _field(placed.positions - np.asarray(problem.origin), displacement, problem.shape, problem.size / 8)
    grid, image = np.indices(problem.shape) - field, whole.cpu().numpy()
    parts = [map_coordinates(part, grid, order=3, mode="nearest") for part in (image.real, image.imag)]
    warped = torch.from_numpy((parts[0] + 1j * parts[1]).astype(image.dtype)).to(whole.device)
    return Placed(warped, placed.probe, placed.positions + displacement, problem.origin)


def _field(places: Positions, values: Positions, shape: tuple[int, int], width: float) -> NDArray[np.float64]:
    """Values (M, 2) at places (M, 2) as a smooth field (2, H, W); far from all places, that of wider averages."""
    y, x = (np.clip(np.rint(c), 0, n - 1).astype(int) for c, n in zip(places.T, shape, strict=True))
    sums = np.zeros((3, *shape))
    for layer, column in zip(sums, (*values.T, 1.0), strict=True):
        np.add.at(layer, (y, x), column)
    found, known = np.zeros((2, *shape)), np.zeros(shape, bool)
    for scale in (width, 2 * width, 4 * width, 16 * width):
        *smooth, near = (gaussian_filter(layer, scale, mode="constant") for layer in sums)
        new = (near > 1e-3 * near.max()) & ~known
        for layer, part in zip(found, smooth, strict=True):
            layer[new] = part[new] / near[new]
        known |= new
    return found
