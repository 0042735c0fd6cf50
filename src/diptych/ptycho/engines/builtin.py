"""The engines of the package: options of each, and how it is built. torch is imported when one is built."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from diptych.ptycho.engines.base import Engine, EngineExtension, EngineInput
from diptych.runtime.options import Options
from diptych.runtime.progress import Progress
from diptych.runtime.registry import NoOptions

if TYPE_CHECKING:
    from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
    from diptych.ptycho.engines.pie import PieSettings

log = logging.getLogger("diptych")

BATCH_UPDATES = 16
"""Least number of PIE updates per pass over the scan, where the scan has enough patterns."""

NoiseModel = Annotated[
    Literal["auto", "poisson", "amplitude"],
    Field(description="Noise model of the data step: poisson counts, or least squares on amplitudes."),
]
Batch = Annotated[int | None, Field(ge=1, description="Patterns per update; without it the engine decides.")]
Alpha = Annotated[
    float | None,
    Field(ge=0, le=1, description="Regularisation of the PIE denominators (0 least, 1 that of ePIE)."),
]
Step = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Step size as a fraction of the engine's own step (PIE), or the relaxation beta (raar).",
    ),
]
Momentum = Annotated[float | None, Field(ge=0, lt=1, description="Momentum of the PIE updates; 0 turns it off.")]


class PieOptions(Options):
    """Options of rPIE, and of engines with a PIE stage."""

    likelihood: NoiseModel = "auto"
    batch: Batch = None
    alpha: Alpha = None
    step: Step = None
    momentum: Momentum = None


class EpieOptions(Options):
    """Options of ePIE."""

    likelihood: NoiseModel = "auto"
    step: Step = None


class DifferenceMapOptions(Options):
    """Options of the difference map."""

    batch: Batch = None


class RaarOptions(Options):
    """Options of RAAR."""

    batch: Batch = None
    step: Step = None


def _rpie_settings(given: EngineInput, options: PieOptions) -> PieSettings:
    from diptych.ptycho.engines.pie import PieSettings

    return PieSettings(
        batch=options.batch or min(max(len(given.problem) // BATCH_UPDATES, 1), 64),
        alpha=0.3 if options.alpha is None else options.alpha,
        step=options.step or 1.0,
        momentum=0.8 if options.momentum is None else options.momentum,
        poisson=options.likelihood != "amplitude",
        refine_probe=given.refine_probe,
    )


def _likelihood_settings(given: EngineInput, options: PieOptions) -> LikelihoodSettings:
    from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings
    from diptych.ptycho.engines.problem import sweep_batch

    return LikelihoodSettings(
        batch=options.batch or sweep_batch(given.problem),
        poisson=options.likelihood != "amplitude",
        refine_probe=given.refine_probe,
    )


def build_automatic(given: EngineInput, options: PieOptions) -> Engine:
    """Build the staged engine; see :mod:`diptych.ptycho.engines.automatic`."""
    from diptych.ptycho.engines.automatic import Automatic

    return Automatic(given, _rpie_settings(given, options), _likelihood_settings(given, options))


def build_rpie(given: EngineInput, options: PieOptions) -> Engine:
    """Build rPIE with momentum, in batches."""
    from diptych.ptycho.engines.pie import Pie

    return Pie(given.problem, given.image, given.probe, _rpie_settings(given, options), given.rng)


def build_epie(given: EngineInput, options: EpieOptions) -> Engine:
    """Build ePIE: one pattern at a time, alpha = 1, no momentum."""
    from diptych.ptycho.engines.pie import Pie, PieSettings

    poisson = options.likelihood == "poisson"
    settings = PieSettings(1, 1.0, options.step or 1.0, 0.0, poisson=poisson, refine_probe=given.refine_probe)
    return Pie(given.problem, given.image, given.probe, settings, given.rng)


def build_dm(given: EngineInput, options: DifferenceMapOptions) -> Engine:
    """Build the difference map."""
    return _projections("dm", given, 1.0, options.batch)


def build_raar(given: EngineInput, options: RaarOptions) -> Engine:
    """Build RAAR with relaxation beta."""
    return _projections("raar", given, options.step or 0.9, options.batch)


def _projections(name: str, given: EngineInput, beta: float, batch: int | None) -> Engine:
    from diptych.ptycho.engines.problem import sweep_batch
    from diptych.ptycho.engines.projection import Projections, ProjectionSettings

    problem = given.problem
    size = len(problem) * len(given.probe) * problem.size**2 * problem.complex_dtype.itemsize / 1e6
    log.warning("%s keeps the exit waves of all patterns: %.0f MB more than the other engines", name, size)
    if given.progress is not None:
        given.progress(Progress(f"{name}: exit waves need {size:.0f} MB", 0, 0))
    settings = ProjectionSettings(beta, batch or sweep_batch(problem), refine_probe=given.refine_probe)
    return Projections(problem, given.image, given.probe, settings)


AUTO = EngineExtension(
    "auto",
    "Stages: PIE, a rescue where it stagnates, maximum likelihood.",
    PieOptions,
    build_automatic,
    algorithm="ml",
    refocus=True,
)
ML = EngineExtension("ml", "Maximum likelihood by preconditioned L-BFGS, after PIE.", PieOptions, build_automatic)
RPIE = EngineExtension("rpie", "rPIE with momentum, in batches.", PieOptions, build_rpie)
EPIE = EngineExtension("epie", "ePIE, one pattern at a time.", EpieOptions, build_epie)
DM = EngineExtension("dm", "Difference map on all exit waves.", DifferenceMapOptions, build_dm)
RAAR = EngineExtension("raar", "Relaxed averaged alternating reflections on all exit waves.", RaarOptions, build_raar)
NETWORK = EngineExtension("network", "The image of the trained network alone.", NoOptions)
