"""A scan with its distance multiplied by a factor, and sentences that say so.

Far field: the object pixel is wavelength * distance / (N * detector pixel), so a distance that is too small by 2 %
gives positions in pixels that are too large by 2 %; the patterns do not change. Positions in metres stay. A factor of
the distance is the same as one of the wavelength.

Near field: the distance also sets how far waves spread. In a parallel beam it is the distance from sample to detector,
and the pixel stays. In a diverging beam it is the distance from the focus to the sample, which is short and sets the
magnification; the distance to the detector is long and well known.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diptych.ptycho.scan import Geometry, Scan


def at_factor(scan: Scan, factor: float) -> Scan:
    """The scan with its distance multiplied by ``factor``, and positions (M, 2) in the new object pixels.

    A true object, which has the old pixel, is left out where the pixel changes.
    """
    geometry = scan.geometry
    if factor == 1:
        return scan
    if geometry is None:
        return replace(scan, positions=scan.positions / factor, truth=None)
    changed = _changed(geometry, factor)
    if geometry.propagation == "near" and geometry.focus_distance_m is None:
        return replace(scan, geometry=changed)
    before, after = geometry.object_pixel_m(scan.size), changed.object_pixel_m(scan.size)
    # The far field's pixel grows with the distance, also where energy or detector pixel are not known.
    ratio = factor if before is None or after is None else np.divide(after, before)
    return replace(scan, positions=scan.positions / ratio, geometry=changed, truth=None)


def moves_positions(scan: Scan) -> bool:
    """Whether a factor of the distance scales the positions in pixels."""
    geometry = scan.geometry
    return geometry is None or geometry.propagation == "far" or geometry.focus_distance_m is not None


def quantity(geometry: Geometry | None) -> tuple[str, float | None]:
    """What the factor multiplies, in words, and its value in metres (None where the geometry does not state it)."""
    if geometry is None:
        return "object pixel", None
    if geometry.propagation == "near" and geometry.focus_distance_m is not None:
        return "distance from focus to sample", geometry.focus_distance_m
    if geometry.distance_m is None:
        return "object pixel", None
    return "detector distance", geometry.distance_m


def change_in_words(geometry: Geometry | None, factor: float) -> str:
    """For instance "detector distance 1.92 -> 1.97 m (+2.6 %)"."""
    name, value = quantity(geometry)
    percent = f"{100 * (factor - 1):+.2g} %"
    if value is None:
        return f"{name} x {factor:.4g} ({percent}; the geometry states no distance)"
    unit, size = next(((u, s) for u, s in (("m", 1.0), ("mm", 1e3)) if value * s >= 0.1), ("um", 1e6))
    return f"{name} {value * size:.4g} -> {value * factor * size:.4g} {unit} ({percent})"


def _changed(geometry: Geometry, factor: float) -> Geometry:
    if geometry.propagation == "near" and geometry.focus_distance_m is not None:
        return replace(geometry, focus_distance_m=geometry.focus_distance_m * factor)
    return geometry if geometry.distance_m is None else replace(geometry, distance_m=geometry.distance_m * factor)
