"""The standard problems: photographs as object, zone-plate probe, wrong initial probe, photon noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.ptycho.simulate.trajectories import raster

SEED = 7
"""Seed of the position jitter and of the photon noise."""

MEAN_MODULUS = 0.78
"""Mean modulus of the object; the initial probe is scaled so that its power is that of the mean pattern with such an
object.
"""


@dataclass(frozen=True)
class Problem:
    """Parameters of one problem.

    Parameters
    ----------
    dose : float
        Mean detected photons per pattern.
    subpixel : bool
        Keep the fractions of the positions; otherwise they are rounded to whole pixels.
    size, canvas : int
        Side of the patterns and of the object, px.
    patterns : int
        On a grid as square as can be.
    step, jitter : float
        Of the grid, and the largest displacement along each axis, px.
    """

    dose: float
    subpixel: bool = False
    size: int = 64
    canvas: int = 352
    patterns: int = 1024
    step: float = 8.0
    jitter: float = 2.0


PROBLEMS = {
    "int_1e4": Problem(1e4),
    "int_1e6": Problem(1e6),
    "int_1e9": Problem(1e9),
    "sub_1e6": Problem(1e6, subpixel=True),
    "n128_1e6": Problem(1e6, size=128, canvas=512, patterns=516, step=16.0),
}
"""By name; ``n128_1e6`` has larger patterns (aperture 26 px) and measures time only."""


def photograph(image: NDArray[Any], side: int) -> NDArray[np.float64]:
    """A grey image as (side, side) values from 0 to 1, low-passed by about a pixel."""
    from skimage import filters, transform

    resize: Any = transform.resize
    blur: Any = filters.gaussian
    grey = blur(resize(image.astype(float), (side, side), anti_aliasing=True), 0.6)
    low, high = grey.min(), grey.max()
    return np.asarray((grey - low) / (high - low), np.float64)


def true_object(side: int) -> diptych.Canvas:
    """Modulus 0.55 to 1 (camera), phase -0.8 to 0.8 rad (astronaut), (side, side), origin (0, 0)."""
    from skimage import color, data

    samples: Any = data
    modulus = 0.55 + 0.45 * photograph(samples.camera(), side)
    phase = 1.6 * (photograph(color.rgb2gray(samples.astronaut()), side) - 0.5)
    return diptych.Canvas((modulus * np.exp(1j * phase)).astype(np.complex64))


def positions(problem: Problem) -> NDArray[np.float64]:
    """(M, 2) object pixels (y, x), in the middle of the object."""
    rng = np.random.default_rng(SEED)
    jitter = np.stack([rng.uniform(-problem.jitter, problem.jitter, problem.patterns) for _ in "yx"], axis=1)
    found = raster(problem.step, problem.patterns) + problem.canvas / 2 + jitter
    return found if problem.subpixel else np.round(found)


def make(problem: Problem, noise: str = "poisson") -> diptych.Scan:
    """The scan with its truth; the initial probe has no central stop, 40 % less defocus and is 10 % smaller."""
    scan: diptych.Scan = diptych.simulate(
        object=true_object(problem.canvas),
        probe="zone-plate",
        size=problem.size,
        probe_error=1.0,
        positions=positions(problem),
        dose=problem.dose,
        noise=noise,
        seed=SEED,
    )
    return scan


def write(scan: diptych.Scan, path: Path) -> Path:
    """Write the solver's input as NPZ: ``counts`` (M, N, N) float32, ``positions`` (M, 2), ``probe`` (N, N), the
    initial guess.
    """
    assert scan.probe is not None
    probe = (scan.probe[0] / MEAN_MODULUS).astype(np.complex64)
    np.savez(path, counts=scan.counts.astype(np.float32), positions=scan.positions, probe=probe)
    return path
