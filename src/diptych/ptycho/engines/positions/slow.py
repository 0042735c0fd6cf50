"""What refined positions are still short of along slow distortions, by parabolas through short joint refinements.

Gradients bring most of a stretch, a rotation or a drift, and then slow down: object and positions can move together at
almost no cost. The misfit that is left is small but not noise, because all trials see the same counts: a parabola
through three of them gives the step along one distortion. The direction in which the refinement went comes first, since
it stops short of its goal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.positions.distortion import displaced, orthogonal
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.problem import Problem, sweep_batch

SETTLING = 4
"""Epochs of joint refinement of each trial."""

SIZES = (0.2, 0.1)
"""Displacements that are tried, pixels rms, one pass over all distortions each."""

FURTHER = 0.1
"""Size of the first trials along the refinement's own direction, as a share of the way it went."""

FARTHEST = 3.0
"""Longest step, in sizes of the trial."""

DRIFT_TERMS = 4
"""Cosine terms of a drift in the order of the frames, for each axis."""

SLOW_MOVE = 0.25
"""Slow part of the moves, pixels rms, below which nothing is searched."""

SLOW_SHARE = 1.5
"""The slow part must exceed this many times what independent moves of the same size have of it by chance."""


def slow_modes(positions: Positions) -> list[Positions]:
    """Displacements (M, 2) of unit rms, orthogonal to each other and to common shifts: scale, rotation, aspect, shear,
    and a drift in the order of the frames as a few cosines.
    """
    y, x = (positions - positions.mean(0)).T
    zero = np.zeros(len(positions))
    frame = (np.arange(len(positions)) + 0.5) / max(len(positions), 1)
    raw = [(y, x), (-x, y), (y, -x), (x, y)]
    for order in range(1, DRIFT_TERMS + 1):
        wave = np.cos(np.pi * order * frame)
        raw += [(wave, zero), (zero, wave)]
    return orthogonal(raw)


def slow_part(moves: Positions, positions: Positions) -> Positions:
    """The part (M, 2) of moves (M, 2) that slow distortions of the positions span, common shift left out."""
    parts = [mode * (mode * moves).sum() / (mode * mode).sum() for mode in slow_modes(positions)]
    return np.sum(parts, 0) if parts else np.zeros_like(moves)


def moves_slowly(recorded: Positions, refined: Positions) -> bool:
    """Whether refined positions (M, 2) differ from the recorded ones by more slow distortion than chance gives."""
    moves = refined - recorded
    moves = moves - moves.mean(0)
    slow, whole = (float(np.sqrt((each**2).sum(1).mean())) for each in (slow_part(moves, recorded), moves))
    chance = whole * np.sqrt(len(slow_modes(recorded)) / (2 * len(moves)))
    return slow > max(SLOW_MOVE, SLOW_SHARE * chance)


class SlowSearch:
    """Completes a refinement along slow distortions; an engine whose epoch is one distortion at one size.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions.
    settings : LikelihoodSettings
        Of the trials; their positions are refined.
    recorded : (M, 2) array
        The positions before any refinement.
    """

    patience: int | None = None
    settled = ""

    def __init__(
        self, problem: Problem, image: Tensor, probe: Tensor, settings: LikelihoodSettings, recorded: Positions
    ) -> None:
        self.problem, self._settings = problem, replace(settings, refine_positions=True)
        self._best, self._next = Placed.of(problem, image, probe), 0
        self._modes = slow_modes(recorded)
        way = slow_part(problem.forward.positions - recorded, recorded)
        length = float(np.sqrt((way**2).sum(1).mean()))
        first = [(FURTHER * length, way / length)] if length > 0 else []
        self._steps = first + [(size, mode) for size in SIZES for mode in self._modes]

    @property
    def most_epochs(self) -> int:
        """Steps that are tried."""
        return len(self._steps)

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

    def epoch(self) -> dict[str, float]:
        """Trials on both sides along one distortion, and one at the vertex of the parabola; the best one stays."""
        size, mode = self._steps[self._next]
        self._next += 1
        start = self._best
        here, back, forth = (self._settle(start, step * mode) for step in (0.0, -size, size))
        turn = vertex(back[1], here[1], forth[1])
        found = self._settle(start, turn * size * mode)
        self._best = min(here, back, forth, found, key=lambda trial: trial[1])[0]
        self._best = Placed.of(self.problem, place(self.problem, self._best), self._best.probe)
        fits = full_fit(self.problem, self.image, self.probe, sweep_batch(self.problem))
        return {name: fits[name] for name in ("fit", "held_out_fit", "excess")}

    def _settle(self, start: Placed, step: Positions | float) -> tuple[Placed, float]:
        """``start`` moved by a step (M, 2) and refined for a few epochs, and its fit over all pixels."""
        moved = start if not np.any(step) else self._moved(start, np.asarray(step))
        image = place(self.problem, moved)
        engine = MaximumLikelihood(self.problem, image, moved.probe.clone(), self._settings)
        for _ in range(SETTLING):
            engine.epoch()
        fit = full_fit(self.problem, engine.image, engine.probe, sweep_batch(self.problem))["fit"]
        there = Placed.of(self.problem, engine.image.clone(), engine.probe.clone())
        return there, fit if np.isfinite(fit) else float("inf")

    def _moved(self, start: Placed, step: Positions) -> Placed:
        place(self.problem, start)
        return displaced(self.problem, start, step)

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        sizes, modes = zip(*self._steps, strict=True)
        return {
            "image": self.image,
            "probe": self.probe,
            "search_next": torch.tensor(self._next),
            "search_sizes": torch.tensor(sizes, dtype=torch.float64),
            "search_steps": torch.from_numpy(np.stack(modes)),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._next = int(state["search_next"])
        self._steps = list(zip(state["search_sizes"].tolist(), state["search_steps"].cpu().numpy(), strict=True))


def vertex(before: float, here: float, after: float) -> float:
    """Where the parabola through values at -1, 0 and 1 is least, within :data:`FARTHEST`; downhill where it opens
    downwards.
    """
    slope, bend = (after - before) / 2, after + before - 2 * here
    if not np.isfinite(slope + bend):
        return 0.0
    if bend <= 0:
        return -FARTHEST * float(np.sign(slope))
    return float(np.clip(-slope / bend, -FARTHEST, FARTHEST))
