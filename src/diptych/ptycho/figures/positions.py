"""Recorded against refined scan positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VISIBLE = 0.02
"""Median moves shorter than this share of the scan's width are drawn longer."""

LENGTHENED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Factors by which moves are drawn longer."""


def lengthening(recorded: NDArray[np.float64], moves: NDArray[np.float64]) -> int:
    """Factor by which moves (M, 2) are drawn longer, to be seen on a plot of positions (M, 2); 1 for long ones."""
    width = max(float(np.ptp(recorded, axis=0).max()), 1.0)
    length = float(np.median(np.hypot(*moves.T)))
    if length <= 0:
        return 1
    return max((n for n in LENGTHENED if n * length <= VISIBLE * width), default=1)


def show_positions(ax: Any, recorded: NDArray[np.float64], refined: NDArray[np.float64]) -> None:
    """Draw the recorded positions (M, 2), (y, x) in object pixels, as dots with a line to each refined one.

    The common shift is left out: the patterns do not determine it. Short moves are drawn longer, and the title says by
    how much.
    """
    moves = refined - recorded
    moves = moves - moves.mean(0)
    rms = float(np.sqrt((moves**2).sum(1).mean()))
    factor = lengthening(recorded, moves)
    ends = recorded + factor * moves
    lines = np.stack([recorded, ends, np.full_like(ends, np.nan)], 1).reshape(-1, 2)
    size = float(np.clip(2000 / max(len(recorded), 1), 1, 12))
    ax.plot(lines[:, 1], lines[:, 0], color="tab:red", lw=0.9, label="move" if factor == 1 else f"move x {factor}")
    ax.scatter(recorded[:, 1], recorded[:, 0], s=size, color="0.35", label="recorded", zorder=2.5)
    ax.set_title(f"Positions: moved by {rms:.2g} px rms" + ("" if factor == 1 else f", drawn {factor} times longer"))
    ax.set_xlabel("x (object px)")
    ax.set_ylabel("y (object px)")
    ax.set_aspect("equal", adjustable="datalim")
    ax.invert_yaxis()
    ax.legend(fontsize=8, loc="upper right")
