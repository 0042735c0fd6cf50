"""What a decoder must have, and what it may have: small protocols, each checked in one function of this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame
from diptych.prefer.spaces.cube import Cube, Flat, sobol
from diptych.runtime.interrupts import Cancel
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from diptych.prefer.decoders.base import DecodeRecord

Space = Literal["sphere", "cube"]
"""Where latents lie: near the sphere of radius sqrt(d), or in [0, 1]^d."""


@runtime_checkable
class Decoder(Protocol):
    """Maps latents to images, one at a time. The optional protocols of this module add to it."""

    name: str
    space: Space
    dimension: int

    @property
    def frame(self) -> Frame:
        """Everything besides the latent that determines the pixels, as it was in effect at the last decode."""
        ...

    @property
    def cost(self) -> float:
        """Measured time of a decode, s; NaN before the first."""
        ...

    def decode(self, latent: ArrayLike) -> NDArray[np.uint8]:
        """The image (H, W, 3) of a latent (d,).

        Raises
        ------
        InputError
            If the latent has another shape, is not finite, or lies outside the cube.
        """
        ...


@runtime_checkable
class ImageLatents(Protocol):
    """The latent has the shape of an image."""

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width); None if it is a vector without that structure."""
        ...


@runtime_checkable
class Records(Protocol):
    """The last decode is recorded."""

    @property
    def last(self) -> DecodeRecord | None:
        """The last decode; None before the first."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Images have latents."""

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A latent (d,) of an image (H, W, 3); it need not be typical of noise."""
        ...


@runtime_checkable
class Reframes(Protocol):
    """The frame can be changed."""

    def changed(self, **fields: Any) -> Decoder:
        """A decoder with other values of some fields of the frame; it shares what is loaded."""
        ...


@runtime_checkable
class SettingsSpace(Protocol):
    """The latent is a point of a cube of settings."""

    @property
    def categories(self) -> tuple[slice, ...]:
        """Coordinates of each categorical setting (see :class:`~diptych.prefer.spaces.cube.Cube`)."""
        ...

    @property
    def flats(self) -> tuple[Flat, ...]:
        """Intervals of coordinates on which a setting is constant."""
        ...

    @property
    def start(self) -> NDArray[np.float32]:
        """The point (d,) of the default settings."""
        ...


@runtime_checkable
class Closes(Protocol):
    """The decoder holds memory that can be released."""

    def close(self) -> None:
        """Release it."""
        ...


@runtime_checkable
class Attended(Protocol):
    """A decode takes long: it reports progress and can be stopped."""

    def attend(self, progress: ProgressCallback, cancel: Cancel) -> None:
        """Report progress to ``progress`` from now on, and stop the decode that runs when ``cancel`` is requested."""
        ...


@runtime_checkable
class Configures(Protocol):
    """The latent stands for options of ``reconstruct``."""

    def config(self, latent: ArrayLike) -> dict[str, Any]:
        """The options of a latent (d,), as ``reconstruct --config`` takes them."""
        ...


@runtime_checkable
class Measures(Protocol):
    """How good an image is can be measured, too, not only seen."""

    def measured(self, latent: ArrayLike) -> dict[str, float | list[str]]:
        """Measures by name, and words (flags), of the image of a latent (d,) that this object decoded; empty for
        others.
        """
        ...


def attend(decoder: Decoder, progress: ProgressCallback, cancel: Cancel) -> None:
    """See :meth:`Attended.attend`; does nothing for other decoders."""
    if isinstance(decoder, Attended):
        decoder.attend(progress, cancel)


def config_of(decoder: Decoder, latent: ArrayLike) -> dict[str, Any]:
    """The options of ``reconstruct`` that a latent (d,) stands for; empty for a decoder of images."""
    return decoder.config(latent) if isinstance(decoder, Configures) else {}


def measured_by(decoder: Decoder, latent: ArrayLike) -> dict[str, float | list[str]]:
    """Measures of the image of a latent (d,), as its candidate records them; empty where the decoder has none."""
    return decoder.measured(latent) if isinstance(decoder, Measures) else {}


def measured_text(candidate: Candidate) -> str:
    """What was measured of an image, in words: the fit of a reconstruction, that of its held-out pixels, and the kinds
    of its flags; empty where nothing was.
    """
    words = {"fit": "fit", "held_out_fit": "held out"}
    measured = candidate.provenance.get("measured", {})
    numbers = [f"{words.get(name, name)} {value:.2f}" for name, value in measured.items() if name != "flags"]
    flags = measured.get("flags", ())
    return ", ".join([*numbers, *([f"flags: {', '.join(flags)}"] if flags else [])])


def latent_shape(decoder: Decoder) -> tuple[int, int, int] | None:
    """Shape of the latent as an image; None if it has none."""
    return decoder.shape if isinstance(decoder, ImageLatents) else None


def last_decode(decoder: Decoder) -> DecodeRecord | None:
    """Record of the last decode; None if there is none, or the decoder keeps none."""
    return decoder.last if isinstance(decoder, Records) else None


def with_frame(decoder: Decoder, fields: dict[str, Any]) -> Decoder:
    """The decoder with other values of some fields of its frame.

    Raises
    ------
    InputError
        If it cannot change them.
    """
    if not fields:
        return decoder
    if not isinstance(decoder, Reframes):
        raise InputError(f"decoder {decoder.name}", f"cannot change {', '.join(fields)}", remedy="Leave them out.")
    return decoder.changed(**fields)


def cube_of(decoder: Decoder) -> Cube:
    """Which points of the decoder's cube mean the same settings."""
    return Cube(tuple(decoder.categories), tuple(decoder.flats)) if isinstance(decoder, SettingsSpace) else Cube()


def start_of(decoder: Decoder) -> NDArray[np.float32]:
    """The point (d,) of the default settings; the centre of the cube if the decoder declares none."""
    start = decoder.start if isinstance(decoder, SettingsSpace) else np.full(decoder.dimension, 0.5)
    return np.asarray(start, dtype=np.float32)


def spread_points(decoder: Decoder, count: int = 1024) -> NDArray[np.float64]:
    """Points (count, d) spread evenly over the decoder's cube."""
    return sobol(count, decoder.dimension, cube_of(decoder), np.random.default_rng(0))


def close(decoder: Decoder) -> None:
    """Release the decoder's memory, if it can."""
    if isinstance(decoder, Closes):
        decoder.close()


def checked(found: Any, name: str) -> Decoder:
    """The object, if it is a decoder. Raises InputError otherwise, with the attributes that are missing."""
    if not isinstance(found, Decoder):
        parts = ("name", "space", "dimension", "frame", "cost", "decode")
        missing = [part for part in parts if not hasattr(found, part)]
        raise InputError(name, f"is not a decoder: it has no {', '.join(missing)}", "an object that meets Decoder")
    return found
