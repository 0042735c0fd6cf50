"""What every proposal uses and provides: the protocol, its inputs and outputs, and steps that several of them share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.spaces.cube import PLAIN, Cube
from diptych.prefer.spaces.sphere import Typicality, typicality, usual_shape
from diptych.prefer.utility import Fitted

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Situation:
    """What a proposal may use.

    Attributes
    ----------
    dimension : int
        Length d of a latent.
    fitted : Fitted or None
        The last fit of the utility model; None before the first.
    shape : (channels, height, width) or None
        Shape of the latent; if None, four square channels or a line (see
        :func:`~diptych.prefer.spaces.sphere.usual_shape`).
    anchor : (d,) array or None
        Latent of the prompt, or the image or seed to start from.
    liked : (k, d) array or None
        Latents that were rated good or chosen, best first.
    cube : Cube
        Which points of a cube mean the same settings.
    given : (k, d) array or None
        Points of a cube that were proposed before, judged or not.
    later : callable or None
        ``later(points)`` decodes images of points (k, d) after the screen, when nothing else is to be decoded; their
        features serve later screens.
    preview : callable or None
        ``preview(points)`` decodes images of points (k, d) without showing them and returns ``fitted`` with their
        features.
    """

    dimension: int
    fitted: Fitted | None = None
    shape: tuple[int, int, int] | None = None
    anchor: NDArray[Any] | None = None
    liked: NDArray[Any] | None = None
    cube: Cube = PLAIN
    given: NDArray[Any] | None = None
    preview: Callable[[NDArray[np.float32]], Fitted | None] | None = None
    later: Callable[[NDArray[np.float32]], None] | None = None

    @property
    def tests(self) -> Typicality:
        """The typicality tests of this decoder's latents."""
        return typicality(self.shape or usual_shape(self.dimension))


@dataclass(frozen=True, eq=False)
class Proposed:
    """A latent (d,) float32 to show, and its provenance as JSON values."""

    latent: NDArray[np.float32]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Proposal(Protocol):
    """A method that chooses the latents of one screen."""

    name: str

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        """``count`` different latents for one screen. The same situation and generator give the same latents."""
        ...


def random_key(seed: int, position: int, slot: int = 0, *, shared: bool = False) -> tuple[int, ...]:
    """The key of the random generator of one screen, unique to it.

    Parameters
    ----------
    seed : int
        Seed of the session.
    position : int
        Position of the ledger when the screen is requested.
    slot : int
        Number of the screen among those requested at that position.
    shared : bool
        Other processes may request screens at the same position: process id and time are added to the key, which must
        then be stored to repeat the draw.
    """
    return (seed, position, slot, *((os.getpid(), time.time_ns()) if shared else ()))


def generator(key: tuple[int, ...]) -> np.random.Generator:
    """The random generator of a key."""
    return np.random.default_rng(np.random.SeedSequence([part % 2**64 for part in key]))


def finished(latent: Array, situation: Situation, name: str, **facts: Any) -> Proposed:
    """The latent, projected to pass the typicality tests. Its provenance has the statistics that were changed, and the
    expected utility (sigma) that this cost.
    """
    projection = situation.tests.project(latent)
    info: dict[str, Any] = {"proposal": name, **facts}
    if projection.bound:
        info["bound"] = list(projection.bound)
        if situation.fitted is not None:
            on_sphere = latent * (np.sqrt(len(latent)) / np.linalg.norm(latent))
            before, after = situation.fitted.score(np.stack([on_sphere, projection.latent]))[0]
            info["utility_lost"] = float(before - after)
    return Proposed(projection.latent.astype(np.float32), info)


def fresh_directions(situation: Situation, count: int, rng: np.random.Generator, across: Array | None) -> Array:
    """Unit vectors (count, d): posterior draws (prior draws before the first fit), made orthogonal to ``across`` (d,)
    and, as many as possible, to one another.
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
    """Where moves start: the best liked latent, else the anchor, else noise."""
    if situation.liked is not None and len(situation.liked):
        return np.asarray(situation.liked[0], dtype=np.float64)
    if situation.anchor is not None:
        return np.asarray(situation.anchor, dtype=np.float64)
    return rng.standard_normal(situation.dimension)
