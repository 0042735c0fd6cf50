"""rPIE with momentum, in batches of well-separated patterns; ePIE is its case of one pattern at a time and alpha = 1.

rPIE: Maiden, Johnson and Li, Optica 4, 736 (2017). ePIE: Maiden and Rodenburg, Ultramicroscopy 109, 1256 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import FitMeter
from diptych.ptycho.engines.problem import Problem, detect, exit_wave_change, sweep_batch
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.compiled.one_pass import CompiledPass
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.patches import multiply, scatter_add

DARK_COUNTS = 0.1
"""Counts added to both sides of the Poisson ratio k / lambda: bounds the weight of single photons where almost none is
expected."""

LARGEST_RATIO = 2.0
"""Upper bound of the Poisson ratio minus 1: a pattern may at most double its amplitude in one update."""

Box = tuple[slice, slice]
"""Rows and columns of a canvas."""

TILE = 2048
"""Most patterns of a tile, the part of the scan that is processed before the next: so many that a batch can be spread
over it, so few that its part of the object stays in the processor's third-level cache."""

LEAST_ALPHA = 1e-4
"""Least regularisation of the denominators, which are 0 outside a batch's windows."""


@dataclass(frozen=True)
class PieSettings:
    """Settings of the PIE family; see :class:`diptych.ptycho.engines.builtin.PieOptions`."""

    batch: int = 64
    alpha: float = 0.3
    step: float = 1.0
    momentum: float = 0.8
    momentum_every: int = 16
    poisson: bool = True
    refine_probe: bool = True


class Pie:
    """The PIE engine: object and probe, updated batch by batch.

    Parameters
    ----------
    problem : Problem
        What to solve.
    image : (H, W) complex tensor
        Start of the object; the engine works on its own copy.
    probe : (P, N, N) complex tensor
        Start of the probe modes.
    settings : PieSettings
        Batch, steps, momentum.
    rng : numpy Generator
        Draws the batches.
    """

    patience: int | None = 8
    most_epochs = 200

    def __init__(
        self, problem: Problem, image: Tensor, probe: Tensor, settings: PieSettings, rng: np.random.Generator
    ) -> None:
        self.problem, self.settings, self.rng = problem, settings, rng
        self.image, self.probe = (each.clone(memory_format=torch.contiguous_format) for each in (image, probe))
        corners = problem.forward.corners
        tiles = tiles_of(corners + problem.size // 2, problem.shape, max(TILE, settings.batch))
        self._tiles = [(tile[spatial_order(corners[tile], settings.batch)], box) for tile, box in tiles]
        self._updates = np.zeros(len(tiles), np.int64)
        # For the sums of each worker, 0 between updates: to clear whole canvases would cost more than the sums.
        shape = (problem.workers.count, *self.image.shape)
        self._canvases = (self.image.new_zeros(shape), self.image.real.new_zeros(shape))
        self._marks = [self.image.clone(), self.probe.clone()]
        self._velocities = [torch.zeros_like(self.image), torch.zeros_like(self.probe)]

    @property
    def settled(self) -> str:
        """Always empty: the held-out fit decides when to stop."""
        return ""

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Current object and probe; no later epoch writes to these tensors."""
        return self.image.clone(), self.probe.clone()

    def epoch(self) -> dict[str, float]:
        """One pass over the scan, tile by tile; the fit as it was before each update."""
        meter = FitMeter(self.problem)
        in_one = CompiledPass.of(self.problem)
        order = self.rng.permutation(len(self._tiles)) if len(self._tiles) > 1 else [0]
        for i in order:
            tile, box = self._tiles[i]
            for batch in spread_batches(tile, self.settings.batch, self.rng):
                self._update(batch, meter, in_one)
                self._updates[i] += 1
                if self.settings.momentum:
                    self._apply_momentum(box, int(self._updates[i]))
        return meter.values()

    def _update(self, batch: NDArray[np.int64], meter: FitMeter, in_one: CompiledPass | None) -> None:
        alpha = max(self.settings.alpha, LEAST_ALPHA)
        light = intensity(self.probe)
        stretches = np.array_split(batch, min(self.problem.workers.count, len(batch)))
        canvases = list(zip(*self._canvases, stretches, strict=False))
        parts = self.problem.workers.map(lambda job: self._contribution(*job, light, meter, in_one), canvases)
        in_object, lit = (each[: len(parts)] for each in self._canvases)
        share, least = 1 - self.settings.alpha, alpha * self._brightest(batch, light, lit)
        self._divide(batch, in_object, lit, share, least)
        if self.settings.refine_probe:
            in_probe, seen = (sum(each[1:], each[0]) for each in zip(*parts, strict=True))
            self.probe.add_(in_probe.div_(seen * share + alpha * seen.max()))

    def _brightest(self, batch: NDArray[np.int64], light: Tensor, lit: Tensor) -> Tensor:
        """The most light of a batch on a pixel of the object, looked up where each window has its most.

        Where windows cover each other, this is several times the most of one. With that of one instead, updates there
        would be longer than the whole correction, by up to 1 / (1 - alpha), and with those of the probe more than twice
        as long: 600 patterns in 1.5 x 1.5 windows, batches of 64, from the right probe, end at a fit of 150.
        """
        peak, at = light.argmax(), torch.from_numpy(self.problem.forward.corners[batch]).to(light.device)
        return lit[:, at[:, 0] + peak // light.shape[1], at[:, 1] + peak % light.shape[1]].sum(0).max()

    def _divide(self, batch: NDArray[np.int64], in_object: Tensor, lit: Tensor, share: float, least: Tensor) -> None:
        """Update the object by the sums of the workers over a batch, and clear them."""
        corners, size = self.problem.forward.corners[batch], self.problem.size
        low, (height, width) = corners.min(0), np.ptp(corners, axis=0) + size
        jobs = [(corners, (size, size))]
        if len(batch) * size**2 > height * width:
            # So many windows have more pixels than the box around them; each worker takes some of its rows.
            edges = np.linspace(0, height, self.problem.workers.count + 1).astype(np.int64)
            jobs = [(low[None] + np.array([top, 0]), (int(end - top), int(width))) for top, end in pairwise(edges)]
        divided = self.problem.workers.map(
            lambda job: compiled.divide_sums(self.image, in_object, lit, *job, share, least), jobs
        )
        if not all(divided):
            self.image.add_(multiply(in_object.sum(0), lit.sum(0).mul_(share).add_(least).reciprocal_()))
            for canvas in (in_object, lit):
                canvas.zero_()

    def _contribution(
        self,
        in_object: Tensor,
        lit: Tensor,
        batch: NDArray[np.int64],
        light: Tensor,
        meter: FitMeter,
        in_one: CompiledPass | None,
    ) -> tuple[Tensor, Tensor]:
        """Numerators and denominators of the updates, summed over some patterns, by ``in_one`` where it can.

        Sums of conj(P) change and |P|^2 are added to the canvases ``in_object`` and ``lit``, which are 0, those of
        conj(O) change and |O|^2, where the probe is refined, are returned.
        """
        problem, forward = self.problem, self.problem.forward
        in_probe, seen = torch.zeros_like(self.probe), torch.zeros_like(light)
        if in_one is not None:
            point, sums = (self.image, self.probe), (in_object, in_probe)
            denominators = (light, lit, seen if self.settings.refine_probe else seen[:0, :0])
            in_one.projection(
                point,
                batch,
                meter,
                sums,
                denominators,
                poisson=self.settings.poisson,
                dark=DARK_COUNTS,
                largest=LARGEST_RATIO,
                step=self._step,
            )
            return in_probe, seen
        scatter_add(lit, forward.corners[batch], light.expand(len(batch), -1, -1))
        for some in np.array_split(batch, -(-len(batch) // sweep_batch(problem))):
            views = forward.views(self.image, self.probe, some)
            field, expected = detect(problem, some, views.exit_waves())
            meter.add(some, expected)
            change = exit_wave_change(problem, some, field, self._weights(expected, some))
            forward.add_object_adjoint(views, change, in_object)
            if self.settings.refine_probe:
                in_probe += forward.probe_adjoint(views, change)
                seen += intensity(views.patches[None])[0]
        return in_probe, seen

    def _weights(self, expected: Tensor, batch: NDArray[np.int64]) -> Tensor:
        """Relative change of each amplitude: a Fisher-scoring step of the Poisson likelihood, or the amplitude
        projection.

        Overwrites ``expected``.
        """
        step = self._step
        if self.settings.poisson and compiled.poisson_steps(
            expected, self.problem.counts, batch, DARK_COUNTS, LARGEST_RATIO, step
        ):
            return expected
        counts = self.problem.counts.index_select(0, torch.from_numpy(batch).to(self.problem.device))
        if self.settings.poisson:
            ratio = counts.add_(DARK_COUNTS).div_(expected.add_(DARK_COUNTS)).sub_(1).clamp_(-1, LARGEST_RATIO)
            return ratio.mul_(step)
        return counts.clamp_(min=0).div_(expected.clamp_(min=1e-12)).sqrt_().sub_(1).mul_(step)

    @property
    def _step(self) -> float:
        """Factor of the relative change of amplitudes: half that of the counts, for the Poisson rule."""
        return self.settings.step * (0.5 if self.settings.poisson else 1.0)

    def _apply_momentum(self, box: Box, updates: int) -> None:
        """Momentum along the change since the last time, as in mPIE (Maiden, Johnson and Li 2017), where it is due.

        The object in the box of a tile gets it after every ``momentum_every`` updates of that tile, which has had
        ``updates``; the probe after as many of all tiles together.
        """
        in_object, in_probe = zip((self.image, self.probe), self._marks, self._velocities, strict=True)
        due = [[each[box] for each in in_object]] if updates % self.settings.momentum_every == 0 else []
        due += [list(in_probe)] if self._updates.sum() % self.settings.momentum_every == 0 else []
        for value, mark, velocity in due:
            velocity.mul_(self.settings.momentum).add_(value - mark)
            value.add_(velocity, alpha=self.settings.momentum)
            mark.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        names = ("mark_image", "mark_probe", "velocity_image", "velocity_probe")
        tensors = dict(zip(names, [*self._marks, *self._velocities], strict=True))
        return {"image": self.image, "probe": self.probe, "updates": torch.from_numpy(self._updates.copy()), **tensors}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self.image, self.probe = state["image"].clone(), state["probe"].clone()
        self._marks = [state["mark_image"].clone(), state["mark_probe"].clone()]
        self._velocities = [state["velocity_image"].clone(), state["velocity_probe"].clone()]
        updates = state["updates"].cpu().numpy().reshape(-1)
        if updates.shape != self._updates.shape:
            raise ValueError(f"updates of {len(updates)} tiles, and not of {len(self._updates)}")
        self._updates = updates.copy()


def tiles_of(centres: NDArray[np.int64], shape: tuple[int, int], most: int) -> list[tuple[NDArray[np.int64], Box]]:
    """Compact tiles of at most ``most`` patterns each, and their shares of the canvas, which do not overlap.

    Halves, across the longer side of the scan, of halves.

    Parameters
    ----------
    centres : (M, 2) int64
        Of the windows, array indices on a canvas of ``shape``.
    """

    def split(patterns: NDArray[np.int64], box: Box) -> list[tuple[NDArray[np.int64], Box]]:
        count = -(-len(patterns) // most)
        if count <= 1:
            return [(patterns, box)]
        where = centres[patterns]
        axis = int(np.argmax(np.ptp(where, axis=0)))
        along = patterns[np.argsort(where[:, axis], kind="stable")]
        first = len(along) * (count // 2) // count
        edge = int(centres[along[first], axis])
        low, high = list(box), list(box)
        low[axis], high[axis] = slice(box[axis].start, edge), slice(edge, box[axis].stop)
        return split(along[:first], (low[0], low[1])) + split(along[first:], (high[0], high[1]))

    return split(np.arange(len(centres)), (slice(0, shape[0]), slice(0, shape[1])))


def spatial_order(corners: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """Indices of the patterns along a boustrophedon path: strips in y, alternately forwards and backwards in x."""
    patterns = len(corners)
    height, width = np.ptp(corners, axis=0) + 1
    strips = int(np.clip(round(np.sqrt(min(batch, patterns) * height / width)), 1, patterns))
    by_y = np.argsort(corners[:, 0], kind="stable")
    parts = []
    for i, strip in enumerate(np.array_split(by_y, strips)):
        along = strip[np.argsort(corners[strip, 1], kind="stable")]
        parts.append(along[::-1] if i % 2 else along)
    return np.concatenate(parts)


def spread_batches(order: NDArray[np.int64], batch: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """All patterns in batches of at most ``batch``, each with one pattern from every section of the spatial order."""
    count = -(-len(order) // batch)
    batches: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, len(order), count):
        stretch = order[start : start + count]
        for where, pattern in zip(rng.permutation(count), stretch, strict=False):
            batches[where].append(int(pattern))
    return [np.asarray(b, np.int64) for b in (batches[i] for i in rng.permutation(count)) if b]
