"""The automatic engine from a start that is better than a flat object."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.automatic import LONGEST_START, TRAPPED_EXCESS, TRAPPED_FIT, StagedLikelihood
from diptych.ptycho.engines.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.engines.run import FINAL_STAGE

log = logging.getLogger("diptych")

QUICK = 0.5
"""Once nearly all is explained, PIE goes on only while an epoch brings its held-out fit below this share of the one
before."""

SLOW = 0.9
"""PIE has done its part, near the noise or not, when two epochs bring the held-out fit to no less than this share."""

LEAST = 4
"""Epochs of PIE before it can be slow."""

TRIAL = 2
"""Epochs of PIE after which a start that still fits better than what PIE made of it is returned to."""

PHASES = ("start", "likelihood", "flat")


class WarmLikelihood:
    """PIE as long as it gains quickly, then L-BFGS on the likelihood; from flat after all where the start turns out to
    be a trap.

    A start that fits well already goes to L-BFGS at once: PIE, with its noise of batches, would only take it away from
    the answer. One that fits badly may be good all the same, under a probe that is not: some epochs of PIE tell, and
    mend both. Where PIE only makes it worse, because something other than noise or the start limits the fit, L-BFGS
    goes on from the start itself.

    Parameters
    ----------
    problem : Problem
        What to solve.
    image : (H, W) complex tensor
        Start of the object.
    probe : (P, N, N) complex tensor
        Start of the probe modes.
    first, then : PieSettings, LikelihoodSettings
        Of the two stages.
    rng : numpy Generator
        Draws the batches.
    fit : float, optional
        Held-out fit of ``image`` under ``probe``; None for a flat object, which gets all the stages of
        :class:`StagedLikelihood`.
    flat_probe : (P, N, N) complex tensor
        Start of the probe modes for a flat object.
    """

    patience: int | None = None

    def __init__(
        self,
        problem: Problem,
        image: Tensor,
        probe: Tensor,
        first: PieSettings,
        then: LikelihoodSettings,
        rng: np.random.Generator,
        fit: float | None,
        flat_probe: Tensor,
    ) -> None:
        self._problem, self._probe, self._first, self._then, self._rng = problem, flat_probe, first, then, rng
        self._lost = 0
        self._fits: list[float] = []
        self._start: tuple[Tensor, Tensor] | None = None
        self._start_fit = math.inf if fit is None else fit
        self._engine: Pie | MaximumLikelihood | StagedLikelihood
        if fit is None:
            self._go_flat()
        elif fit <= TRAPPED_FIT:
            self._go_on(image, probe)
        else:
            self._start = image.clone(), probe.clone()
            self._phase, self._engine = "start", Pie(problem, image, probe, first, rng)

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop in any case; those lost on a trap come on top."""
        engine = self._engine
        return self._lost + (
            engine.most_epochs if isinstance(engine, StagedLikelihood) else MaximumLikelihood.most_epochs
        )

    @property
    def image(self) -> Tensor:
        """The object as it stands, (H, W)."""
        return self._engine.image

    @property
    def probe(self) -> Tensor:
        """The probe modes as they stand, (P, N, N)."""
        return self._engine.probe

    @property
    def settled(self) -> str:
        """Why nothing more is to be gained, or an empty string."""
        return self._engine.settled

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Object and probe as they stand; no later epoch writes to these tensors."""
        return self._engine.snapshot()

    def epoch(self) -> dict[str, float]:
        """One pass over the scan; ``stage`` as :class:`StagedLikelihood` counts."""
        report = self._engine.epoch()
        if self._phase == "flat":
            return report
        report["stage"] = FINAL_STAGE if self._phase == "likelihood" else 0.0
        if self._phase == "start":
            self._after_pie(report)
        return report

    def _after_pie(self, report: dict[str, float]) -> None:
        held = report["held_out_fit"]
        self._fits.append(held if math.isfinite(held) else report["fit"])
        done, fits = len(self._fits), self._fits
        if done == TRIAL and self._start is not None:
            start, self._start = self._start, None
            if not min(fits) < self._start_fit:
                log.info(
                    "PIE does not improve the network's image (fit %.3g, then %.3g): back to it",
                    self._start_fit,
                    min(fits),
                )
                self._go_on(*start)
                return
        explained = report["fit"] <= TRAPPED_FIT
        quick = not explained or done < 2 or fits[-1] < QUICK * fits[-2]
        slow = done >= LONGEST_START or (done >= LEAST and not fits[-1] < SLOW * fits[-3])
        if quick and not slow:
            return
        if explained or report["excess"] <= TRAPPED_EXCESS:
            self._go_on(self._engine.image, self._engine.probe)
        else:
            log.info("the network's start is trapped at a fit of %.2f: starting again from a flat object", fits[-1])
            self._lost = done
            self._go_flat()

    def _go_on(self, image: Tensor, probe: Tensor) -> None:
        # PIE's memory, before the last engine takes its own.
        self.__dict__.pop("_engine", None)
        self._phase, self._engine = "likelihood", MaximumLikelihood(self._problem, image, probe, self._then)

    def _go_flat(self) -> None:
        flat = torch.ones(self._problem.shape, dtype=self._problem.complex_dtype, device=self._problem.device)
        self._phase, self._engine = (
            "flat",
            StagedLikelihood(self._problem, flat, self._probe, self._first, self._then, self._rng),
        )

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to go on exactly."""
        mine = {"phase": torch.tensor(PHASES.index(self._phase)), "lost": torch.tensor(self._lost)}
        mine["start_fit"] = torch.tensor(self._start_fit, dtype=torch.float64)
        if self._start is not None:
            mine["start_image"], mine["start_probe"] = self._start
        return {**self._engine.state(), **mine, "warm_fits": torch.tensor(self._fits, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier :meth:`state`."""
        self._phase, self._lost = PHASES[int(state["phase"])], int(state["lost"])
        self._fits, self._start_fit = state["warm_fits"].tolist(), float(state["start_fit"])
        self._start = (state["start_image"], state["start_probe"]) if "start_image" in state else None
        if self._phase == "flat":
            self._go_flat()
        elif self._phase == "likelihood":
            self._go_on(state["image"], state["probe"])
        else:
            self._engine = Pie(self._problem, state["image"], state["probe"], self._first, self._rng)
        self._engine.restore(state)
