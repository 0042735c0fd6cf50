"""Decoders: what turns a latent into the image that a person judges.

All meet :class:`Decoder`. A decode is a pure function of the frame and the latent: on one machine, the same give the
same bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError, UnavailableError
from diptych.prefer.judgement import Frame

Space = Literal["sphere", "cube"]
"""Where latents lie: near the sphere of radius sqrt(d), or in [0, 1]^d."""

GROUP = "diptych.decoders"
"""Entry points under which packages offer decoders: functions or classes that take options and return a
:class:`Decoder`."""

_HOMES = {
    "synthetic": ("synthetic", "Synthetic"),
    "diffusion": ("diffusion", "Diffusion"),
    "remote": ("remote", "Remote"),
    "reconstruction": ("reconstruction", "ReconstructionDecoder"),
}

NAMES = tuple(_HOMES)
"""The decoders that are always there."""


@runtime_checkable
class Decoder(Protocol):
    """From latents to images, one at a time.

    A decoder may have more: ``shape`` (channels, height, width) of the latent, where it is an image; ``last``, the
    :class:`~diptych.prefer.decoders.base.DecodeRecord` of the last decode; ``encode(image)``, a latent of about that
    image; ``changed(**fields)``, a decoder of another frame that shares what is loaded; ``categories``, ``flats``
    (see :class:`~diptych.prefer.spaces.cube.Cube`) and ``start`` of a cube;
    ``close()``, which gives memory back.
    """

    name: str
    space: Space
    dimension: int

    @property
    def frame(self) -> Frame:
        """What besides the latent decides the pixels: what was in effect at the last decode, and is for the next."""
        ...

    @property
    def cost(self) -> float:
        """Seconds that a decode takes, measured; NaN before the first."""
        ...

    def decode(self, latent: ArrayLike) -> NDArray[np.uint8]:
        """The image (H, W, 3) of a latent (d,).

        Raises
        ------
        InputError
            The latent is not (d,), not finite, or outside the cube.
        """
        ...


def open_decoder(decoder: str | Decoder, **options: Any) -> Decoder:
    """A decoder by name, or the object itself.

    Parameters
    ----------
    decoder : str or Decoder
        ``synthetic``, ``diffusion``, ``remote``, ``reconstruction``, the name of an entry point of the group
        ``diptych.decoders``, or an object that meets :class:`Decoder`.
    **options
        What the decoder of that name takes, such as ``prompt`` and ``seed``; none beside an object.

    Raises
    ------
    InputError
        There is none of that name, the object is no decoder, or an option is wrong.
    UnavailableError
        It needs a package, a device or a network that is not here.
    """
    if not isinstance(decoder, str):
        if options:
            raise InputError(
                f"a decoder object comes ready made, but {', '.join(options)} was given too; set it where the object "
                f"is made."
            )
        return _checked(decoder, type(decoder).__name__)
    build = _builder(decoder)
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        known = ", ".join(name for name in inspect.signature(build).parameters)
        raise InputError(
            f"the decoder {decoder!r} cannot be opened with these options ({error}); it takes {known}."
        ) from None
    return _checked(build(**options), decoder)


def _builder(name: str) -> Callable[..., Any]:
    if name in _HOMES:
        module, kind = _HOMES[name]
        return cast("Callable[..., Any]", getattr(import_module(f"{__name__}.{module}"), kind))
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in offered:
        known = ", ".join([*NAMES, *sorted(offered)])
        raise InputError(
            f"there is no decoder {name!r}; expected one of {known}, or an object that meets the Decoder protocol."
        )
    try:
        return cast("Callable[..., Any]", offered[name].load())
    except (ImportError, AttributeError) as error:
        raise UnavailableError(f"the decoder {name!r} ({offered[name].value}) cannot be loaded: {error}.") from error


def _checked(found: Any, name: str) -> Decoder:
    if not isinstance(found, Decoder):
        missing = [
            part for part in ("name", "space", "dimension", "frame", "cost", "decode") if not hasattr(found, part)
        ]
        raise InputError(
            f"{name} is no decoder: it has no {', '.join(missing)}; expected an object that meets the Decoder protocol."
        )
    return found
