"""Options of what is left out of a scan, shared by every command that cleans one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Frames = Annotated[
    Literal["auto", "keep"],
    Field(
        description="Frames that are empty, or whose total or shape no sample explains: auto leaves them out and names "
        "them, keep only names them."
    ),
]
AutoMask = Annotated[
    bool,
    Field(
        description="Mask hot, stuck and dead pixels and lines that are found in the frames; without it they are only "
        "named."
    ),
]
Saturated = Annotated[
    Literal["auto", "keep", "limit"],
    Field(
        description="Counts at the value where the detector is seen to saturate: auto masks them, keep uses them as "
        "they are, limit uses them as lower limits, P(k >= s) (engines auto and ml; all others mask them)."
    ),
]
