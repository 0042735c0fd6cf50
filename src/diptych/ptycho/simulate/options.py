"""Options of ``simulate``: one frozen object for Python, YAML files, the command line and the studio."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from diptych.ptycho.physics.optics.spec import is_optics, parse_optics
from diptych.runtime.options import Options

ObjectKind = Literal["natural", "lines", "gaussian-field", "siemens-star", "dead-leaves", "blocks"]
Trajectory = Literal["raster", "jittered-raster", "fermat-spiral", "random"]

PROBE_KINDS = ("zone-plate", "gaussian", "disk")

_SHAPING = {
    "aperture": ("zone-plate",),
    "central_stop": ("zone-plate",),
    "radius": ("gaussian", "disk"),
    "defocus": PROBE_KINDS,
}


class SimulationOptions(Options):
    """What to simulate. The defaults make 256 patterns of 64 x 64 pixels at 1e6 photons each."""

    object: ObjectKind = Field(
        "natural",
        description="Object: natural (photographs, one as amplitude and one as phase), lines, gaussian-field "
        "(power-law spectrum), "
        "siemens-star, dead-leaves (occluding discs) or blocks.",
    )
    amplitude: tuple[float, float] = Field(
        (0.55, 1.0), description="Smallest and largest modulus of the object (1 is transparent)."
    )
    phase: tuple[FiniteFloat, FiniteFloat] = Field(
        (-0.8, 0.8), description="Smallest and largest phase of the object, rad."
    )
    slices: int = Field(
        1,
        ge=1,
        le=32,
        description="Slices along the beam, of different structure (thick samples); amplitude and phase are those of "
        "their product.",
    )
    slice_distance_m: PositiveFloat | None = Field(
        None, description="Distance from one slice to the next, m; needs energy, distance and detector pixel."
    )
    margin: int = Field(16, ge=0, le=4096, description="Object around the outermost windows, px.")

    size: int | None = Field(
        None, ge=8, le=4096, description="Side N of the patterns, px. Default: 64, or that of the given probe."
    )
    probe: str = Field(
        "zone-plate",
        description="Probe: zone-plate, gaussian, disk, a FILE (.npy, .npz, .h5) with a probe, or optics:KEY=VALUE,... "
        "(see reconstruct --probe; needs energy, distance and detector pixel).",
    )
    aperture: PositiveFloat | None = Field(
        None,
        description="zone-plate: radius of the pupil on the detector, px. Default: 13 at N = 64, in proportion to N.",
    )
    central_stop: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="zone-plate: radius of the central stop as a fraction of the aperture. Default: 0.35.",
    )
    radius: PositiveFloat | None = Field(
        None,
        description="gaussian: 1/e^2 radius of the intensity; disk: radius; object px. Default: N / 6 and N / 5.",
    )
    defocus: FiniteFloat | None = Field(
        None,
        description="Quadratic phase at the aperture's edge (zone-plate) or at the radius (gaussian, disk), rad. "
        "Default: 10 (zone-plate), 5 (gaussian) at N = 64, in proportion to N, and 0 (disk).",
    )
    modes: int = Field(1, ge=1, le=32, description="Orthogonal incoherent probe modes.")
    mode_powers: tuple[PositiveFloat, ...] | None = Field(
        None, description="Relative power of each mode, one number per mode. Default: each has 0.4 of the previous one."
    )
    probe_error: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Error of the solver's initial probe: 0 the true probe, 1 blind (no central stop, 40 % less "
        "defocus, 10 % smaller, scale unknown).",
    )

    trajectory: Trajectory = Field(
        "jittered-raster", description="Scan: raster, jittered-raster, fermat-spiral or random."
    )
    patterns: int | None = Field(
        None, ge=1, le=10_000_000, description="Number of patterns. Default: 256, or what fills the field."
    )
    field: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="Height and width of the scanned field, object px; instead of the number of patterns.",
    )
    step: PositiveFloat | None = Field(
        None,
        description="Distance of neighbours, object px (fermat-spiral and random: one pattern per step^2). "
        "Default: N / 8.",
    )
    jitter: float | None = Field(
        None, ge=0, description="jittered-raster: largest displacement along each axis, object px. Default: step / 4."
    )
    integer: bool = Field(False, description="Round the true positions to whole pixels.")
    position_error: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Standard deviation of the errors of the reported positions along each axis, px.",
    )

    dose: float | None = Field(
        None, gt=0, le=1e15, description="Mean detected signal photons per pattern, through the object. Default: 1e6."
    )
    probe_photons: float | None = Field(
        None,
        gt=0,
        le=1e15,
        description="Instead of the dose: photons per pattern through a transparent object, sum |probe|^2.",
    )
    noise: Literal["poisson", "none"] = Field(
        "poisson", description="poisson (integer counts) or none (expected counts, float32)."
    )
    background: float = Field(
        0.0, ge=0, le=1e9, description="Expected background, photons per pixel; known to the solver."
    )
    point_spread: float = Field(
        0.0,
        ge=0,
        le=16,
        description="Width of the detector's point spread, standard deviation in detector pixels; not known to the "
        "solver.",
    )
    gain: PositiveFloat = Field(
        1.0,
        le=1e6,
        description="Units (ADU) per photon of a charge-integrating detector; known to the solver.",
    )
    read_noise: PositiveFloat | None = Field(
        None,
        le=1e6,
        description="Read noise of a charge-integrating detector, rms, in units (ADU): readings are float32 and may be "
        "negative. Default: a detector that counts photons.",
    )
    dead: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of detector pixels that are dead: their counts are 0 and they are masked.",
    )
    beam_stop: float = Field(
        0.0, ge=0, description="Radius of a beam stop around zero frequency, px: covered pixels are masked."
    )
    saturation: float | None = Field(
        None,
        ge=1,
        description="Counts (units, ADU) at which a pixel saturates: it is clipped there and masked in that pattern.",
    )

    particle: Literal["photon", "electron"] = Field(
        "photon", description="What illuminates; it sets the wavelength that belongs to the energy."
    )
    energy_eV: PositiveFloat | None = Field(
        None, description="Energy of a photon, or kinetic energy of an electron, eV; recorded with the scan."
    )
    distance_m: PositiveFloat | None = Field(
        None, description="Sample to detector distance, m; recorded with the scan."
    )
    detector_pixel_m: PositiveFloat | None = Field(
        None, description="Side of a detector pixel, m; recorded with the scan."
    )
    propagation: Literal["far", "near"] = Field(
        "far",
        description="far field (diffraction patterns) or near field (Fresnel images; needs energy, distance and "
        "detector pixel).",
    )
    focus_distance_m: PositiveFloat | None = Field(
        None, description="Near field: distance from the focus downstream to the sample, m. Default: a parallel beam."
    )
    seed: int = Field(0, ge=0, description="Random seed of object, trajectory, noise, dead pixels, position errors.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.amplitude
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"amplitude = {self.amplitude}; expected two finite numbers >= 0, the smaller one first")
        if self.phase[0] > self.phase[1]:
            raise ValueError(f"phase = {self.phase}; expected two numbers in rad, the smaller one first")
        if (self.slices > 1) != (self.slice_distance_m is not None):
            raise ValueError(
                f"slices = {self.slices} and slice_distance_m = {self.slice_distance_m}; expected two slices or more "
                f"and their distance, or neither"
            )
        if high == 0:
            raise ValueError("amplitude = (0, 0) transmits nothing; expected a positive modulus")
        for name, kinds in _SHAPING.items():
            if getattr(self, name) is not None and self.probe not in kinds:
                raise ValueError(
                    f"{name} is an option of probe {' or '.join(kinds)}, and the probe is {self.probe!r}; leave one of "
                    f"them out"
                )
        if is_optics(self.probe):
            parse_optics(self.probe)
        if self.mode_powers is not None and len(self.mode_powers) != self.modes:
            raise ValueError(
                f"mode_powers has {len(self.mode_powers)} numbers for {self.modes} modes; expected one per mode"
            )
        if self.patterns is not None and self.field is not None:
            raise ValueError("patterns and field both set the size of the scan; give one of them, and the step")
        if self.jitter is not None and self.trajectory != "jittered-raster":
            raise ValueError(
                f"jitter is an option of trajectory jittered-raster, and it is {self.trajectory!r}; leave one of them "
                f"out"
            )
        if self.dose is not None and self.probe_photons is not None:
            raise ValueError("dose and probe_photons both set the number of photons; give one of them")
        return self
