"""The registry of proposals; installed packages add theirs under the entry-point group ``diptych.proposals``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from diptych.prefer.propose.base import Proposal
from diptych.runtime.registry import Extension, Registry


@dataclass(frozen=True)
class ProposalMethod(Extension):
    """A method that proposes latents.

    Parameters
    ----------
    space : "sphere" or "cube"
        Latents that it is for: of an image generator (sphere) or reconstruction settings (cube).
    build : callable
        ``build(options)`` returns the :class:`~diptych.prefer.propose.base.Proposal`; ``options`` is an instance of the
        option class.
    """

    space: Literal["sphere", "cube"]
    build: Callable[[Any], Proposal]


_ROOM = "diptych.prefer.propose"

PROPOSALS: Registry[ProposalMethod] = Registry(
    "proposal",
    "diptych.proposals",
    ProposalMethod,
    {
        "tempered": f"{_ROOM}.tempered:PROPOSAL",
        "around": f"{_ROOM}.around:AROUND",
        "random-anchor": f"{_ROOM}.around:RANDOM_ANCHOR",
        "line": f"{_ROOM}.line:PROPOSAL",
        "hill": f"{_ROOM}.hill:PROPOSAL",
        "pair": f"{_ROOM}.pair:PROPOSAL",
        "breed": f"{_ROOM}.breed:PROPOSAL",
        "legacy": f"{_ROOM}.fixed_step:PROPOSAL",
        "thompson": f"{_ROOM}.nei:PROPOSAL",
    },
)
"""All proposals by name."""


def make_proposal(name: str, **options: Any) -> Proposal:
    """A proposal by name.

    Raises
    ------
    InputError
        If the name or an option is unknown, or a value is out of range.
    """
    method = PROPOSALS[name]
    return method.build(method.options.build(options, origin=f"proposal {name}"))
