"""Widths by evidence: a compass search on the log marginal likelihood, at a growing series of lengths of the record.

The search at one length starts where that at the length before ended. The widths are thus a function of the judgements
and of their order alone: not of when fits took place, or whether the record was read at once or one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.utility.gp.calibration import trust
from diptych.prefer.utility.gp.covariance import Contrasted, Prior, Widths
from diptych.prefer.utility.gp.gram import Gram
from diptych.prefer.utility.inference.asymptotic_ep import narrowness
from diptych.prefer.utility.inference.ep import ROUGH, match_moments
from diptych.prefer.utility.inference.observations import STARS, TIE, Predictors

STAGES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of statements at which widths are judged anew; more than the last would cost time and change little."""

Sites = tuple[NDArray[np.float64], NDArray[np.float64]] | None

Found = TypeVar("Found", bound=Widths)

ADAPTATIONS = (0.0, 0.5, 1.0)

COARSE, FINE = 2.0, 2.0**0.5
"""Factors by which the search steps."""


class Evidence(Generic[Found]):
    """Remembers the widths of each stage while the statements up to it stay the same.

    Parameters
    ----------
    search : callable
        From the latents, the statements and the widths to start from to better ones.
    start : Widths
        Those before the first stage.
    """

    def __init__(self, search: Callable[[Any, Predictors, Found], Found], start: Found) -> None:
        self._search, self._start = search, start
        self._found: list[tuple[bytes, Found]] = []

    def widths(self, seen: Any, given: Predictors) -> Found:
        """The widths for these statements; ``seen`` is what the search takes, with ``marks`` (n, k) by which each
        latent is known again.
        """
        widths = self._start
        stages = [stage for stage in STAGES if stage <= len(given)]
        for index, stage in enumerate(stages):
            part = given.first(stage)
            key = fingerprint(part, seen.marks)
            if index < len(self._found) and self._found[index][0] == key:
                widths = self._found[index][1]
                continue
            widths = self._search(seen, part, widths)
            self._found[index:] = [(key, widths)]
        return widths


def search(gram: Gram, given: Predictors, start: Widths) -> Widths:
    """Climb from ``start``: one width at a time up or down by a factor, coarse, then fine, until none helps; then trust
    and narrowness.
    """
    inner = Contrasted(gram, given)
    widths = climb(start, free_widths(given), lambda trial, sites: _height(inner, given, trial, sites))
    prior = Prior(inner, given, widths)
    mode = match_moments(prior, given, prior.limits())
    return replace(widths, trust=trust(prior, mode), narrow=narrowness(prior, mode, gram.dimension))


def climb(start: Found, names: Sequence[str], height: Callable[[Found, Sites], tuple[float, Sites]]) -> Found:
    """The same for any function of the widths of these names; it takes sites to start from and returns its own."""
    best = start
    top, sites = height(start, None)
    for factor in (COARSE, FINE):
        improved = True
        rounds = 0
        while improved and rounds < 4:
            improved, rounds = False, rounds + 1
            for name in names:
                for trial in _steps(best, name, factor):
                    found, other = height(trial, sites)
                    if found > top + 1e-3:
                        best, top, sites, improved = trial, found, other, True
                        break
    return best


def _steps(widths: Found, name: str, factor: float) -> list[Found]:
    """The neighbours of these widths along one of them."""
    if name == "adaptation":
        return [replace(widths, adaptation=level) for level in ADAPTATIONS if level != widths.adaptation]
    return [widths.scaled(**{name: way}) for way in (factor, 1 / factor)]


def _height(inner: Contrasted, given: Predictors, widths: Widths, sites: Sites) -> tuple[float, Sites]:
    prior = Prior(inner, given, widths)
    mode = match_moments(prior, given, prior.limits(), sites, ROUGH)
    return mode.evidence + widths.log_prior(), mode.sites


def free_widths(given: Predictors) -> list[str]:
    """The widths that these statements tell something about."""
    rated = given.screen[given.screen >= 0]
    names = ["scale"]
    if len(np.unique(rated)) > 1:
        names += ["walk", "adaptation"]
    if len(rated) > len(np.unique(rated)):
        names.append("offset")
    # Whoever prefers one of two close images, again and again, tells of the width of a tie without ever having declared
    # one.
    return names + ["star"] * bool((given.unit == STARS).any()) + ["tie"] * bool((given.unit == TIE).any())


def fingerprint(given: Predictors, marks: NDArray[np.float32]) -> bytes:
    """A digest of these statements and of the latents they are about."""
    digest = hashlib.blake2b(digest_size=16)
    parts = (
        given.screen,
        given.low,
        given.high,
        given.unit,
        given.weight,
        given.choice,
        *(part for matrix in (given.contrast, given.recent) for part in (matrix.indptr, matrix.indices, matrix.data)),
        marks[: max(given.contrast.indices.max(initial=-1), given.recent.indices.max(initial=-1)) + 1],
    )
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.digest()
