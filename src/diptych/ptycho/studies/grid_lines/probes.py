"""Probe pipelines: a probe of one size brought to another, in steps such as ``smooth:0.5|pad:128``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

Probe = NDArray[np.complex128]

_STEPS = "smooth:SIGMA, pad:N, extrapolate:N, interpolate:N, mask:DIAMETER"


def run_pipeline(pipeline: str, probe: NDArray[Any]) -> Probe:
    """Apply the steps of a pipeline to a probe, from left to right.

    ``smooth`` blurs real and imaginary part by a Gaussian (px); ``pad`` adds zeros around it; ``extrapolate`` continues
    the amplitude at the edge and a quadratic phase fitted to the whole probe; ``interpolate`` samples the same field of
    view more finely (cubic); ``mask`` sets everything outside a centred disc to zero.

    Parameters
    ----------
    pipeline : str
        Steps joined by ``|``, each ``NAME:NUMBER``; an empty text changes nothing.
    probe : (N, N) complex

    Returns
    -------
    (N', N') complex128

    Raises
    ------
    InputError
        If a step is not known or its number is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> run_pipeline("smooth:0.5|pad:64", np.ones((32, 32))).shape
    (64, 64)
    """
    result = np.asarray(probe, np.complex128)
    for name, number in parse_pipeline(pipeline):
        result = STEPS[name](result, number)
    return result


def parse_pipeline(pipeline: str) -> list[tuple[str, float]]:
    """The steps of a pipeline. Raises InputError for one that is not known."""
    out = []
    for step in filter(None, pipeline.split("|")):
        match = re.fullmatch(r"\s*([a-z]+)\s*:\s*(\d+(?:\.\d*)?)\s*", step)
        if match is None or match[1] not in STEPS:
            raise InputError(f"probe pipeline {pipeline!r}", f"the step {step!r} is not known", f"steps among {_STEPS}")
        out.append((match[1], float(match[2])))
    return out


def smooth(probe: Probe, sigma: float) -> Probe:
    """Blur real and imaginary part."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(probe.real, sigma) + 1j * gaussian_filter(probe.imag, sigma), np.complex128)


def pad(probe: Probe, side: float) -> Probe:
    """Zeros around the probe; its values are kept."""
    before, after = _margins(probe, side)
    return np.pad(probe, ((before, after), (before, after)))


def extrapolate(probe: Probe, side: float) -> Probe:
    """Continue the amplitude at the edge, and the quadratic phase that fits the probe best, weighted by intensity."""
    before, after = _margins(probe, side)
    amplitude = np.pad(np.abs(probe), ((before, after), (before, after)), mode="edge")
    y, x = (axis - len(probe) // 2 for axis in np.indices(amplitude.shape, float) - before)
    inside = (slice(before, before + len(probe)),) * 2
    phase = quadratic_phase(probe)
    continued = amplitude * np.exp(1j * (phase[0] + phase[1] * (y**2 + x**2)))
    continued[inside] = probe
    return np.asarray(continued, np.complex128)


def quadratic_phase(probe: Probe) -> tuple[float, float]:
    """A and b of the phase a + b r^2 that fits a probe best, weighted by intensity; b in rad per px^2.

    Fitted to products of neighbouring pixels, so that the phase need not be unwrapped.
    """
    y, x = (axis - len(probe) // 2 for axis in np.indices(probe.shape, float))
    curvature, weight = 0.0, 0.0
    for axis, r in ((0, y), (1, x)):
        # Neighbours differ by b ((r + 1)^2 - r^2) = b (2 r + 1).
        product = probe.take(range(1, len(probe)), axis) * probe.take(range(len(probe) - 1), axis).conj()
        slope = 2 * r.take(range(len(probe) - 1), axis) + 1
        curvature += float((np.abs(product) * slope * np.angle(product)).sum())
        weight += float((np.abs(product) * slope**2).sum())
    b = curvature / weight if weight else 0.0
    a = float(np.angle((np.abs(probe) * probe * np.exp(-1j * b * (y**2 + x**2))).sum()))
    return a, b


def interpolate(probe: Probe, side: float) -> Probe:
    """The same field of view on a finer (or coarser) grid: cubic interpolation of real and imaginary part."""
    from scipy.ndimage import map_coordinates

    count = _side(side)
    at = (np.arange(count) - count // 2) * len(probe) / count + len(probe) // 2
    grid = np.meshgrid(at, at, indexing="ij")
    parts = [map_coordinates(part, grid, order=3, mode="nearest") for part in (probe.real, probe.imag)]
    return np.asarray(parts[0] + 1j * parts[1], np.complex128)


def mask(probe: Probe, diameter: float) -> Probe:
    """Zero outside a centred disc."""
    if diameter <= 0:
        raise InputError("probe pipeline: mask", f"has the diameter {diameter:g} px", "a positive number")
    y, x = (axis - len(probe) // 2 for axis in np.indices(probe.shape, float))
    return np.where(np.hypot(y, x) <= diameter / 2, probe, 0)


STEPS: dict[str, Callable[[Probe, float], Probe]] = {
    "smooth": smooth,
    "pad": pad,
    "extrapolate": extrapolate,
    "interpolate": interpolate,
    "mask": mask,
}


def _side(side: float) -> int:
    if side != int(side) or not 8 <= side <= 4096:
        raise InputError("probe pipeline", f"the side {side:g} px is not possible", "a whole number from 8 to 4096")
    return int(side)


def _margins(probe: Probe, side: float) -> tuple[int, int]:
    more = _side(side) - len(probe)
    if more < 0:
        raise InputError("probe pipeline", f"{len(probe)} px cannot be padded to {side:g} px", "a larger number")
    # Index N // 2 stays the centre.
    before = int(side) // 2 - len(probe) // 2
    return before, more - before
