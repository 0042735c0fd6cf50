"""From what is known to the latents of the next screen, each with the story of how it came about."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate
from diptych.prefer.propose import Proposal, Proposed, Situation, generator, random_key
from diptych.prefer.propose.line import step_scores
from diptych.prefer.session.factory import cube_of
from diptych.prefer.spaces.cube import sobol
from diptych.prefer.spaces.sphere import on_sphere, prompt_anchor, turn, typicality, usual_shape
from diptych.prefer.utility import Fitted
from diptych.runtime.parallel import one_blas_thread

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

NUDGE = 0.02
"""Angle, rad, by which latents of a proposal that draws nothing are turned at random, so that no two processes show the
same."""

MANY = 4000
"""Events of the ledger, shows and judgements, above which draws take all cores."""


class Proposer:
    """Asks a proposal for latents of a decoder.

    Parameters
    ----------
    proposal : Proposal
    decoder : Decoder
    seed : int
        Of the generators.
    shared : bool
        Other processes may work on the same session: no two draw alike. Else the ledger's position alone decides the
        draws.
    """

    def __init__(self, proposal: Proposal, decoder: Decoder, seed: int, *, shared: bool) -> None:
        self.proposal, self._decoder, self._seed, self._shared = proposal, decoder, seed, shared
        self._slots = itertools.count()
        self._cube = cube_of(decoder)
        self._began = False
        self._given: list[NDArray[np.float32]] = []
        self.start_from(None)

    @property
    def anchor(self) -> NDArray[Any]:
        """The latent (d,) that proposals about an anchor move from."""
        return self._start[0]

    def start_from(self, start: Candidate | ArrayLike | int | None) -> None:
        """See :meth:`diptych.prefer.session.session.Session.start_from`."""
        dimension = self._decoder.dimension
        if start is None:
            self._start: tuple[NDArray[Any], dict[str, Any]] = (self._usual_start(), {})
        elif isinstance(start, int):
            self._start = self._seeded(np.random.default_rng(start)), {"start_seed": start}
        else:
            latent = start.latent if isinstance(start, Candidate) else np.asarray(start, dtype=np.float32)
            if latent.shape != (dimension,):
                raise InputError(
                    f"the start has shape {latent.shape}; expected ({dimension},), what the decoder takes."
                )
            if self._decoder.space == "cube" and not (latent.min() >= 0 and latent.max() <= 1):
                raise InputError(
                    f"the start spans {latent.min():g} to {latent.max():g}; expected values from 0 to 1, what "
                    f"settings are."
                )
            self._start = latent, {"start": (start.id or "picture") if isinstance(start, Candidate) else "latent"}

    def propose(
        self,
        fitted: Fitted | None,
        liked: NDArray[np.float32],
        count: int,
        position: int,
        look: Callable[[NDArray[np.float32]], Any],
    ) -> list[Proposed]:
        """Latents for one screen that is asked for at a position of the ledger; ``look`` has pictures of settings
        made.
        """
        key = random_key(self._seed, position, next(self._slots) if self._shared else 0, shared=self._shared)
        rng = generator(key)
        before = rng.bit_generator.state
        anchor, about = self._start
        shape = getattr(self._decoder, "shape", None)
        situation = Situation(self._decoder.dimension, fitted, shape, anchor, liked)
        if self._decoder.space == "cube":
            situation = replace(
                situation, cube=self._cube, given=np.stack(self._given) if self._given else None, look=look
            )
        with one_blas_thread(position <= MANY):
            found = self.proposal.propose(situation, count, rng)
        if self._shared and self._decoder.space == "sphere" and rng.bit_generator.state == before:
            found = [self._nudged(one, rng) for one in found]
        if self._decoder.space == "cube" and position == 0 and not self._began:
            found[0] = Proposed(np.asarray(anchor, dtype=np.float32), {"proposal": "start"})
        # A queue makes several screens before the first is shown.
        self._began = True
        if self._decoder.space == "cube":
            self._given += [one.latent for one in found]
        facts = {**about, "position": position, "key": list(key)}
        return [replace(one, provenance={**one.provenance, **facts}) for one in found]

    def extrapolated(self, fitted: Fitted) -> NDArray[np.float32]:
        """The latent (d,) of the sphere with the highest expected utility."""
        return self._typical(on_sphere(fitted.direction()))

    def step_scores(self, fitted: Fitted, start: ArrayLike, count: int, step: float) -> NDArray[np.float64]:
        """Utility (count,) after 1, 2 ... steps along the direction thought best: angles (rad), or in a cube lengths,
        up to its walls.
        """
        if self._decoder.space == "sphere":
            return step_scores(fitted, start, count, step)
        way = step * np.arange(1, count + 1)[:, None] * fitted.direction()
        return fitted.score(np.clip(np.asarray(start, dtype=np.float64) + way, 0, 1))[0]

    def _usual_start(self) -> NDArray[Any]:
        if self._decoder.space == "cube":
            return np.asarray(getattr(self._decoder, "start", np.full(self._decoder.dimension, 0.5)), dtype=np.float32)
        return prompt_anchor(self._decoder.frame.prompt, self._decoder.dimension)

    def _seeded(self, rng: np.random.Generator) -> NDArray[Any]:
        if self._decoder.space == "cube":
            return np.asarray(sobol(1, self._decoder.dimension, self._cube, rng)[0], dtype=np.float32)
        return rng.standard_normal(self._decoder.dimension)

    def _nudged(self, one: Proposed, rng: np.random.Generator) -> Proposed:
        latent = self._typical(turn(one.latent, rng.standard_normal(self._decoder.dimension), NUDGE))
        return Proposed(latent, {**one.provenance, "nudge": NUDGE})

    def _typical(self, latent: ArrayLike) -> NDArray[np.float32]:
        shape = getattr(self._decoder, "shape", None) or usual_shape(self._decoder.dimension)
        return typicality(shape).project(latent).latent.astype(np.float32)
