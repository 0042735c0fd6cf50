"""Options of ``bound``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from diptych.runtime.options import Options


class BoundOptions(Options):
    """Which scan the limit is computed for, and what is wanted of it. By default: the scan as it was measured."""

    dose: float | None = Field(
        None,
        gt=0,
        le=1e15,
        description="Plan: mean detected photons per pattern. Default: that of the scan. A background grows alike.",
    )
    step: PositiveFloat | None = Field(
        None, description="Plan: distance of neighbouring positions, object px, over the field of the scan."
    )
    trajectory: Literal["raster", "fermat-spiral"] = Field(
        "fermat-spiral", description="Plan: positions of a scan with another step."
    )
    resolution_px: float | None = Field(
        None, ge=1, description="Wanted half-period resolution, object px: the dose that it needs is computed."
    )
    resolution_nm: PositiveFloat | None = Field(
        None, description="The same in nm, where the size of the object pixel is known."
    )
    wanted_error: PositiveFloat | None = Field(
        None, description="Wanted relative complex error: the dose that it needs is computed."
    )
    refine_probe: bool = Field(True, description="The probe is unknown, too. Off: it is known exactly.")
    refine_positions: bool = Field(False, description="The positions are unknown, too.")
    map_accuracy: float = Field(
        0.05, ge=0.005, le=1, description="Relative accuracy of the standard error of single pixels in the map."
    )
    seed: int = Field(0, ge=0, description="Seed of the random vectors.")

    @model_validator(mode="after")
    def _one_resolution(self) -> Self:
        if self.resolution_px is not None and self.resolution_nm is not None:
            raise ValueError("resolution_px and resolution_nm both set the resolution; give one of them")
        return self
