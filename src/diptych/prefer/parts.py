"""The parts of a session by name: its decoder, utility model and proposal."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.prefer import propose, utility
from diptych.prefer.options import SessionOptions

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

TAKEN = ("prompt", "negative_prompt", "dimension", "model", "scan", "url", "width", "height", "steps", "guidance")
"""Fields of :class:`SessionOptions` that are the decoder's business."""

NAMED = ("remote", "reconstruction")
"""Decoders that have a prompt of their own when none is given."""

TOKEN = "DIPTYCH_TOKEN"
"""Environment variable: what clients of a remote decoder must know."""

USUAL = {"sphere": ("contrastive", "tempered")}
"""Utility and proposal for each space, where none are named."""


def open_decoder(options: SessionOptions) -> Decoder:
    """The decoder, with the options that were given; those it does not take are refused by name."""
    from diptych.prefer import decoders

    given = {name: getattr(options, name) for name in TAKEN if name in options.model_fields_set}
    if options.decoder not in NAMED:
        given["prompt"] = options.prompt
    if options.decoder == "remote" and os.environ.get(TOKEN):
        given["token"] = os.environ[TOKEN]
    return decoders.open_decoder(options.decoder, **{name: value for name, value in given.items() if value is not None})


def open_utility(options: SessionOptions, decoder: Decoder) -> utility.Utility:
    """The utility model: one of diptych's, or what an installed package offers as an entry point ``diptych.utilities``."""
    name = options.utility or _usual(decoder, "utility", 0)
    if name in utility.NAMES:
        return utility.make(name)
    made: utility.Utility = _plugin("utilities", name, utility.NAMES)
    return made


def open_proposal(options: SessionOptions, decoder: Decoder) -> propose.Proposal:
    """The proposal: one of diptych's, or what an installed package offers as an entry point ``diptych.proposals``."""
    name = options.proposal or _usual(decoder, "proposal", 1)
    if name in propose.NAMES:
        return propose.make(name)
    made: propose.Proposal = _plugin("proposals", name, propose.NAMES)
    return made


def _usual(decoder: Decoder, what: str, place: int) -> str:
    if decoder.space not in USUAL:
        raise InputError(f"the decoder {decoder.name} has the space {decoder.space!r}, for which there is no usual {what}; pass {what}=.")
    return USUAL[decoder.space][place]


def _plugin(group: str, name: str, known: tuple[str, ...]) -> Any:
    found = list(entry_points(group=f"diptych.{group}", name=name))
    if not found:
        raise InputError(f"there is no {name!r} among the {group}; expected one of {', '.join(known)}, an object, or an entry point.")
    return found[0].load()()
