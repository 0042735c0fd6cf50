"""The engine that the automatic choice takes: a stochastic start (PIE), a rescue where that failed, then maximum
likelihood.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from diptych.ptycho.engines.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.engines.projection import Projections, ProjectionSettings

log = logging.getLogger("diptych")

LEAST_START = 12
"""Epochs of PIE before its progress is judged."""

LONGEST_START = 40
"""Epochs of PIE at most."""

SLOW = 0.02
"""PIE has done its part when the held-out fit drops by less than this share in five epochs."""

TRAPPED_FIT = 3.0
"""PIE that ends above this fit, and above the excess below, is taken to be trapped (strongly scattering objects do
that)."""

TRAPPED_EXCESS = 2e-3
"""Deviance above that of shot noise, per photon: some 1e-4 where PIE is merely on its way, 7e-3 and more where it is
trapped."""

RESCUE = 60
"""Epochs of the difference map."""

STAGES = ("start", "rescue", "second start", "likelihood")


class StagedLikelihood:
    """PIE while it gains quickly, then L-BFGS on the likelihood.

    Mini-batches find the basin from a poor start several times sooner than full-batch steps; they cannot settle in it,
    because each batch pulls towards its own noise. Where PIE is trapped, the difference map, which can leave a false
    minimum, makes a second start; the better of the two goes on.

    Parameters
    ----------
    problem : Problem
        What to solve.
    image, probe : tensors
        Starts, (H, W) and (P, N, N).
    first : PieSettings
        Of the stochastic start.
    then : LikelihoodSettings
        Of the final stage.
    rng : numpy Generator
        Draws the batches.
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
    ) -> None:
        self._problem, self._first, self._then, self._rng = problem, first, then, rng
        self._start = image
        self._trapped: tuple[Tensor, Tensor, float] | None = None
        self._engine: Pie | Projections | MaximumLikelihood = Pie(problem, image, probe, first, rng)
        self._stage = 0
        self._rescued = 0
        self._fits: list[float] = []

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop in any case; those of a rescue come on top."""
        return MaximumLikelihood.most_epochs + self._rescued

    @property
    def image(self) -> Tensor:
        """The object as it stands, (H, W): that of the first start until a second one beats it."""
        return self._engine.image if self._waiting is None else self._waiting[0]

    @property
    def probe(self) -> Tensor:
        """The probe modes as they stand, (P, N, N)."""
        return self._engine.probe if self._waiting is None else self._waiting[1]

    @property
    def _waiting(self) -> tuple[Tensor, Tensor] | None:
        """The first start, trapped, as long as the second one has yet to beat it."""
        if self._trapped is None or (self._fits and self._fits[-1] < self._trapped[2]):
            return None
        return self._trapped[:2]

    @property
    def settled(self) -> str:
        """Why nothing more is to be gained, or an empty string."""
        return self._engine.settled

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Object and probe as they stand; no later epoch writes to these tensors."""
        return self._engine.snapshot() if self._waiting is None else self._waiting

    def epoch(self) -> dict[str, float]:
        """One pass over the scan; ``stage`` counts from 0 for the start to 3 for maximum likelihood."""
        report = {**self._engine.epoch(), "stage": float(self._stage)}
        if self._stage == len(STAGES) - 1:
            return report
        held = report["held_out_fit"]
        self._fits.append(held if math.isfinite(held) else report["fit"])
        self._rescued += self._stage > 0
        if self._stage == STAGES.index("rescue"):
            if len(self._fits) >= RESCUE:
                self._enter(
                    "second start", Pie(self._problem, self._engine.image, self._engine.probe, self._first, self._rng)
                )
        elif self._start_is_done():
            self._after_start(trapped=not (report["fit"] <= TRAPPED_FIT or report["excess"] <= TRAPPED_EXCESS))
        return report

    def _start_is_done(self) -> bool:
        done = len(self._fits)
        slow = done >= LEAST_START and self._fits[-1] > (1 - SLOW) * self._fits[-6]
        return slow or done >= LONGEST_START

    def _after_start(self, trapped: bool) -> None:
        if trapped and STAGES[self._stage] == "start":
            probe, fit = self._engine.probe.clone(), self._fits[-1]
            self._trapped = (self._engine.image, probe, fit)
            log.info("the stochastic start is trapped at a fit of %.2f: trying the difference map", fit)
            # From the first object again, but with the probe as PIE has refined it: even a trapped PIE mends the probe.
            self._enter("rescue", Projections(self._problem, self._start, probe, self._projection_settings()))
        else:
            self._finish(self.image, self.probe)

    def _projection_settings(self) -> ProjectionSettings:
        return ProjectionSettings(batch=self._then.batch, refine_probe=self._then.refine_probe)

    def _finish(self, image: Tensor, probe: Tensor) -> None:
        # What the stages before have kept goes before the last engine takes its own.
        del self._engine, self._start
        self._trapped = None
        self._enter("likelihood", MaximumLikelihood(self._problem, image, probe, self._then))

    def _enter(self, stage: str, engine: Pie | Projections | MaximumLikelihood) -> None:
        self._engine, self._stage, self._fits = engine, STAGES.index(stage), []

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to go on exactly."""
        mine = {"stage": torch.tensor(self._stage), "fits": torch.tensor(self._fits, dtype=torch.float64)}
        mine["rescued"] = torch.tensor(self._rescued)
        if self._trapped is not None:
            image, probe, fit = self._trapped
            mine |= {
                "trapped_image": image,
                "trapped_probe": probe,
                "trapped_fit": torch.tensor(fit, dtype=torch.float64),
            }
        return {**self._engine.state(), **mine}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier :meth:`state`."""
        image, probe = state["image"], state["probe"]
        stage = STAGES[int(state["stage"])]
        if stage == "likelihood":
            self._finish(image, probe)
        elif stage == "rescue":
            self._enter(stage, Projections(self._problem, image, probe, self._projection_settings()))
        else:
            self._enter(stage, Pie(self._problem, image, probe, self._first, self._rng))
        if STAGES[int(state["stage"])] in ("rescue", "second start"):
            self._trapped = (state["trapped_image"], state["trapped_probe"], float(state["trapped_fit"]))
        self._rescued = int(state["rescued"])
        self._fits = state["fits"].tolist()
        self._engine.restore(state)
