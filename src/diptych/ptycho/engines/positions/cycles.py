"""What positions that were wrong at random keep of slow distortions, and cycles that take it away.

Independent errors of several pixels hold some scale, rotation, shear and drift by chance. Once single positions are
right against their neighbours, joint refinement moves these distortions slowly: the object has to be warped with them,
and its finest detail, which would have to follow, resists. A new object from a flat one follows at once. Each cycle
builds one at the positions reached, and refines all again; from how its move differs from that of the cycle before, the
distance that is left is estimated along each distortion, and the next one starts there.

``natural``, N = 128, 100 patterns, 1e6 photons, 5.8 px rms: 0.80 px are left, almost only rotation and shear. Cycles of
30 epochs without these estimates: 0.74, 0.69, 0.64, 0.59, 0.55 px.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import full_fit, level
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
from diptych.ptycho.engines.pie import PieSettings
from diptych.ptycho.engines.positions.afresh import rebuilt, refined
from diptych.ptycho.engines.positions.distortion import PositionSearch
from diptych.ptycho.engines.positions.placing import Placed, Positions, place
from diptych.ptycho.engines.positions.slow import SLOW_MOVE, moves_slowly, slow_modes, slow_part
from diptych.ptycho.engines.problem import Problem, sweep_batch

log = logging.getLogger("diptych")

Coefficients = NDArray[np.float64]

CYCLE = 30
"""Epochs of joint refinement of a cycle."""

MOST_CYCLES = 12
"""Cycles."""

HELD = 0.3
"""Slow distortion that errors of the size of the moves hold by chance, pixels rms, above which cycles are made."""

SMALL, LEFT = 0.03, 0.1
"""Slow part of the move of a cycle, and estimate of what is left, pixels rms, below which no other cycle follows."""

USUAL_RATE, USUAL_SPREAD = 0.15, 0.2
"""Share of the distance that is left which a cycle goes, and how far starts must be apart, pixels rms, for their moves
to tell better."""

LEAST_RATE = 0.05
"""The share is not taken to be lower."""

FADING = 0.7
"""Weight of a cycle against the one after it: the distance that others leave changes."""

FARTHEST, TAKEN_BACK = 4.0, 0.75
"""The next cycle starts no further on than this many times what the last one moved; where it then fits worse, that
share of the way is taken back."""

FURTHER, STILL = 0.15, 0.01
"""Share of the whole way along the distortions by which the second cycle starts further on: where a probe of another
focus hides a scale, moves near the wrong one are small, and those from a start nearer to the right one are large. Not
where the first cycle moves by less, pixels rms, than the second number."""

MOST_FAILED = 2
"""Cycles that may fit worse than the lowest one."""

MOST_SIGMAS = 3.0
"""A distortion goes no further than so many standard deviations of what errors of the size of the moves hold."""

LEAST_GAIN, PATIENCE = 2e-4, 3
"""The cycles end where so many in a row do not bring the fit below the lowest one by this share: what the data do not
tell would wander."""

WORSE = 0.01
"""Share by which the fit of a cycle may exceed the lowest one: where it does, the cycles go on or end without it. And
its held-out fit that of the start: where it does, its state is not kept."""


def held_by_chance(recorded: Positions, refined: Positions) -> float:
    """Slow distortion, pixels rms, that independent errors as large as the rest of the moves (M, 2) hold on average."""
    moves = refined - recorded
    moves = moves - moves.mean(0)
    rest = moves - slow_part(moves, recorded)
    modes = len(slow_modes(recorded))
    return float(np.sqrt((rest**2).sum() * modes / max(2 * len(moves) - modes, 1) / len(moves)))


def holds_slow(recorded: Positions, refined: Positions, least: float = SLOW_MOVE) -> bool:
    """Whether refined positions (M, 2) may keep much slow distortion: that which errors as large as the moves hold by
    chance, or what is left of one along which they moved by more than ``least`` pixels rms.
    """
    return held_by_chance(recorded, refined) > HELD or moves_slowly(recorded, refined, least)


class SlowCycles(PositionSearch):
    """Takes slow distortions out of positions that were wrong at random; an engine whose epoch is one cycle.

    Parameters
    ----------
    problem : Problem
        What to solve; it is left at the best positions.
    image, probe : (H, W) and (P, N, N) complex tensors
        Start, at the problem's positions. It stays where cycles do not fit as well.
    pie, likelihood : PieSettings, LikelihoodSettings
        Of the cycles.
    recorded : (M, 2) array
        The positions before any refinement.
    """

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        pie: PieSettings,
        likelihood: LikelihoodSettings,
        recorded: Positions,
    ) -> None:
        self.problem, self._pie, self._likelihood, self._recorded = problem, pie, likelihood, recorded
        self._best = self._next = Placed.of(problem, image, probe)
        self._modes = np.stack(slow_modes(recorded))
        self._first = self._along(self._best.positions)
        went = float(np.linalg.norm(self._first))
        held = max(HELD, held_by_chance(recorded, self._best.positions), went)
        self._farthest = MOST_SIGMAS * held / np.sqrt(len(self._modes))
        self._starts: list[Coefficients] = []
        self._moves: list[Coefficients] = []
        self._level = self._lowest = float("inf")
        self._left, self._idle, self._failed, self._ended = float("inf"), 0, 0, False
        self._ahead = np.zeros(len(self._modes))
        """How far the next cycle starts ahead of the end of the last one along each distortion."""

    @property
    def most_epochs(self) -> int:
        """Cycles made, and one more where it goes on."""
        done = len(self._moves) + self._failed
        small = bool(self._moves) and float(np.linalg.norm(self._moves[-1])) < SMALL and self._left < LEFT
        small &= done > 1 or not np.any(self._ahead)
        goes_on = not self._ended and not small and self._idle < PATIENCE
        return done + (goes_on and done < MOST_CYCLES)

    def epoch(self) -> dict[str, float]:
        """One cycle."""
        if not self._moves and not self._failed:
            self._level = level(full_fit(self.problem, self.image, self.probe, sweep_batch(self.problem)))
        place(self.problem, self._next)
        start = self._next.positions
        here = refined(self.problem, rebuilt(self.problem, self._next.probe, self._pie), self._likelihood, CYCLE)
        found = full_fit(self.problem, place(self.problem, here), here.probe, sweep_batch(self.problem))
        move = self._along(here.positions) - self._along(start)
        done, size = len(self._moves) + self._failed + 1, float(np.linalg.norm(move))
        log.info("positions: cycle %d moved slow distortions by %.2g px rms", done, size)
        if not found["fit"] <= (1 + WORSE) * self._lowest or not np.isfinite(found["fit"]):
            self._turn_back()
            return self._report(self.problem)
        self._starts.append(self._along(start))
        self._moves.append(move)
        self._idle = 0 if found["fit"] < (1 - LEAST_GAIN) * self._lowest else self._idle + 1
        if found["fit"] < self._lowest and level(found) <= (1 + WORSE) * self._level:
            self._best = here
        self._lowest = min(found["fit"], self._lowest)
        onwards = self._onwards()
        self._left = float(np.linalg.norm(onwards))
        self._ahead = onwards * min(1.0, FARTHEST * size / max(self._left, 1e-9))
        if len(self._moves) == 1:
            # It started from an older state: its move is no guide to how far the way goes.
            self._ahead = FURTHER * self._along(here.positions) * (size > STILL)
        self._next = replace(here, positions=here.positions + self._displacement(self._ahead))
        return self._report(self.problem)

    def _turn_back(self) -> None:
        """Take back most of what the next cycle was to start ahead by; the end where there is nothing, or no hope."""
        self._failed += 1
        self._ended = self._failed > MOST_FAILED or not np.linalg.norm(self._ahead) > SMALL
        back = TAKEN_BACK * self._ahead
        self._ahead = self._ahead - back
        self._next = replace(self._next, positions=self._next.positions - self._displacement(back))

    def _displacement(self, along: Coefficients) -> Positions:
        """Displacements (M, 2) that go so far along each distortion."""
        found: Positions = (along[:, None, None] * self._modes).sum(0)
        return found

    def _along(self, positions: Positions) -> Coefficients:
        """How far positions (M, 2) are from the recorded ones along each distortion, pixels rms, (K,)."""
        found: Coefficients = (self._modes * (positions - self._recorded)).sum((1, 2)) / len(positions)
        return found

    def _onwards(self) -> Coefficients:
        """What is left to go along each distortion, from a line through the moves of all cycles against their
        starts.
        """
        starts, moves = np.array(self._starts), np.array(self._moves)
        weights = FADING ** np.arange(len(moves))[::-1, None]
        start, move = ((weights * each).sum(0) / weights.sum() for each in (starts, moves))
        fall = -(weights * (starts - start) * (moves - move)).sum(0) + USUAL_SPREAD**2 * USUAL_RATE
        rate = fall / ((weights * (starts - start) ** 2).sum(0) + USUAL_SPREAD**2)
        end = start + move / rate.clip(LEAST_RATE)
        end = np.clip(end, self._first - self._farthest, self._first + self._farthest)
        left: Coefficients = end - (starts[-1] + moves[-1])
        return left

    @property
    def _limits(self) -> list[float]:
        return [self._farthest, self._level, self._lowest, self._left, self._idle, self._failed, self._ended]

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        there = self._next
        return {
            "image": self.image,
            "probe": self.probe,
            "cycles_starts": torch.from_numpy(np.array(self._starts).reshape(-1, len(self._modes))),
            "cycles_moves": torch.from_numpy(np.array(self._moves).reshape(-1, len(self._modes))),
            "cycles_limits": torch.from_numpy(np.concatenate([self._first, self._ahead, self._limits])),
            "cycles_image": there.image,
            "cycles_probe": there.probe,
            "cycles_positions": torch.from_numpy(there.positions),
            "cycles_origin": torch.tensor(there.origin),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._starts, self._moves = (list(state[f"cycles_{name}"].cpu().numpy()) for name in ("starts", "moves"))
        limits = state["cycles_limits"].cpu().numpy()
        self._first, self._ahead, limits = np.split(limits, [len(self._modes), 2 * len(self._modes)])
        self._farthest, self._level, self._lowest, self._left = limits[:4].tolist()
        self._idle, self._failed, self._ended = int(limits[4]), int(limits[5]), bool(limits[6])
        y, x = (int(value) for value in state["cycles_origin"])
        positions = state["cycles_positions"].cpu().numpy()
        self._next = Placed(state["cycles_image"], state["cycles_probe"], positions, (y, x))
