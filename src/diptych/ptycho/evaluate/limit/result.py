"""The limit of a scan: numbers, maps, spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.evaluate.resolution import RingCorrelation

THRESHOLD = "half-bit"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power of the object and of its least errors, ring by ring.

    Parameters
    ----------
    signal, noise : (R,) float64
        Power in each ring, same units.
    curve : RingCorrelation
        Expected correlation of the images of two halves of the photons: s / (1 + s) with s = signal / (2 noise).
    """

    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    curve: RingCorrelation


@dataclass(frozen=True, eq=False)
class Limit:
    """The least error that photon noise allows (Cramer-Rao), of an unbiased reconstruction.

    Parameters
    ----------
    complex_error : float
        Relative rms error of the object on the pixels that ``evaluate`` scores, after its alignment.
    complex_error_noise : float
        Relative standard error of ``complex_error`` due to the random vectors.
    dose : float
        Mean detected photons per pattern.
    patterns : int
        M.
    overlap : float or None
        1 - step / diameter of the probe.
    photons_per_pixel : float
        Sum of |O|^2 over the scored pixels, over the sum of 1 / illumination there: detected photons of a pixel, all
        patterns together, as they enter the error.
    amplitude_error, phase_error : (H, W) float32
        Standard error per pixel, NaN where no light reached; phase in rad.
    origin : (int, int)
        Coordinate (y, x) of their pixel [0, 0].
    box : (y0, y1, x0, x1)
        Half-open box of coordinates between the positions.
    pixel_m : (float, float) or None
        Object pixel (y, x) in metres.
    spectrum : Spectrum or None
        None where the scored area is too small, or the object flat there.
    gauge : str
        What was left out of the errors.
    refined : tuple of str
        What is unknown besides the object.
    source : str
        Where the object came from.
    needs : dict
        Dose that a wanted resolution or error needs.
    notes : tuple of str
        Remarks.
    """

    complex_error: float
    complex_error_noise: float
    dose: float
    patterns: int
    overlap: float | None
    photons_per_pixel: float
    amplitude_error: NDArray[np.float32]
    phase_error: NDArray[np.float32]
    origin: tuple[int, int]
    box: tuple[int, int, int, int]
    pixel_m: tuple[float, float] | None
    spectrum: Spectrum | None
    gauge: str
    refined: tuple[str, ...]
    source: str
    needs: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def resolution(self) -> float:
        """Frequency, as a fraction of Nyquist, where the expected correlation of two halves falls below half a bit;
        NaN where nothing is resolved or no spectrum is known.
        """
        if self.spectrum is None:
            return math.nan
        try:
            return self.spectrum.curve.crossing(THRESHOLD)
        except UndefinedMetricError:
            return math.nan

    @property
    def ideal(self) -> float:
        """1 / sqrt(photons per pixel): the least relative error if every photon told of one pixel alone (T. J. Schulz,
        Optics Express 29, 16736, 2021).
        """
        return 1 / math.sqrt(self.photons_per_pixel)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as JSON values, units in the names."""
        pixel = self.pixel_m
        half = None if math.isnan(self.resolution) else 1 / self.resolution
        return {
            "complex_error": self.complex_error,
            "complex_error_accuracy": self.complex_error_noise,
            "dose": self.dose,
            "patterns": self.patterns,
            "overlap": self.overlap,
            "photons_per_pixel": self.photons_per_pixel,
            "ideal_complex_error": self.ideal,
            "amplitude_error_median": float(np.nanmedian(self.amplitude_error)),
            "phase_error_median_rad": float(np.nanmedian(self.phase_error)),
            "resolution_of_nyquist": None if half is None else self.resolution,
            "half_period_px": half,
            "half_period_m": None if half is None or pixel is None else half * max(pixel),
            "refined": list(self.refined),
            "gauge": self.gauge,
            "object_from": self.source,
            **self.needs,
            "notes": list(self.notes),
        }

    def statement(self) -> str:
        """The limit in a few sentences."""
        unknown = "known probe" if not self.refined else f"{' and '.join(self.refined)} refined with the object"
        about = self.to_dict()
        overlap = "" if self.overlap is None else f", overlap {self.overlap:.0%}"
        lines = [
            f"{self.patterns} patterns of {self.dose:.3g} detected photons{overlap}; {unknown}.",
            f"Least relative complex error: {self.complex_error:.3g} (+- {self.complex_error_noise:.1%} of it), "
            f"{self.complex_error / self.ideal:.2f} times 1 / sqrt(photons per pixel).",
            f"Median standard error of a pixel: amplitude {about['amplitude_error_median']:.3g}, phase "
            f"{about['phase_error_median_rad']:.3g} rad.",
        ]
        half = about["half_period_px"]
        if half is None:
            lines.append("Resolution: none is reached, or the area is too small to tell.")
        else:
            at = " (the pixel size limits it)" if self.resolution >= 1 else ""
            metres = about["half_period_m"]
            in_nm = "" if metres is None else f" = {metres * 1e9:.3g} nm"
            lines.append(f"Half-period resolution (half-bit, two halves of the photons): {half:.3g} px{in_nm}{at}.")
        for name, value in self.needs.items():
            text = "no dose" if math.isinf(value) else f"{value:.3g} photons per pattern"
            lines.append(f"{name.replace('_', ' ').capitalize()}: {text}.")
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])
