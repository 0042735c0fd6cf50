"""Options of ``reconstruct``: one frozen object for Python, YAML files, the command line and the studio."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from diptych.ptycho.engines.base import ENGINES
from diptych.ptycho.physics.optics.spec import is_optics, parse_optics
from diptych.ptycho.prepare.options import AutoMask, Frames, Saturated
from diptych.ptycho.prepare.preparation_options import Preparation
from diptych.runtime.registry import SelectingOptions


class ReconstructionOptions(SelectingOptions):
    """How to reconstruct. The defaults suit scans from 1e4 to 1e9 photons per pattern; nothing needs to be set.

    The options of the chosen engine stand beside these, for instance ``ReconstructionOptions(engine="rpie",
    alpha=0.1)``; ``options.own("engine")`` holds them.
    """

    registries: ClassVar = {"engine": ENGINES}

    engine: str = Field(
        "auto",
        description="Algorithm: ml (maximum likelihood), rpie (rPIE with momentum), epie, dm (difference map), raar, "
        "or network (the image of the trained model alone); auto chooses.",
    )
    epochs: int | None = Field(None, ge=1, description="Most passes over the scan; without it the engine decides.")
    stop: bool = Field(
        True,
        description="Stop on convergence. Off: run all epochs (the best state is still kept).",
    )
    start: str = Field("flat", description="Initial object: flat (a transparent one) or a result FILE (.h5, .npz).")
    probe: str = Field(
        "refine",
        description="refine (start from the scan's probe), fixed (use it unchanged), estimate (make an initial guess "
        "from the mean pattern), a FILE with an initial probe, or optics:KEY=VALUE,... (from the parameters of the "
        "optics: semi_angle_mrad=1,defocus_nm=500, diameter_um=180,outer_zone_nm=50, or KB mirrors).",
    )
    modes: Annotated[int, Field(ge=1, le=32)] | Literal["auto"] | None = Field(
        "auto",
        description="Incoherent probe modes: a number (extra ones start orthogonal with 5 % of the power), or auto (as "
        "many as the probe has, and more, up to 8, where these lower the fit of held-out pixels; engines auto and ml).",
    )
    subpixel: Literal["fourier", "round"] = Field(
        "fourier",
        description="Sub-pixel positions: fourier (shift the probe where there are any) or round (to whole pixels).",
    )
    held_out: float = Field(
        0.01,
        ge=0,
        le=0.2,
        description="Fraction of the detector pixels held out from the engine, used to detect over-fitting.",
    )
    frame_factors: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Factor of each frame's intensity: on, off, or auto (fitted where the frames' totals show that the "
        "beam varied and the held-out fit confirms it; engines auto and ml).",
    )
    background: Literal["auto", "off"] = Field(
        "auto",
        description="Counts that are the same in every frame, where the scan states none: auto (a smooth background is "
        "fitted where held-out pixels ask for it; engines auto and ml) or off.",
    )
    point_spread: Annotated[float, Field(gt=0, le=16)] | Literal["auto", "off"] = Field(
        "auto",
        description="Blur of the patterns by the detector's point spread, or by a source of limited coherence: its "
        "standard deviation, detector px; auto (widths along y and x are fitted where held-out pixels ask for them; "
        "engines auto and ml) or off.",
    )
    correct_positions: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Refine the positions together with object and probe: on, auto (where a test says that they are "
        "wrong, no other reading of the scan fits, and the held-out fit confirms it; engines auto and ml), or off.",
    )
    refine_distance: Literal["off", "on"] = Field(
        "off",
        description="Find the distance first, within 20 %: the one at which short reconstructions fit best (far field: "
        "the detector's, which scales the positions in pixels; near field: the propagation distance). The result has "
        "it in its geometry. Takes some 15 short trials.",
    )
    slices: int = Field(
        1,
        ge=1,
        le=32,
        description="Thick samples: slices along the beam, one after the other (multislice; engines auto and ml). Then "
        "auto leaves modes and positions as they are.",
    )
    slice_distance_m: PositiveFloat | None = Field(
        None, description="Distance from one slice to the next, m; needs energy, distance and detector pixel."
    )
    probe_variation: Annotated[int, Field(ge=0, le=8)] | Literal["auto"] = Field(
        "auto",
        description="Components of a probe that changes in the course of the scan: shapes that all patterns share, "
        "with coefficients for each (orthogonal probe relaxation). A number (0: none), kept where held-out pixels "
        "confirm it; or auto (one, tried where the patterns show that the probe drifts; engines auto and ml).",
    )
    regularisation: Literal["auto", "total-variation", "off"] = Field(
        "off",
        description="Total variation where photons are few: off, total-variation (of the strength that predicts "
        "held-out pixels best), or auto (only where these confirm it, never above 1e5 photons a pattern; engines "
        "auto and ml). Biases fine texture.",
    )
    prepare: Preparation = Field(
        None,
        description="Prepare the scan first: a YAML FILE with options of diptych prepare, or the options themselves "
        "({crop: 128, bin: 2}).",
    )
    drop: str = Field(
        "", description="Frames to leave out: numbers and ranges, counted from 0, for instance 3,7-9 (both included)."
    )
    bad_frames: Frames = "auto"
    auto_mask: AutoMask = False
    saturated: Saturated = "auto"
    error_bars: bool = Field(
        False,
        description="Also estimate the standard error of amplitude and phase per pixel (up to several times the time "
        "of the reconstruction).",
    )
    seed: int = Field(0, ge=0, description="Seed of batches and of the held-out pixels.")

    @property
    def first_modes(self) -> int | None:
        """Modes to start with: those asked for, or None, as many as the probe has."""
        return None if self.modes == "auto" else self.modes

    @field_validator("probe")
    @classmethod
    def _known_optics(cls, probe: str) -> str:
        if is_optics(probe):
            parse_optics(probe)
        return probe

    @model_validator(mode="before")
    @classmethod
    def _read_former_name(cls, values: Any) -> Any:
        """Records of earlier versions call ``subpixel`` positions."""
        if isinstance(values, dict) and values.get("positions") in ("fourier", "round") and "subpixel" not in values:
            return {("subpixel" if key == "positions" else key): value for key, value in values.items()}
        return values

    @model_validator(mode="before")
    @classmethod
    def _drop_defaults_of_other_engines(cls, values: Any) -> Any:
        """Records of results list the options of all engines; those left at their default say nothing."""
        if not isinstance(values, dict) or not (extra := [key for key in values if key not in cls.model_fields]):
            return values
        chosen = values.get("engine", "auto")
        known = set(ENGINES[chosen].options.model_fields) if chosen in ENGINES else set()
        others = [key for key in extra if key not in known]
        models = ENGINES.option_models().values() if others else ()
        unset = {
            key
            for key in others
            for model in models
            if key in model.model_fields and values[key] == model.model_fields[key].default
        }
        return {key: value for key, value in values.items() if key not in unset}
