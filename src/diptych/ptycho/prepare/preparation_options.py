"""Options of ``diptych prepare``, and how other commands name them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from diptych.runtime.options import LocalPath, Options, absolute_path, inline


class PrepareOptions(Options):
    """What is done to a scan, in the order of the fields."""

    frames: str = Field("", description="Frames to keep: numbers and ranges from 0, for instance 0-99. Default: all.")
    every: int = Field(1, ge=1, description="Of these, keep every n-th frame.")
    omit: str = Field("", description="Frames to leave out, numbered as in the file, for instance 3,7-9.")
    dark: LocalPath = Field(
        None,
        description="FILE or FILE:PATH of a dark frame, or a stack that is averaged: expected counts per frame without "
        "beam. They are added to the background, not subtracted.",
    )
    flat: LocalPath = Field(
        None, description="FILE or FILE:PATH of a flat field: counts are divided by it, relative to its median."
    )
    mask_file: LocalPath = Field(None, description="FILE or FILE:PATH of a mask (N, N).")
    mask_file_means: Literal["valid", "bad"] = Field("valid", description="What values other than 0 mean in that mask.")
    mask_found: bool = Field(False, description="Mask hot, stuck and dead pixels and lines that are found.")
    gain: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        None,
        description="Detector units per photon: counts are divided by it. auto: estimated from the unit or the noise.",
    )
    turn: int = Field(
        0, ge=0, le=7, description="Orient the patterns: bit 4 transposes, then bit 2 flips y, then bit 1 flips x."
    )
    centre: Literal["keep", "mass", "symmetry"] = Field(
        "keep",
        description="Move the patterns, by whole pixels, so that their centre of mass, or of inversion symmetry, lies "
        "at [N // 2, N // 2].",
    )
    crop: int | None = Field(None, ge=8, description="New N, smaller: pixels about the zero frequency that are kept.")
    bin: int = Field(1, ge=1, le=64, description="Sum n x n pixels into one.")
    pad: int | None = Field(None, ge=8, description="New N, larger: pixels that were not measured are masked.")
    tilt_deg: float = Field(
        0.0,
        ge=-89,
        le=89,
        description="Tilt of the sample's plane against the plane perpendicular to the outgoing beam, degrees; of a "
        "reflection, the angle of incidence from the surface's normal. Patterns are resampled to an even grid of the "
        "momentum transfer in the sample's plane.",
    )
    tilt_axis: Literal["y", "x"] = Field("y", description="Axis of the tilt, on the detector.")
    tilt_positions: Literal["surface", "beam"] = Field(
        "surface", description="Recorded positions of a tilted sample: in its plane (surface) or across the beam."
    )
    position_scale: float = Field(1.0, gt=0, description="Multiply the positions, about their mean.")
    position_rotation: float = Field(
        0.0, ge=-360, le=360, description="Rotate the positions about their mean, degrees, from +x towards +y."
    )
    position_shear: float = Field(0.0, gt=-2, lt=2, description="Add this times y to x, about the mean.")


def _checked(given: Any) -> Any:
    """The options as one line of YAML, or the absolute path of their file."""
    if isinstance(given, dict):
        options = PrepareOptions.build(given, "prepare")
        return json.dumps(options.model_dump(mode="json", exclude_unset=True))
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        return absolute_path(given)
    return given


Preparation = Annotated[str | None, BeforeValidator(_checked)]
"""An option: a YAML file of :class:`PrepareOptions`, or these options as a mapping; stored as text."""


def preparation_of(text: str) -> PrepareOptions:
    """The options that a :data:`Preparation` stands for.

    Raises
    ------
    InputError
        If it is neither a file nor a mapping of options.
    """
    return inline(PrepareOptions, text, "prepare")
