"""Model selection: hyperparameters by a compass search on the log marginal likelihood (evidence).

The search runs at fixed numbers of observations, each from the result of the one before. The hyperparameters therefore
depend on the judgements and their order alone, not on when fits took place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.utility.gp.calibration import calibration_factor
from diptych.prefer.utility.gp.covariance import Hyperparameters, ObservationGram, Prior
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.asymptotic_ep import fit_cavity_factor
from diptych.prefer.utility.inference.ep import ROUGH_TOLERANCE, expectation_propagation
from diptych.prefer.utility.inference.observations import STARS, TIE, Design

STAGES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of observations at which the hyperparameters are searched for; later searches would take long and change
little."""

Sites = tuple[NDArray[np.float64], NDArray[np.float64]] | None
"""Natural parameters of the sites: precision, and precision times mean."""

ADAPTATIONS = (0.0, 0.5, 1.0)
"""Values of the adaptation that are tried."""

COARSE, FINE = 2.0, 2.0**0.5
"""Factors of the steps of the search."""

MAX_ROUNDS = 4
"""Rounds through all hyperparameters, for each step size."""


class Keyed(Protocol):
    """Latents, or a kernel on them, with ``row_keys`` (n, k) by which rows are compared between fits."""

    @property
    def row_keys(self) -> NDArray[np.float32]:
        """Some coordinates of each row."""
        ...


H = TypeVar("H", bound=Hyperparameters)


class ModelSelection(Generic[H]):
    """Searches for hyperparameters, and keeps those of each stage while the observations up to it stay the same.

    Parameters
    ----------
    search : callable
        ``search(kernel, design, start)`` returns better hyperparameters.
    start : Hyperparameters
        Those before the first stage.
    """

    def __init__(self, search: Callable[[Any, Design, H], H], start: H) -> None:
        self._search, self._start = search, start
        self._found: list[tuple[bytes, H]] = []

    def hyperparameters(self, kernel: Keyed, design: Design) -> H:
        """Hyperparameters for these observations; ``kernel`` is passed to the search."""
        found = self._start
        stages = [stage for stage in STAGES if stage <= len(design)]
        for index, stage in enumerate(stages):
            part = design.first(stage)
            key = digest(part, kernel.row_keys)
            if index < len(self._found) and self._found[index][0] == key:
                found = self._found[index][1]
                continue
            found = self._search(kernel, part, found)
            self._found[index:] = [(key, found)]
        return found


def maximize_evidence(gram: Gram, design: Design, start: Hyperparameters) -> Hyperparameters:
    """Compass search for the hyperparameters with the highest evidence; then the calibration and cavity factors."""
    inner = ObservationGram(gram, design)

    def objective(trial: Hyperparameters, sites: Sites) -> tuple[float, Sites]:
        prior = Prior(inner, design, trial)
        approximation = expectation_propagation(prior, design, prior.limits(), sites, ROUGH_TOLERANCE)
        return approximation.log_evidence + trial.log_prior(), approximation.sites

    found = compass_search(start, free_hyperparameters(design), objective)
    prior = Prior(inner, design, found)
    approximation = expectation_propagation(prior, design, prior.limits())
    return replace(
        found,
        calibration=calibration_factor(prior, approximation),
        cavity_factor=fit_cavity_factor(prior, approximation, gram.dimension),
    )


def compass_search(start: H, names: Sequence[str], objective: Callable[[H, Sites], tuple[float, Sites]]) -> H:
    """Maximize a function of some hyperparameters.

    One at a time is multiplied or divided by a factor, first a coarse, then a fine one, until nothing improves.

    Parameters
    ----------
    start : Hyperparameters
    names : sequence of str
        The hyperparameters that are varied.
    objective : callable
        Value for a trial, given sites to start the inference from, and the sites that it found.
    """
    best = start
    top, sites = objective(start, None)
    for factor in (COARSE, FINE):
        improved = True
        rounds = 0
        while improved and rounds < MAX_ROUNDS:
            improved, rounds = False, rounds + 1
            for name in names:
                for trial in _neighbours(best, name, factor):
                    value, found = objective(trial, sites)
                    if value > top + 1e-3:
                        best, top, sites, improved = trial, value, found, True
                        break
    return best


def _neighbours(hyperparameters: H, name: str, factor: float) -> list[H]:
    """Trial steps in one hyperparameter."""
    if name == "adaptation":
        levels = (level for level in ADAPTATIONS if level != hyperparameters.adaptation)
        return [replace(hyperparameters, adaptation=level) for level in levels]
    return [hyperparameters.scaled(**{name: step}) for step in (factor, 1 / factor)]


def free_hyperparameters(design: Design) -> list[str]:
    """Names of the hyperparameters that these observations inform."""
    rated = design.screen[design.screen >= 0]
    names = ["scale"]
    if len(np.unique(rated)) > 1:
        names += ["walk", "adaptation"]
    if len(rated) > len(np.unique(rated)):
        names.append("offset")
    # Pairs inform the width of a tie even if no tie was declared: a decided answer on close images means a narrow one.
    return (
        names + ["star_width"] * bool((design.unit == STARS).any()) + ["tie_width"] * bool((design.unit == TIE).any())
    )


def digest(design: Design, row_keys: NDArray[np.float32]) -> bytes:
    """Hash of observations and of the latents that they refer to."""
    found = hashlib.blake2b(digest_size=16)
    parts = (
        design.screen,
        design.low,
        design.high,
        design.unit,
        design.weight,
        design.choice,
        *(part for matrix in (design.contrast, design.recent) for part in (matrix.indptr, matrix.indices, matrix.data)),
        row_keys[: max(design.contrast.indices.max(initial=-1), design.recent.indices.max(initial=-1)) + 1],
    )
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.digest()
