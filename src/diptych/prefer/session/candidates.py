"""Latents of the next screen, each with its provenance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import cube_of, latent_shape, start_of
from diptych.prefer.judgement import Candidate
from diptych.prefer.propose import Proposal, Proposed, Situation, generator, random_key
from diptych.prefer.propose.line import step_scores
from diptych.prefer.spaces.cube import sobol
from diptych.prefer.spaces.sphere import on_sphere, prompt_anchor, turn, typicality, usual_shape
from diptych.prefer.utility import Fitted
from diptych.runtime.cpu.parallel import one_blas_thread

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

NUDGE = 0.02
"""Angle, rad, of a random rotation of latents whose proposal uses no random numbers, so that no two processes show the
same."""

MANY = 4000
"""Events in the ledger above which posterior draws use all cores."""


class CandidateMaker:
    """Asks a proposal for latents of a decoder.

    Parameters
    ----------
    proposal : Proposal
    decoder : Decoder
    seed : int
        Seed of the random generators.
    shown : sequence of (d,) float32 arrays
        Points of a cube that earlier runs showed, judged or not: they are not proposed again.
    shared : bool
        Other processes may work on the same session: no two draws are equal. Otherwise the draws depend only on the
        seed and the position in the ledger.
    """

    def __init__(
        self,
        proposal: Proposal,
        decoder: Decoder,
        seed: int,
        shown: Sequence[NDArray[np.float32]] = (),
        *,
        shared: bool,
    ) -> None:
        self.proposal, self._decoder, self._seed, self._shared = proposal, decoder, seed, shared
        self._slots = itertools.count()
        self._cube = cube_of(decoder)
        self._began = False
        self._given = list(shown)
        self.start_from(None)

    @property
    def anchor(self) -> NDArray[Any]:
        """The latent (d,) that proposals around an anchor start from."""
        return self._start[0]

    def start_from(self, start: Candidate | ArrayLike | int | None) -> None:
        """See :meth:`diptych.prefer.session.session.Session.start_from`."""
        dimension = self._decoder.dimension
        if start is None:
            self._start: tuple[NDArray[Any], dict[str, Any]] = (self._default_start(), {})
        elif isinstance(start, int):
            self._start = self._seeded(np.random.default_rng(start)), {"start_seed": start}
        else:
            latent = start.latent if isinstance(start, Candidate) else np.asarray(start, dtype=np.float32)
            if latent.shape != (dimension,):
                raise InputError("start", f"has shape {latent.shape}", f"({dimension},), as the decoder takes it")
            if self._decoder.space == "cube" and not (latent.min() >= 0 and latent.max() <= 1):
                raise InputError(
                    "start", f"has values from {latent.min():g} to {latent.max():g}", "settings: values from 0 to 1"
                )
            self._start = latent, {"start": (start.id or "picture") if isinstance(start, Candidate) else "latent"}

    def propose(
        self,
        fitted: Fitted | None,
        liked: NDArray[np.float32],
        count: int,
        position: int,
        preview: Callable[[NDArray[np.float32]], Fitted | None],
        later: Callable[[NDArray[np.float32]], None],
    ) -> list[Proposed]:
        """Latents for one screen.

        Parameters
        ----------
        fitted : Fitted or None
        liked : (k, d)
            Liked latents, best first.
        count : int
        position : int
            Position of the ledger.
        preview, later : callable
            See :class:`~diptych.prefer.propose.base.Situation`; used for settings.
        """
        cube = self._decoder.space == "cube"
        key = random_key(self._seed, position, next(self._slots) if self._shared else 0, shared=self._shared)
        rng = generator(key)
        before = rng.bit_generator.state
        anchor, info = self._start
        situation = Situation(self._decoder.dimension, fitted, latent_shape(self._decoder), anchor, liked)
        if cube:
            given = np.stack(self._given) if self._given else None
            situation = replace(situation, cube=self._cube, given=given, preview=preview, later=later)
        with one_blas_thread(position <= MANY):
            found = self.proposal.propose(situation, count, rng)
        if self._shared and not cube and rng.bit_generator.state == before:
            found = [self._nudged(one, rng) for one in found]
        if cube and position == 0 and not self._began:
            found[0] = Proposed(np.asarray(anchor, dtype=np.float32), {"proposal": "start"})
        # A queue requests several screens before the first is shown.
        self._began = True
        if cube:
            self._given += [one.latent for one in found]
        info = {**info, "position": position, "key": list(key)}
        return [replace(one, provenance={**one.provenance, **info}) for one in found]

    def extrapolated(self, fitted: Fitted) -> NDArray[np.float32]:
        """The latent (d,) of the sphere with the highest expected utility."""
        return self._typical(on_sphere(fitted.direction()))

    def step_scores(self, fitted: Fitted, start: ArrayLike, count: int, step: float) -> NDArray[np.float64]:
        """Expected utility (count,) after 1, 2, ... steps in the direction of highest expected utility. Steps are
        angles (rad) on a sphere, and lengths in a cube, clipped to it.
        """
        if self._decoder.space == "sphere":
            return step_scores(fitted, start, count, step)
        moves = step * np.arange(1, count + 1)[:, None] * fitted.direction()
        return fitted.score(np.clip(np.asarray(start, dtype=np.float64) + moves, 0, 1))[0]

    def _default_start(self) -> NDArray[Any]:
        if self._decoder.space == "cube":
            return start_of(self._decoder)
        return prompt_anchor(self._decoder.frame.prompt, self._decoder.dimension)

    def _seeded(self, rng: np.random.Generator) -> NDArray[Any]:
        if self._decoder.space == "cube":
            return np.asarray(sobol(1, self._decoder.dimension, self._cube, rng)[0], dtype=np.float32)
        return rng.standard_normal(self._decoder.dimension)

    def _nudged(self, one: Proposed, rng: np.random.Generator) -> Proposed:
        latent = self._typical(turn(one.latent, rng.standard_normal(self._decoder.dimension), NUDGE))
        return Proposed(latent, {**one.provenance, "nudge": NUDGE})

    def _typical(self, latent: ArrayLike) -> NDArray[np.float32]:
        shape = latent_shape(self._decoder) or usual_shape(self._decoder.dimension)
        return typicality(shape).project(latent).latent.astype(np.float32)
