"""The description of a layout: paths, axes, units and signs, as a frozen option model that YAML files are read by."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from diptych.errors import InputError
from diptych.runtime.options import Options, read_yaml

LARGEST_BYTES = 2**20
Length = Literal["px", "m", "mm", "um", "nm", "A", "pm"]


class Layout(Options):
    """How to read a scan from files of one kind. Paths lead to datasets, ``PATH@NAME`` to an attribute; a number stands
    for itself.
    """

    name: str = Field(min_length=1, max_length=80, description="Name of the layout, for --layout NAME and messages.")
    match: tuple[str, ...] = Field(
        default=(),
        description="Paths that a file must have to be of this kind. Default: the paths of patterns and positions.",
    )
    patterns: str = Field(
        min_length=1, description="Path of the patterns; 'entry/data/data_*' for several datasets in a row."
    )
    domain: Literal["counts", "amplitude"] = Field(
        description="What the patterns are: counts, or amplitude (their square root)."
    )
    axes: Literal["MYX", "MXY", "YXM", "XYM", "RCYX", "CRYX", "RCXY", "CRXY"] = Field(
        default="MYX",
        description="Order of the axes of the patterns: M pattern, R row and C column of a raster, Y and X of the "
        "detector.",
    )
    scale: float = Field(default=1.0, gt=0, description="Counts (or amplitude) in one unit of the stored values.")
    corner_centred: bool = Field(default=False, description="Zero frequency is stored at pixel [0, 0].")
    orientation: int = Field(
        default=0, ge=0, le=7, description="Orient the patterns: bit 4 transposes, then bit 2 flips y, bit 1 flips x."
    )
    frame_size: int | None = Field(
        default=None, gt=1, description="Side of the square that is read from each frame, pixels."
    )
    centre_y: float | None = Field(default=None, description="Row of zero frequency in the stored frames.")
    centre_x: float | None = Field(default=None, description="Column of zero frequency in the stored frames.")
    positions: str | None = Field(
        default=None,
        description="Path of the positions (M, 2 or 3), or 'PATH_Y,PATH_X'. Without: --positions or --scan-step.",
    )
    position_order: Literal["yx", "xy"] = Field(
        default="yx", description="Order of the columns of one array of positions; further columns are ignored."
    )
    position_unit: Length = Field(default="px", description="Unit of the positions; px are object pixels.")
    sign_y: Literal[1, -1] = Field(default=1, description="1, or -1 where the stage moves the sample along +y.")
    sign_x: Literal[1, -1] = Field(default=1, description="1, or -1 where the stage moves the sample along +x.")
    frames: str | None = Field(
        default=None, description="Path of the numbers of the patterns, which positions of another file are joined by."
    )
    particle: Literal["photon", "electron"] = Field(default="photon", description="What illuminates.")
    energy: str | float | None = Field(
        default=None, description="Path, PATH@ATTRIBUTE or number; energy_unit may be a length."
    )
    energy_unit: Literal["J", "eV", "keV", "m", "nm", "A"] = Field(
        default="eV", description="Unit of the energy; a length means that it is the wavelength (of photons)."
    )
    distance: str | float | None = Field(
        default=None, description="Path, PATH@ATTRIBUTE or number: sample to detector."
    )
    distance_unit: Length = Field(default="m", description="Unit of the distance.")
    pixel_y: str | float | None = Field(
        default=None, description="Path, PATH@ATTRIBUTE or number: height of a detector pixel."
    )
    pixel_x: str | float | None = Field(
        default=None, description="Path, PATH@ATTRIBUTE or number: width of a detector pixel."
    )
    pixel_unit: Length = Field(default="m", description="Unit of the detector pixel.")
    mask: str | None = Field(default=None, description="Path of the mask.")
    mask_means: Literal["valid", "bad"] = Field(default="bad", description="What values other than 0 mean in the mask.")
    mask_invalid: bool = Field(
        default=True, description="Mask values that are not finite, negative, or the largest of an integer type."
    )
    saturation: float | None = Field(default=None, gt=0, description="Mask stored values at or above this one.")
    dark: str | None = Field(default=None, description="Path of a dark frame, used as background.")
    probe: str | None = Field(default=None, description="Path of the initial probe.")

    @field_validator("distance_unit", "pixel_unit")
    @classmethod
    def _no_pixels(cls, unit: str) -> str:
        if unit == "px":
            raise ValueError("a length is expected: m, mm, um, nm, A, pm")
        return unit

    @property
    def signature(self) -> tuple[str, ...]:
        """Paths that a file of this kind has."""
        return self.match or (self.patterns, *self.position_paths)

    @property
    def position_paths(self) -> tuple[str, ...]:
        """One path, or two, y first; none where positions lie elsewhere."""
        return tuple(part.strip().strip("/") for part in (self.positions or "").split(",") if part.strip())


def read_layout_file(path: Path) -> Layout:
    """The layout in a YAML file.

    Raises
    ------
    InputError
        If it is missing, too large, no YAML, or a key is wrong or not filled in.
    """
    if not path.is_file():
        raise InputError(path, "there is no such file", "a layout (YAML), as info --layout-template writes one")
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(path, f"has {path.stat().st_size / 1e6:.0f} MB", "a layout (YAML) of a few kB")
    values = read_yaml(path)
    values.setdefault("name", path.stem)
    # An empty line of the template is an option that is not given.
    given = {key: value for key, value in values.items() if value is not None}
    missing = [key for key in ("patterns", "domain") if key not in given]
    if missing:
        raise InputError(path, f"{', '.join(missing)} not filled in", "a path of the file, and counts or amplitude")
    return Layout.build(given, origin=str(path))
