"""The parts of a session by name: its decoder, utility model and proposal."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer import propose, utility
from diptych.prefer.options import SessionOptions
from diptych.prefer.spaces.cube import Cube, sobol
from diptych.prefer.spaces.image_features import ImageFeatures as Gallery

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

TAKEN = ("prompt", "negative_prompt", "dimension", "model", "scan", "url", "width", "height", "steps", "guidance")
"""Fields of :class:`SessionOptions` that are the decoder's business."""

NAMED = ("remote", "reconstruction")
"""Decoders that have a prompt of their own when none is given."""

TOKEN = "DIPTYCH_TOKEN"
"""Environment variable: what clients of a remote decoder must know."""

USUAL = {"sphere": ("contrastive", "tempered"), "cube": ("surface", "thompson")}
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


def open_utility(options: SessionOptions, decoder: Decoder, gallery: Gallery | None) -> utility.Utility:
    """The utility model: one of diptych's, or what an installed package offers as an entry point
    ``diptych.utilities``.
    """
    name = options.utility or USUAL[decoder.space][0]
    if name in utility.NAMES:
        return make_utility(name, decoder, gallery)
    made: utility.Utility = _plugin("utilities", name, utility.NAMES)
    return made


def make_utility(name: str, decoder: Decoder, gallery: Gallery | None) -> utility.Utility:
    """One of diptych's models, new, for what a decoder takes."""
    return utility.make_utility(name, cube_of(decoder))


def gallery_of(decoder: Decoder) -> Gallery | None:
    """Where the looks of a decoder's pictures are kept; None where models do not go by them."""
    return Gallery(cube_of(decoder)) if decoder.space == "cube" else None


def open_proposal(options: SessionOptions, decoder: Decoder) -> propose.Proposal:
    """The proposal: one of diptych's, or what an installed package offers as an entry point ``diptych.proposals``."""
    name = options.proposal or USUAL[decoder.space][1]
    if name in propose.NAMES:
        return propose.make(name)
    made: propose.Proposal = _plugin("proposals", name, propose.NAMES)
    return made


def check_spaces(decoder: Decoder, model: utility.Utility, way: propose.Proposal) -> None:
    """Refuse those of diptych's models and proposals that are for the other space; what others make is theirs to know.

    Raises
    ------
    InputError
        One of them is.
    """
    for place, (what, name, home) in enumerate((("utility", model.name, utility), ("proposal", way.name, propose))):
        if name in home.NAMES and (name in home.OF_CUBES) != (decoder.space == "cube"):
            other = "latents on a sphere" if decoder.space == "cube" else "settings in a cube"
            raise InputError(
                f"the {what} {name!r} is for {other}, and the decoder {decoder.name} has the space {decoder.space!r}; "
                f"choose {USUAL[decoder.space][place]!r}, or an object of your own."
            )


def cube_of(decoder: Decoder) -> Cube:
    """Which points of a decoder's cube mean the same."""
    return Cube(tuple(getattr(decoder, "categories", ())), tuple(getattr(decoder, "flats", ())))


def evenly(decoder: Decoder) -> NDArray[np.float64]:
    """Points (1024, d) spread evenly over a decoder's cube."""
    return sobol(1024, decoder.dimension, cube_of(decoder), np.random.default_rng(0))


def _plugin(group: str, name: str, known: tuple[str, ...]) -> Any:
    found = list(entry_points(group=f"diptych.{group}", name=name))
    if not found:
        raise InputError(
            f"there is no {name!r} among the {group}; expected one of {', '.join(known)}, an object, or an entry point."
        )
    return found[0].load()()
