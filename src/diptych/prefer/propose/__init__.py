"""Proposals: the latents to show next.

All meet :class:`Proposal`, and everything that they propose on a sphere passes the tests of
:mod:`diptych.prefer.spaces.sphere`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.named import make_named
from diptych.prefer.spaces.cube import PLAIN, Cube
from diptych.prefer.spaces.sphere import Typicality, typicality, usual_shape
from diptych.prefer.utility import Fitted

Array = NDArray[np.float64]

_HOMES = {
    "tempered": ("tempered", "Tempered"),
    "around": ("around", "Around"),
    "random-anchor": ("around", "RandomAnchor"),
    "line": ("line", "Line"),
    "hill": ("hill", "Hill"),
    "pair": ("pair", "Pair"),
    "breed": ("breed", "Breed"),
    "legacy": ("fixed_step", "Legacy"),
    "thompson": ("nei", "Thompson"),
}

NAMES = tuple(_HOMES)
"""The proposals there are."""

OF_CUBES = ("thompson",)
"""Those for settings in a cube; all others are for latents on a sphere."""


@dataclass(frozen=True, eq=False)
class Situation:
    """What a proposal may go by.

    Attributes
    ----------
    dimension : int
        d.
    fitted : Fitted or None
        What the utility model has learned; None before.
    shape : (channels, height, width) or None
        Of the latent as the decoder takes it; four square channels, or one line, when None.
    anchor : (d,) array or None
        Latent of the prompt, or of an image or a seed to start from.
    liked : (k, d) array or None
        Latents that were judged good, or chosen, best first.
    cube : Cube
        Which points of a cube mean the same settings.
    given : (k, d) array or None
        Points of a cube that were proposed before, judged or not.
    look : callable or None
        Has pictures made of points (k, d), not to be shown yet, so that the utility model knows what they look like;
        returns the fit with them, or None.
    """

    dimension: int
    fitted: Fitted | None = None
    shape: tuple[int, int, int] | None = None
    anchor: NDArray[Any] | None = None
    liked: NDArray[Any] | None = None
    cube: Cube = PLAIN
    given: NDArray[Any] | None = None
    look: Callable[[NDArray[np.float32]], Any] | None = None

    @property
    def tests(self) -> Typicality:
        """The tests of this decoder's latents."""
        return typicality(self.shape or usual_shape(self.dimension))


@dataclass(frozen=True, eq=False)
class Proposed:
    """A latent (d,) float32 to show, and how it came about, as JSON values."""

    latent: NDArray[np.float32]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Proposal(Protocol):
    """A way to choose the latents of one screen."""

    name: str

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` latents for one screen, no two alike. The same situation and generator give the same latents."""
        ...


def make(name: str, **options: Any) -> Proposal:
    """The proposal of a name.

    Raises
    ------
    InputError
        There is none of that name.
    """
    made: Proposal = make_named(_HOMES, __name__, "proposal", "Proposal", name, options)
    return made


def random_key(seed: int, position: int, slot: int = 0, *, shared: bool = False) -> tuple[int, ...]:
    """The key of a generator: what tells one screen's draws from all others'.

    Parameters
    ----------
    seed : int
        The session's.
    position : int
        Place in the ledger after which the screen is asked for.
    slot : int
        Number of the screen among those asked for at that place.
    shared : bool
        Other processes may ask at the same place: the process and the moment enter the key, which is then to be kept to
        repeat the draw.
    """
    return (seed, position, slot, *((os.getpid(), time.time_ns()) if shared else ()))


def generator(key: tuple[int, ...]) -> np.random.Generator:
    """The generator of a key."""
    return np.random.default_rng(np.random.SeedSequence([part % 2**64 for part in key]))


def finished(latent: Array, situation: Situation, name: str, **facts: Any) -> Proposed:
    """The latent, projected until it passes the tests; what bound, and the utility (sigma) that this cost, are kept
    with it.
    """
    projection = situation.tests.project(latent)
    told: dict[str, Any] = {"proposal": name, **facts}
    if projection.bound:
        told["bound"] = list(projection.bound)
        if situation.fitted is not None:
            before, after = situation.fitted.score(
                np.stack([latent * (np.sqrt(len(latent)) / np.linalg.norm(latent)), projection.latent])
            )[0]
            told["utility_lost"] = float(before - after)
    return Proposed(projection.latent.astype(np.float32), told)


def fresh_directions(situation: Situation, count: int, rng: np.random.Generator, across: Array | None) -> Array:
    """Unit vectors (count, d), as many as possible orthogonal to one another and all to ``across`` (d,): draws from the
    posterior.

    Before anything is learned they are draws from the prior.
    """
    d = situation.dimension
    fitted = situation.fitted
    drawn = rng.standard_normal((count, d)) if fitted is None else fitted.sample(rng, count)
    taken = [] if across is None else [across / np.linalg.norm(across)]
    found = []
    for vector in drawn:
        for other in taken:
            vector = vector - other * (other @ vector)
        length = np.linalg.norm(vector)
        if len(taken) >= d or not length > 1e-9:
            vector = rng.standard_normal(d)
            length = np.linalg.norm(vector)
        found.append(vector / length)
        taken.append(found[-1])
    return np.stack(found)


def starting_latent(situation: Situation, rng: np.random.Generator) -> Array:
    """Where moves begin: the best liked latent, else the anchor, else noise."""
    if situation.liked is not None and len(situation.liked):
        return np.asarray(situation.liked[0], dtype=np.float64)
    if situation.anchor is not None:
        return np.asarray(situation.anchor, dtype=np.float64)
    return rng.standard_normal(situation.dimension)
