"""Options of ``evaluate``: one frozen object for Python, YAML files, the command line and the studio."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych.runtime.options import Options

Gauge = Literal["full", "scale", "phase", "none"]
"""What is removed before comparing: full (complex scale, phase ramp, shift), scale (complex scale), phase (global
phase), none."""


class EvaluationOptions(Options):
    """How a reconstruction is evaluated. The defaults compare what the data determine, on the scanned area."""

    gauge: Literal["auto", "full", "scale", "phase", "none"] = Field(
        default="auto",
        description="What is removed before comparing: full (global complex scale, phase ramp, sub-pixel shift), "
        "scale (global complex scale), phase (global phase), none; auto removes what the data leave undetermined: full "
        "when the probe was refined, phase when it was fixed.",
    )
    convention: Literal["textbook", "ptychopinn", "both"] = Field(
        default="textbook",
        description="Definitions of the metrics: textbook, ptychopinn (those of the published PtychoPINN tables; keys "
        "end in _ptychopinn), both.",
    )
    crop: Literal["scan", "all"] = Field(
        default="scan",
        description="Area compared: scan (the pixels that light reached inside the bounding box of the positions) or "
        "all (wherever both images are defined).",
    )
    max_shift: int = Field(
        default=16,
        ge=0,
        le=256,
        description="Largest shift between result and truth that is searched by the alignment, object px.",
    )
    split: Literal["positions", "thinning"] = Field(
        default="positions",
        description="Without a truth, how the data are split into halves: positions (a checkerboard of the scan) or "
        "thinning (each photon to one half at random).",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the thinning.")
