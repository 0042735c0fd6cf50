"""Whether the data say that the positions are wrong, and when in a run they are asked."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.fit_monitor import LEAST_EXCESS
from diptych.ptycho.engines.positions.distortion import distortions
from diptych.ptycho.engines.positions.score import position_score
from diptych.ptycho.engines.problem import Problem

log = logging.getLogger("diptych")

POSITIONS_TEST = 12
"""Epochs of maximum likelihood before the positions are tested, and from one test to the next."""

POSITIONS_TEST_SOON = 4
"""The same after more probe modes were added to a result that had nearly converged."""

POSITIONS_SCORE = 2.0
"""Positions are refined where the median gain of the score test, over the fit, is above this many nats per position.

Two kinds of object (N = 64, 144 patterns): 0.4 to 0.8 for right positions at 1e4, 1e5 and 1e6 photons, 2 to 2.8 for
errors of 0.3 px rms at 1e4, 5 for 0.1 px at 1e5, 50 for 0.1 px at 1e6."""

COMMON_SCORE = 12.0
"""The same for the gain of common distortions. One axis stretched by 3 %, which a defocused probe hides: 40 to 90 nats,
where single positions gain 0.9 to 1.8; by 1 %: 360. Right positions: at most 4 at 1e4 to 1e6 photons, and 8 before the
run has converged at 1e8."""

POSITIONS_DOUBT = 5.0
"""Up to this gain of single positions they are tested again, as long as the run converges: a weak object at 1e7 photons
gained 4.2 at right positions after the first epochs, and 0.5 in the end."""

CONVERGES = 0.1
"""A run still converges where the excess of its fits over 1 fell by this share since the last test."""

MODES = ("off", "auto", "on")
"""What the option allows; off once positions were found right, or are refined."""


class PositionTest:
    """The test of the positions between epochs of maximum likelihood.

    Parameters
    ----------
    problem : Problem
        Counts and current positions.
    mode : str
        ``off``: never; ``auto``: where the score says that they are wrong; ``on``: in any case.
    misread : callable, optional
        Why the scan must be read in another way, or an empty string: positions that are free can hide it. Told whether
        nothing else has worked.

    Attributes
    ----------
    distorted : bool
        Whether distortions of the whole scan are the evidence, and single positions hardly tell.
    """

    def __init__(self, problem: Problem, mode: str, misread: Callable[[bool], str] | None = None) -> None:
        self._problem, self.mode, self._misread = problem, mode, misread
        self._done, self._excess, self.distorted = 0, math.inf, False

    def wrong(
        self, image: Tensor, probe: Tensor, report: dict[str, float], epochs: int, settled: bool, soon: bool = False
    ) -> bool:
        """Whether positions are to be refined now, after ``epochs`` epochs of maximum likelihood.

        Parameters
        ----------
        image, probe : (H, W) and (P, N, N) complex tensors
            What was reached.
        report : dict
            Its ``fit`` and ``held_out_fit``.
        settled : bool
            Whether the run has converged.
        soon : bool
            Whether modes were added.
        """
        due = POSITIONS_TEST_SOON if soon and not self._done else POSITIONS_TEST * (self._done + 1)
        if self.mode == "off" or not (self.mode == "on" or epochs >= due or settled):
            return False
        single, common = self._gains(image, probe, max(report["fit"], 1.0))
        self.distorted = common > COMMON_SCORE and not single > POSITIONS_DOUBT
        asked, self.mode = self.mode, "off"
        if asked == "on" or not (single > POSITIONS_SCORE or self.distorted):
            return asked == "on"
        if not (single > POSITIONS_DOUBT or settled) and self._converges(report):
            self._done, self.mode = self._done + 1, asked
            return False
        return not self.misread(lost=False)

    def _gains(self, image: Tensor, probe: Tensor, fit: float) -> tuple[float, float]:
        """Gains in nats over the fit: the median of single positions, and that of common distortions."""
        score = position_score(self._problem, image, probe)
        single = float(np.median(score.gains())) / fit
        common = score.common_gain(distortions(self._problem.forward.positions)) / fit
        log.info(
            "positions: a step of each gains %.3g nats (median, over the fit; 0.7 where they are right), distortions "
            "of the whole scan %.3g",
            single,
            common,
        )
        return single, common

    def _converges(self, report: dict[str, float]) -> bool:
        """Whether the fits still fall: what has not converged looks like wrong positions."""
        fits = [each for each in (report["fit"], report["held_out_fit"]) if math.isfinite(each)]
        before, self._excess = self._excess, sum(fits) / max(len(fits), 1) - 1
        return before - self._excess > CONVERGES * max(min(before, self._excess), LEAST_EXCESS)

    def misread(self, lost: bool) -> bool:
        """Whether the scan must be read in another way, or none is right; told whether nothing else has worked."""
        if self._misread is None or not (why := self._misread(lost)):
            return False
        log.info("positions: not %s, %s", "searched" if lost else "refined", why)
        return True

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        values = [MODES.index(self.mode), self._done, self._excess, self.distorted]
        return {"position_test": torch.tensor(values, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        mode, done, self._excess, distorted = state["position_test"].tolist()
        self.mode, self._done, self.distorted = MODES[int(mode)], int(done), bool(distorted)
