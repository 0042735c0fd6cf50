"""Options of ``load``: what a user may state about a file that the file does not state itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.options import Options


class LoadOptions(Options):
    """How to read a scan. The defaults rely on what the file states; nothing is guessed."""

    domain: Literal["auto", "counts", "amplitude"] = Field(
        default="auto",
        description="What the stored patterns are: counts (photons), amplitude (their square root), auto (as the "
        "file states).",
    )
    scale: float | None = Field(
        default=None,
        gt=0,
        description="Units of the stored values: counts = (scale * amplitude)^2, scale in photons^0.5 per unit; for "
        "the counts domain "
        "counts = scale * value, in photons per unit. Default: 1, or what the file states.",
    )
    detector_gain: float | None = Field(
        default=None,
        gt=0,
        description="Stored units (ADU) per photon, of a charge-integrating detector: counts = value / gain. Replaces "
        "scale.",
    )
    read_noise: float | None = Field(
        default=None,
        gt=0,
        description="Read noise of a charge-integrating detector, rms, in stored units (ADU). Negative readings are "
        "kept, and the likelihood is that of photon and read noise.",
    )
    axes: Literal["auto", "MHW", "HWM"] = Field(
        default="auto",
        description="Axis order of the stored patterns: MHW (pattern, y, x), HWM (y, x, pattern), auto (by the "
        "count of positions).",
    )
    corner_centred: bool = Field(
        default=False, description="The patterns are stored with zero frequency at pixel [0, 0]; move it to the centre."
    )
    move_y: int = Field(
        default=0,
        description="Move the patterns down by whole pixels, so that zero frequency lies at [N // 2, N // 2].",
    )
    move_x: int = Field(
        default=0, description="Move the patterns right by whole pixels; pixels that enter at an edge are masked."
    )
    orientation: int = Field(
        default=0,
        ge=0,
        le=7,
        description="Orient the patterns: 0 to 7; bit 4 transposes, then bit 2 flips y, then bit 1 flips x. The probe "
        "is unchanged.",
    )
    position_unit: Literal["px", "m", "mm", "um", "nm"] = Field(
        default="px",
        description="Unit of the stored positions: m, mm, um or nm, which need energy, distance and detector pixel. "
        "Default: that of the file or of its format, else px (object pixels).",
    )
    positions: str | None = Field(
        default=None,
        description="Positions from another file, FILE or FILE:PATH: a table with a header (CSV), a result, a scan, or "
        "datasets of an HDF5 file; joined by frame number where the file states it.",
    )
    entry: str | None = Field(
        default=None,
        description="Name of the entry (the group at the top of an HDF5 file) to read, where a file holds several with "
        "patterns. Default: the first.",
    )
    scan_step: float | None = Field(
        default=None,
        gt=0,
        description="Step between the patterns of an array (rows, columns, N, N) that states no positions, in "
        "position_unit; x is fastest.",
    )
    scan_columns: int | None = Field(
        default=None,
        gt=0,
        description="Number of patterns in a row of the raster, for patterns in one sequence without positions. "
        "Used with scan_step.",
    )
    frame_size: int | None = Field(
        default=None,
        gt=1,
        description="Side in pixels of the square that is read from each frame, around centre_y, centre_x. Default: "
        "the largest that fits, of frames that are not square.",
    )
    centre_y: float | None = Field(
        default=None, description="Row of zero frequency in the stored frames, in pixels from 0."
    )
    centre_x: float | None = Field(
        default=None, description="Column of zero frequency in the stored frames, in pixels from 0."
    )
    nominal_positions: bool = Field(
        default=False, description="Use the nominal positions (xcoords_start, ycoords_start), not the refined ones."
    )
    swap_xy: bool = Field(default=False, description="Exchange the x and y of the positions.")
    flip_y: bool = Field(default=False, description="Mirror the y of the positions about the middle of the scan.")
    flip_x: bool = Field(default=False, description="Mirror the x of the positions about the middle of the scan.")
    rotation: float = Field(
        default=0.0,
        ge=-360,
        le=360,
        description="Rotation of the scan against the detector, degrees: the positions are rotated about the middle of "
        "the scan, from +x towards +y, after swap_xy, flip_y and flip_x. check finds it.",
    )
    mask_means: Literal["auto", "valid", "bad"] = Field(
        default="auto",
        description="What True (1) in the stored mask means: valid, bad, auto (as the file states, else valid).",
    )
    mask_invalid: bool = Field(
        default=False,
        description="Mask every pixel whose value is not finite, negative, or the largest number of its integer type "
        "(of 16 bits or more). Values of a detector that saturates lower: --saturation.",
    )
    saturation: float | None = Field(
        default=None,
        gt=0,
        description="Mask stored values at or above this one: where the detector saturates, for instance 255 for "
        "8-bit files.",
    )
    clip_negative: bool = Field(default=False, description="Set negative values to 0.")
    probe_key: str | None = Field(default=None, description="Key of the solver's initial probe. Default: probeGuess.")
    use_probe: bool = Field(default=True, description="Read the file's probe; switch off where it is wrong.")
    use_truth: bool = Field(
        default=True, description="Use objectGuess as the true object; switch off where it is only a guess."
    )
    layout: str | None = Field(
        default=None,
        description="How to read a file of a kind that is not known: a YAML file (info --layout-template writes one), "
        "or the name of an installed layout.",
    )
    patterns_at: str | None = Field(
        default=None,
        description="Path of the patterns in the file, for a layout that is not known: entry/data/data. Needs domain.",
    )
    positions_at: str | None = Field(
        default=None,
        description="Path of the positions (M, 2) as (y, x), or two paths with a comma between them, y first. Used "
        "with patterns_at.",
    )
    probe_at: str | None = Field(default=None, description="Path of the initial probe. Used with patterns_at.")
    mask_at: str | None = Field(default=None, description="Path of the mask. Used with patterns_at.")
    particle: Literal["photon", "electron"] | None = Field(
        default=None, description="What illuminates: photon or electron; overrides the file. Default: photon."
    )
    energy_eV: float | None = Field(
        default=None,
        gt=0,
        description="Energy of a photon, or kinetic energy of an electron, in eV; overrides the file.",
    )
    distance_m: float | None = Field(
        default=None, gt=0, description="Sample to detector distance in m; overrides the file."
    )
    detector_pixel_m: float | None = Field(
        default=None, gt=0, description="Side of a square detector pixel in m; overrides the file."
    )
    propagation: Literal["far", "near"] | None = Field(
        default=None,
        description="far field (diffraction patterns) or near field (magnified Fresnel images); overrides the file. "
        "Default: far.",
    )
    focus_distance_m: float | None = Field(
        default=None,
        gt=0,
        description="Near field: distance from the focus of the beam downstream to the sample in m; without it the "
        "beam is parallel. Implies the near field.",
    )

    def in_photons(self) -> LoadOptions:
        """These options with ``scale`` in the place of ``detector_gain``.

        Raises
        ------
        InputError
            If both are given and disagree.
        """
        gain = self.detector_gain
        if gain is None:
            return self
        if self.scale is not None and abs(self.scale * gain - 1) > 1e-6:
            found = f"detector_gain = {gain:g}, scale = {self.scale:g}"
            raise InputError("load", found, "one of them: scale = 1 / detector_gain")
        return self.with_changes(scale=1 / gain)
