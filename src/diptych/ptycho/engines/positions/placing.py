"""Positions of the patterns on a canvas that grows with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from diptych.ptycho.engines.flags.base import MOVED, MOVED_FAR, Flag
from diptych.ptycho.engines.problem import MARGIN, Problem
from diptych.ptycho.physics.patches import canvas_box

Positions = NDArray[np.float64]

FAR_STEPS, FAR_DIAMETERS = 0.5, 0.3
"""Moves are called far above this many steps of the scan or diameters of the probe, rms."""


@dataclass(frozen=True, eq=False)
class Placed:
    """An object on a canvas, its probe, and the positions of the patterns on it.

    Parameters
    ----------
    image : (H, W) complex tensor
        The object.
    probe : (P, N, N) complex tensor
        The probe modes.
    positions : (M, 2) float64 array
        (y, x) in object pixels.
    origin : (int, int)
        Coordinate (y, x) of the canvas's pixel [0, 0].
    """

    image: Tensor
    probe: Tensor
    positions: Positions
    origin: tuple[int, int]

    @classmethod
    def of(cls, problem: Problem, image: Tensor, probe: Tensor) -> Placed:
        """Object and probe of a problem, at its positions."""
        return cls(image, probe, problem.forward.positions, problem.origin)


def place(problem: Problem, placed: Placed) -> Tensor:
    """Put the problem at ``placed.positions``, and return the object on a canvas that holds all windows.

    New parts of the canvas are transparent; nothing of the object is cut off.
    """
    origin, shape = canvas_box(placed.positions, problem.size, MARGIN)
    low = np.minimum(origin, placed.origin)
    high = np.maximum(np.add(origin, shape), np.add(placed.origin, placed.image.shape))
    image = placed.image
    if tuple(high - low) != tuple(image.shape):
        image = torch.ones(tuple(int(n) for n in high - low), dtype=image.dtype, device=image.device)
        y, x = (int(n) for n in placed.origin - low)
        image[y : y + placed.image.shape[0], x : x + placed.image.shape[1]] = placed.image
    problem.forward.move(placed.positions, (int(low[0]), int(low[1])), (int(image.shape[0]), int(image.shape[1])))
    return image


def settle_positions(problem: Problem, image: Tensor, refined: list[Tensor], recorded: Positions) -> Positions:
    """Put the problem at the positions (M, 2) that belong to ``image`` (..., H, W), and return them.

    Refined ones are returned without their mean shift from the recorded ones, which the counts leave free: the canvas
    moves by whole pixels, and what is left of the shift stays.
    """
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    if not refined:
        if problem.forward.shape != shape or not np.array_equal(problem.forward.positions, recorded):
            problem.forward.move(recorded, *canvas_box(recorded, problem.size, MARGIN))
        return recorded
    positions, origin = refined[0].cpu().numpy().astype(np.float64), refined[1].cpu().numpy()
    free = np.rint((positions - recorded).mean(0)).astype(int)
    problem.forward.move(positions - free, (int(origin[0] - free[0]), int(origin[1] - free[1])), shape)
    return problem.forward.positions


def position_flag(positions: Positions, recorded: Positions, diameter: float) -> tuple[str, ...]:
    """What a result says of refined positions (M, 2); nothing where they are the recorded ones.

    Parameters
    ----------
    diameter : float
        Of the probe, pixels.
    """
    if np.array_equal(positions, recorded):
        return ()
    off = positions - recorded
    off = np.hypot(*(off - off.mean(0)).T)
    rms, step = float(np.sqrt((off**2).mean())), step_length(recorded)
    text = f"refined, by {rms:.2g} px rms and {off.max():.2g} px at most, common shift left out."
    keep = "correct_positions='off' (--correct-positions off) keeps the recorded ones."
    if rms > FAR_STEPS * step or rms > FAR_DIAMETERS * diameter:
        kind = MOVED_FAR
        text += (
            f" That is much against a step of {step:.2g} px and a probe of {diameter:.2g} px: compare them in the "
            "figure, and run `diptych check` on the scan; units, order of frames or axes may be wrong."
        )
    else:
        kind = MOVED
    return (str(Flag(kind, f"{text} {keep}")),)


def step_length(positions: Positions) -> float:
    """Median distance of a position from its nearest neighbour, pixels; infinite for a single one."""
    if len(positions) < 2:
        return float("inf")
    return float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))
