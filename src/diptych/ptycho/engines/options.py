"""Options of ``reconstruct``: one frozen object for Python, YAML files, the command line and the studio."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych.runtime.options import Options

EngineName = Literal["auto", "ml", "rpie", "epie", "dm", "raar", "network"]


class ReconstructionOptions(Options):
    """How to reconstruct. The defaults suit scans from 1e4 to 1e9 photons per pattern; nothing needs to be set."""

    engine: EngineName = Field(
        "auto",
        description="Algorithm: ml (maximum likelihood), rpie (rPIE with momentum), epie, dm (difference map), "
        "raar, or network (the "
        "image of the trained model alone); auto chooses.",
    )
    epochs: int | None = Field(None, ge=1, description="Most passes over the scan; without it the engine decides.")
    stop: bool = Field(
        True,
        description="Stop by itself when nothing more is gained. Off: run all epochs (the best state is still kept).",
    )
    likelihood: Literal["auto", "poisson", "amplitude"] = Field(
        "auto", description="Noise model of the data step: poisson counts, or least squares on amplitudes."
    )
    start: str = Field(
        "flat", description="Object to start from: flat (a transparent one) or a result FILE (.h5, .npz)."
    )
    probe: str = Field(
        "refine",
        description="refine (start from the scan's probe), fixed (use it as it is), estimate (make a start from the "
        "mean pattern), "
        "or a FILE with a probe to start from.",
    )
    modes: int | None = Field(
        None, ge=1, le=32, description="Incoherent probe modes; extra ones start orthogonal with 5 % of the power."
    )
    positions: Literal["fourier", "round"] = Field(
        "fourier",
        description="Sub-pixel positions: fourier (shift the probe where there are any) or round (to whole pixels).",
    )
    batch: int | None = Field(None, ge=1, description="Patterns per update; without it the engine decides.")
    alpha: float | None = Field(
        None, ge=0, le=1, description="Regularisation of the PIE denominators (0 least, 1 that of ePIE)."
    )
    step: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Step size as a fraction of the engine's own step (PIE), or the relaxation beta (raar).",
    )
    momentum: float | None = Field(None, ge=0, lt=1, description="Momentum of the PIE updates; 0 turns it off.")
    held_out: float = Field(
        0.01,
        ge=0,
        le=0.2,
        description="Fraction of the detector pixels kept from the engine and used to notice over-fitting.",
    )
    seed: int = Field(0, ge=0, description="Seed of batches and of the held-out pixels.")
