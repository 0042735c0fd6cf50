"""Decoders: map a latent to the image that a person judges.

All meet :class:`Decoder`, and :data:`DECODERS` lists them. A decode is a pure function of the frame and the latent: the
same inputs give the same bytes on the same machine.
"""

from __future__ import annotations

from diptych.prefer.decoders.protocols import (
    Closes,
    Decoder,
    Encodes,
    ImageLatents,
    Records,
    Reframes,
    SettingsSpace,
    Space,
    cube_of,
    latent_shape,
    spread_points,
)
from diptych.prefer.decoders.registry import DECODERS, DecoderKind, open_decoder

__all__ = [
    "Closes",
    "DECODERS",
    "Decoder",
    "DecoderKind",
    "Encodes",
    "ImageLatents",
    "Records",
    "Reframes",
    "SettingsSpace",
    "Space",
    "cube_of",
    "latent_shape",
    "open_decoder",
    "spread_points",
]
