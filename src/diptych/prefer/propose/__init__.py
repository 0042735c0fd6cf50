"""Proposals: methods that choose the latents to show next.

All meet :class:`Proposal`. Every latent that is proposed on a sphere passes the typicality tests of
:mod:`diptych.prefer.spaces.sphere`. :data:`PROPOSALS` lists the methods.
"""

from __future__ import annotations

from diptych.prefer.propose.base import Proposal, Proposed, Situation, finished, generator, random_key
from diptych.prefer.propose.registry import PROPOSALS, ProposalMethod, make_proposal

__all__ = [
    "PROPOSALS",
    "Proposal",
    "ProposalMethod",
    "Proposed",
    "Situation",
    "finished",
    "generator",
    "make_proposal",
    "random_key",
]
