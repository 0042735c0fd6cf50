"""The automatic engine: stages from an initial guess to maximum likelihood.

::

    flat object, or a result file ──> initial guess ──> [frame factors] ──> likelihood
                                       │ stagnated                ▲
                                       └──> rescue ──> second guess
    image of a trained network ────> refinement ──> likelihood, or back to a flat object where it stagnates

    likelihood, where modes are missing ──> more modes ──> likelihood
    likelihood, where positions are wrong ──> positions ──> [distortions ──> positions] ──> likelihood

=============  =====================================================================================================
initial guess  PIE. Mini-batches find the basin from a poor start several times sooner than full-batch steps, but
               cannot converge in it, because each batch fits its own noise.
rescue         The difference map, which can leave a local minimum, from the initial object and PIE's probe. Only
               where PIE stagnated, as it does with strongly scattering objects.
second guess   PIE from the rescued object. The better of the two guesses goes on.
refinement     PIE from a network's image that fits poorly, as long as it gains quickly. It corrects image and probe.
               Skipped where the image fits well: PIE's batch noise would only move it away from the solution.
frame factors  PIE again, with a factor for each frame's intensity. Only where factors explain part of the deviance;
               kept where the held-out fit then falls by more than that part.
likelihood     L-BFGS on the likelihood of all patterns, until convergence.
more modes     PIE with more probe modes, a background or a point spread. Only where photon noise does not explain the
               patterns, and trials on a part of the scan say that these do
               (:mod:`~diptych.ptycho.engines.modes.trials`).
positions      L-BFGS in object, probe and positions together. Only where the score test of the positions
               (:mod:`~diptych.ptycho.engines.positions.score`) says that they are wrong; kept where the held-out fit
               falls clearly.
distortions    Scale, rotation, shear and drift of the whole scan, by trials. Only where the fit is still poor, or
               the positions moved slowly as a whole.
=============  =====================================================================================================
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.ptycho.engines.base import FINAL_STAGE, Engine, EngineInput
from diptych.ptycho.engines.checkpoint import Guess, guess_of, guess_state
from diptych.ptycho.engines.flags.base import BACKGROUND, POINT_SPREAD
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood, most_epochs
from diptych.ptycho.engines.modes.choice import MOVABLE, RECORDED, REFINED, ModeChoice
from diptych.ptycho.engines.modes.states import EXTRAS, alike
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.positions.correction import PositionCorrection
from diptych.ptycho.engines.problem import point_spread
from diptych.ptycho.engines.projection import Projections, ProjectionSettings
from diptych.ptycho.engines.stopping import STAGNATED_FIT, refinement_gains, stagnated, stalled
from diptych.ptycho.engines.variation.factors import FactorTrial

log = logging.getLogger("diptych")

LEAST_START, LONGEST_START = 12, 40
"""Epochs of PIE before its progress is assessed, and most epochs."""

SLOW = 0.02
"""PIE is finished when the held-out fit drops by less than this share in five epochs."""

RESCUE = 60
"""Epochs of the difference map."""

RESCUE_LEAST = 20
"""Epochs of the difference map before it is given up where it diverges."""

RESCUE_DIVERGED = 3.0
"""The difference map diverges when its held-out fit is this many times that of the first guess: wrong positions, at
5e7 photons and an annular far field, 5 to 7 times."""

REFINEMENT_TRIAL = 2
"""Epochs of refinement after which a network's image that still fits better than PIE's result is returned to."""

MODES_EPOCHS, MOST_MODES_EPOCHS = 4, 40
"""Epochs of PIE with more modes, which come from the trials and are nearly right; most where a point spread is fitted,
which object and probe hide (see :data:`~diptych.ptycho.engines.modes.states.ESTIMATES`)."""

Report = dict[str, float]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Parameters
    ----------
    number : float
        Its value in the history column ``stage``.
    make : callable
        From object (H, W) and probe (P, N, N) to the engine that runs.
    after : callable
        Called with the report of each epoch; may enter another stage.
    """

    number: float
    make: Callable[[Automatic, Tensor, Tensor], Engine]
    after: Callable[[Automatic, Report], None]


class Automatic:
    """Runs the stages of :data:`STAGES`, each an engine of its own.

    Parameters
    ----------
    given : EngineInput
        Problem and start. ``given.fit`` tells that the object is a network's image.
    pie : PieSettings
        Of the PIE stages.
    likelihood : LikelihoodSettings
        Of the final stage.
    """

    patience: int | None = None

    def __init__(self, given: EngineInput, pie: PieSettings, likelihood: LikelihoodSettings) -> None:
        self.problem, self._rng = given.problem, given.rng
        self._pie, self._likelihood = pie, likelihood
        self._flat_probe = given.probe if given.flat_probe is None else given.flat_probe
        self._start: Tensor | None = given.image
        self._first: Guess | None = None
        self._network: tuple[Tensor, Tensor] | None = None
        self._network_fit = math.inf if given.fit is None else given.fit
        self._extra = 0
        self._factors = FactorTrial(given.problem, given.test_factors)
        self._fits: list[float] = []
        self._inside: list[float] = []
        self.positions = PositionCorrection(given.problem, given.positions, given.misread, given.first_probes)
        self._modes = given.modes or ModeChoice()
        if given.fit is None:
            self._enter("initial guess", given.image, given.probe)
        elif given.fit <= STAGNATED_FIT:
            self._enter("likelihood", given.image, given.probe)
        else:
            self._network = given.image.clone(), given.probe.clone()
            self._enter("refinement", given.image, given.probe)

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop; those of a rescue and of a failed refinement are added."""
        return most_epochs(self.problem) + self._extra

    @property
    def image(self) -> Tensor:
        """The current object, (H, W): that of the first guess until the second one fits better."""
        return self._engine.image if self._waiting is None else self._waiting[0]

    @property
    def probe(self) -> Tensor:
        """The current probe modes, (P, N, N)."""
        return self._engine.probe if self._waiting is None else self._waiting[1]

    @property
    def _waiting(self) -> tuple[Tensor, Tensor] | None:
        """The first guess, as long as no second one fits better, or factors of the frames are on trial."""
        if self._factors.constant is not None:
            return self._factors.constant[:2]
        if self._first is None or (self._fits and self._fits[-1] < self._first[2]):
            return None
        return self._first[:2]

    @property
    def settled(self) -> str:
        """Why the engine has converged, or an empty string."""
        more = self.stage == "likelihood" and (self._modes.found is not None or self.positions.refined)
        return self._engine.settled or (stalled(self._fits, self._inside, self.problem.held.numel()) if more else "")

    def snapshot(self) -> tuple[Tensor, ...]:
        """Current object and probe, and positions and origin of the canvas where they are refined; no later epoch
        writes to these tensors.
        """
        found = self._engine.snapshot()[:2] if self._waiting is None else self._waiting
        return (*found, *self.positions.whereabouts()) if self.positions.refined else found

    def epoch(self) -> Report:
        """One pass over the scan; ``stage`` counts from 0 (PIE) to 3 (maximum likelihood)."""
        stage = STAGES[self.stage]
        report = {**self._engine.epoch(), "stage": stage.number}
        held = report["held_out_fit"]
        self._fits.append(held if math.isfinite(held) else report["fit"])
        self._inside.append(report["fit"])
        stage.after(self, report)
        return report

    def _enter(self, stage: str, image: Tensor, probe: Tensor) -> None:
        self.__dict__.pop("_engine", None)  # Its memory is freed before the next engine allocates its own.
        if stage == "likelihood":
            self._start = self._first = self._network = None
        self.stage, self._fits, self._inside = stage, [], []
        self._engine = STAGES[stage].make(self, image, probe)

    def _make_pie(self, image: Tensor, probe: Tensor) -> Engine:
        return Pie(self.problem, image, probe, self._pie, self._rng)

    def _make_projections(self, image: Tensor, probe: Tensor) -> Engine:
        settings = ProjectionSettings(batch=self._likelihood.batch, refine_probe=self._likelihood.refine_probe)
        return Projections(self.problem, image, probe, settings)

    def _make_likelihood(self, image: Tensor, probe: Tensor) -> Engine:
        """Of the last stage, and of the rounds of the positions."""
        settings = replace(self._likelihood, refine_positions=self.positions.refined)
        return MaximumLikelihood(self.problem, image, probe, settings)

    def _make_distortions(self, image: Tensor, probe: Tensor) -> Engine:
        return self.positions.search(image, probe, self._pie, self._likelihood)

    def _after_initial_guess(self, report: Report) -> None:
        if not self._pie_is_done():
            return
        if not (self._factors.untried and self._tries_factors(self._fits[-1])):
            self._leave_initial_guess(report)

    def _tries_factors(self, fit: float) -> bool:
        """Whether factors of the frames are tried now; ``fit`` is the held-out fit without."""
        begun = self._factors.begin(self.image, self.probe, fit)
        if begun:
            self._enter("frame factors", self.image, self.probe)
        return begun

    def _leave_initial_guess(self, report: Report) -> None:
        if not stagnated(report):
            self._enter("likelihood", self.image, self.probe)
            return
        image, probe, fit = self._engine.image, self._engine.probe.clone(), self._fits[-1]
        log.info("PIE stagnated at a fit of %.2f: trying the difference map", fit)
        self._first = (image, probe, fit)
        # From the initial object, but with PIE's probe: PIE improves the probe even where it stagnates.
        self._enter("rescue", self._initial_image(), probe)

    def _after_frame_factors(self, report: Report) -> None:
        self._extra += 1
        late = self._factors.late
        if not (len(self._fits) >= MODES_EPOCHS if late else self._pie_is_done()):
            return
        if (constant := self._factors.end(self._fits[-1])) is not None:
            self._enter("initial guess", *constant[:2])
            self._fits = [constant[2]]
        if late:
            self._enter("likelihood", self.image, self.probe)
        else:
            self._leave_initial_guess(report)

    def _after_rescue(self, report: Report) -> None:
        self._extra += 1
        assert self._first is not None
        if len(self._fits) >= RESCUE_LEAST and not min(self._fits[-5:]) < RESCUE_DIVERGED * self._first[2]:
            log.info("the difference map diverged (fit %.3g): continuing from the first guess", self._fits[-1])
            self._enter("likelihood", *self._first[:2])
            return
        if len(self._fits) >= RESCUE:
            self._enter("second guess", self._engine.image, self._engine.probe)

    def _after_second_guess(self, report: Report) -> None:
        self._extra += 1
        if self._pie_is_done():
            self._enter("likelihood", self.image, self.probe)

    def _after_refinement(self, report: Report) -> None:
        done, fits = len(self._fits), self._fits
        if done == REFINEMENT_TRIAL and self._network is not None:
            network, self._network = self._network, None
            if not min(fits) < self._network_fit:
                message = "PIE does not improve the network's image (fit %.3g, then %.3g): continuing from the image"
                log.info(message, self._network_fit, min(fits))
                self._enter("likelihood", *network)
                return
        if done < LONGEST_START and refinement_gains(fits, near=report["fit"] <= STAGNATED_FIT):
            return
        if not stagnated(report):
            self._enter("likelihood", self._engine.image, self._engine.probe)
            return
        log.info("PIE stagnated from the network's image at a fit of %.2f: restarting from a flat object", fits[-1])
        self._extra, self._start = done, None
        self._enter("initial guess", self._initial_image(), self._flat_probe)

    def _after_likelihood(self, report: Report) -> None:
        """The last stage, which the runner stops; modes and positions are tested in it."""
        settled, modes, positions = bool(self.settled), self._modes, self.positions
        where = MOVABLE if positions.open else REFINED if positions.refined else RECORDED
        if (more := modes.more(self.image, self.probe, report, self._fits, settled, where)) is not None:
            self._enter("more modes", self.image, more)
        elif modes.awaited(report, self._fits, settled, where):
            return
        elif positions.are_wrong(self.image, self.probe, report, len(self._fits), settled, modes.found is not None):
            self._enter(*positions.begin(self.image, self.probe, self._fits[-1]))
        elif positions.are_lost(report, self._fits, self._inside):
            self._enter(*positions.search_all(self.image, self.probe, self._fits[-1]))
        elif failed := positions.fail(self._fits[-1], len(self._fits), settled):
            self._enter(*failed)

    def _after_more_modes(self, report: Report) -> None:
        self._extra += 1
        moved = self._estimate_extras(self.image, self.probe)
        if len(self._fits) >= (MOST_MODES_EPOCHS if moved else MODES_EPOCHS):
            self._enter_likelihood("likelihood", self.image, self.probe, self._fits[-1])

    def _after_positions(self, report: Report) -> None:
        """A round of the positions, or the search for distortions."""
        self._extra += 1
        fits = self._fits
        if self.positions.round_is_done(fits) if self.stage == "positions" else len(fits) >= self._engine.most_epochs:
            self._enter_likelihood(*self.positions.next_round(self.image, self.probe, fits[-1]), fits[-1])

    def _enter_likelihood(self, stage: str, image: Tensor, probe: Tensor, fit: float) -> None:
        """Enter a stage; where it is the last one, after a trial of factors of the frames if they may be needed."""
        self._factors.give_up()
        if stage == "likelihood" and self._estimate_extras(image, probe) and self.stage != "more modes":
            stage = "more modes"  # Positions were refined: a point spread that stood for their errors moves, in PIE.
        self._enter(stage, image, probe)
        if self._factors.again() and stage == "likelihood":
            self._tries_factors(fit)

    def _estimate_extras(self, image: Tensor, probe: Tensor) -> bool:
        """Fit background and point spread, where there are any, anew. Whether the point spread still moves."""
        before = self.problem.forward.spread
        for extra in self._modes.gains:
            EXTRAS[extra](self.problem, image, probe)
        return not alike(before, self.problem.forward.spread)

    def _pie_is_done(self) -> bool:
        done = len(self._fits)
        slow = done >= LEAST_START and self._fits[-1] > (1 - SLOW) * self._fits[-6]
        return slow or done >= LONGEST_START

    def _initial_image(self) -> Tensor:
        """The object of the initial guess: the one given, or a flat one after a failed refinement."""
        return self.problem.flat_object() if self._start is None else self._start

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to continue with the same numbers."""
        mine = {
            "stage": torch.tensor(list(STAGES).index(self.stage)),
            "fits": torch.tensor(self._fits, dtype=torch.float64),
            "extra": torch.tensor(self._extra),
            "inside": torch.tensor(self._inside, dtype=torch.float64),
            "network_fit": torch.tensor(self._network_fit, dtype=torch.float64),
        }
        mine |= guess_state("first", self._first) | self._factors.state()
        mine |= self.positions.state() | self._modes.state()
        if self._network is not None:
            mine["network_image"], mine["network_probe"] = self._network
        forward, gains = self.problem.forward, self._modes.gains
        if BACKGROUND in gains and forward.background is not None:
            mine["background"] = forward.background
        if POINT_SPREAD in gains and forward.spread is not None:
            mine["point_spread"] = torch.tensor(forward.spread.widths, dtype=torch.float64)
        return {**self._engine.state(), **mine}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""
        self._network = None
        self._factors.restore(state)
        self.positions.restore(state)
        self._modes.restore(state)
        if "background" in state:
            self.problem.forward.background = state["background"]
        if "point_spread" in state:
            self.problem.forward.spread = point_spread(self.problem, state["point_spread"].tolist())
        self._enter(list(STAGES)[int(state["stage"])], state["image"], state["probe"])
        self._first = guess_of(state, "first")
        if "network_image" in state:
            self._network = (state["network_image"], state["network_probe"])
        self._fits, self._extra = state["fits"].tolist(), int(state["extra"])
        self._network_fit, self._inside = float(state["network_fit"]), state["inside"].tolist()
        self._engine.restore(state)


STAGES = {
    "initial guess": Stage(0.0, Automatic._make_pie, Automatic._after_initial_guess),
    "rescue": Stage(1.0, Automatic._make_projections, Automatic._after_rescue),
    "second guess": Stage(2.0, Automatic._make_pie, Automatic._after_second_guess),
    "frame factors": Stage(2.0, Automatic._make_pie, Automatic._after_frame_factors),
    "refinement": Stage(0.0, Automatic._make_pie, Automatic._after_refinement),
    "likelihood": Stage(FINAL_STAGE, Automatic._make_likelihood, Automatic._after_likelihood),
    "more modes": Stage(2.0, Automatic._make_pie, Automatic._after_more_modes),
    "positions": Stage(2.0, Automatic._make_likelihood, Automatic._after_positions),
    "distortions": Stage(2.0, Automatic._make_distortions, Automatic._after_positions),
}
"""The stages by name: what runs, and where it leads."""
