"""The registry of decoders; installed packages add theirs under the entry-point group ``diptych.decoders``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import Decoder, Space, checked
from diptych.runtime.registry import Extension, Registry


@dataclass(frozen=True)
class DecoderKind(Extension):
    """A kind of decoder.

    Parameters
    ----------
    space : "sphere", "cube" or None
        Where its latents lie; None if that is only known once it is open.
    prompt : "required", "optional" or "own"
        Whether a prompt must be given, may be given, or is provided by the decoder if none is given.
    build : callable
        ``build(options, prompt, negative_prompt)`` opens the decoder. ``options`` is an instance of the option class,
        and the prompts are str, or None if not given.
    """

    space: Space | None
    prompt: Literal["required", "optional", "own"]
    build: Callable[[Any, str | None, str | None], Decoder]


_ROOM = "diptych.prefer.decoders"

DECODERS: Registry[DecoderKind] = Registry(
    "decoder",
    "diptych.decoders",
    DecoderKind,
    {
        "synthetic": f"{_ROOM}.synthetic:DECODER",
        "diffusion": f"{_ROOM}.diffusion:DECODER",
        "remote": f"{_ROOM}.remote:DECODER",
        "reconstruction": f"{_ROOM}.reconstruction:DECODER",
    },
)
"""All decoders by name."""


def open_decoder(
    decoder: str | Decoder, *, prompt: str | None = None, negative_prompt: str | None = None, **options: Any
) -> Decoder:
    """Open a decoder by name, or check a decoder object.

    Parameters
    ----------
    decoder : str or Decoder
        A name in :data:`DECODERS`, or an object that meets :class:`Decoder`.
    prompt, negative_prompt : str, optional
        What the images should, and should not, show. Not allowed with an object.
    **options
        Options of the decoder of that name. Not allowed with an object.

    Raises
    ------
    InputError
        If the name is unknown, the object is not a decoder, an option is wrong, or a prompt is needed and missing.
    UnavailableError
        If the decoder needs a package, a device or a network that is not available.
    """
    if not isinstance(decoder, str):
        given = [*(["prompt"] if prompt is not None else []), *options]
        if given:
            raise InputError(
                "decoder", f"is an object, but {', '.join(given)} was given too", remedy="Set it in the object."
            )
        return checked(decoder, type(decoder).__name__)
    kind = DECODERS[decoder]
    return build_decoder(kind, kind.options.build(options, origin=f"decoder {decoder}"), prompt, negative_prompt)


def build_decoder(kind: DecoderKind, options: Any, prompt: str | None, negative_prompt: str | None) -> Decoder:
    """Open a decoder of a kind with validated options. Raises InputError if it needs a prompt and none is given."""
    if prompt is None and kind.prompt == "required":
        raise InputError(
            f"decoder {kind.name}",
            "no prompt is given",
            "a text that says what the images show",
            "Pass prompt (--prompt).",
        )
    return checked(kind.build(options, prompt, negative_prompt), kind.name)
