"""Patterns of a tilted sample (reflection, Bragg) on an even grid of the momentum transfer in its plane.

The far field of a plane object depends on the component of the momentum transfer in its plane. Where the plane is
perpendicular to the outgoing beam this is, nearly, the detector's coordinate. Where it is tilted by t about the y axis,
a pixel in the direction s = (X, Y, L) / |(X, Y, L)| has the spatial frequencies

    v = s_y / wavelength        u = (s_x cos t + (s_z - 1) sin t) / wavelength

along the axis and across it (Gardner et al., Opt. Express 20, 19050 (2012); Seaberg et al., Optica 1, 39 (2014)). To
first order a tilt is a wider pixel of the object, 1 / cos t, and no resampling; the second term bends lines of equal u,
by tan t (s_x^2 + s_y^2) / 2 as an angle. Counts are moved to the even grid by the area that pixels
share there, so that they are conserved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from diptych.errors import InputError
from diptych.ptycho.io.convert import chunks
from diptych.ptycho.scan import Geometry, Scan

PARTS = 6
"""A pixel is divided into so many parts along each side, each of which goes to one pixel of the even grid."""

STRAIGHT = 0.05
"""Where no pixel moves by more than this, in pixels, patterns stay as they are."""

COVERED = 0.99
"""Share of a pixel of the even grid that valid detector pixels must cover."""

Axis = Literal["y", "x"]


def untilted(
    scan: Scan, degrees: float, axis: Axis = "y", positions: Literal["surface", "beam"] = "surface"
) -> tuple[Scan, str]:
    """The scan on an even grid of the momentum transfer in the sample's plane, and a sentence that says so.

    Parameters
    ----------
    scan : Scan
        M patterns of N x N pixels in the far field, zero frequency (of a reflection: the specular beam, or the Bragg
        peak) at [N // 2, N // 2].
    degrees : float
        Angle between the sample's plane and the plane perpendicular to the outgoing beam; of a mirror-like reflection,
        the angle of incidence from the surface's normal. Positive: the plane leads away from the source towards
        larger x (axis y), or larger y (axis x).
    axis : {"y", "x"}
        Axis of the tilt.
    positions : {"surface", "beam"}
        Whether recorded positions lie in the sample's plane, or across the beam.

    Raises
    ------
    InputError
        If the geometry is not known, or is near field.
    """
    geometry, size = scan.geometry, scan.size
    if geometry is None or geometry.propagation != "far" or None in (geometry.distance_m, geometry.detector_pixel_m):
        raise InputError(
            "prepare: tilt_deg",
            "the directions of the pixels are not known",
            "a far-field geometry with distance_m and detector_pixel_m",
            "Pass --distance-m and --detector-pixel-m.",
        )
    cosine, across = float(np.cos(np.deg2rad(degrees))), 1 if axis == "y" else 0
    bend = bending(geometry, size, degrees, axis)
    moved = float(np.abs(bend).max())
    said = f"sample tilted by {degrees:g} degrees about {axis}: object pixel {1 / cosine:.4g} times as wide across it"
    out = scan
    if moved > STRAIGHT:
        out = _resampled(scan, geometry, degrees, axis)
        said += f", patterns resampled by up to {moved:.2g} px"
    assert geometry.detector_pixel_m is not None
    sides, scale = list(geometry.detector_pixel_m), np.ones(2)
    sides[across] *= cosine
    if positions == "surface":
        scale[across] = cosine
        said += ", positions in the sample's plane"
    else:
        said += ", positions across the beam"
    changed = replace(geometry, detector_pixel_m=(sides[0], sides[1]))
    return replace(out, geometry=changed, positions=scan.positions * scale, truth=None), said


def even_coordinates(
    geometry: Geometry, size: int, degrees: float, axis: Axis, y: NDArray[Any], x: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where points of the detector (y, x), in pixels from zero frequency, lie on the even grid, in its pixels.

    The grid's pixel is that of the detector along the axis, and cos t times that across it, as an angle at the centre.
    """
    assert geometry.distance_m is not None
    assert geometry.detector_pixel_m is not None
    steps = np.asarray(geometry.detector_pixel_m) / geometry.distance_m
    sy, sx = np.asarray(y) * steps[0], np.asarray(x) * steps[1]
    length = np.sqrt(1 + sy**2 + sx**2)
    sy, sx, away = sy / length, sx / length, 1 / length - 1
    angle = np.deg2rad(degrees)
    if axis == "y":
        return sy / steps[0], (sx + away * np.tan(angle)) / steps[1]
    return (sy + away * np.tan(angle)) / steps[0], sx / steps[1]


def bending(geometry: Geometry, size: int, degrees: float, axis: Axis) -> NDArray[np.float64]:
    """How far pixels lie off those of the even grid with the same index: (2, N, N), y and x, in pixels."""
    y, x = np.indices((size, size)) - size // 2
    there = even_coordinates(geometry, size, degrees, axis, y, x)
    return np.stack([there[0] - y, there[1] - x])


def _resampled(scan: Scan, geometry: Geometry, degrees: float, axis: Axis) -> Scan:
    """Counts moved to the even grid; pixels that valid ones do not cover are masked."""
    size = scan.size
    inner, whole = _weights(geometry, size, degrees, axis)
    mask = np.ones((size, size), bool) if scan.mask is None else scan.mask

    def covered(valid: NDArray[Any]) -> NDArray[np.bool_]:
        area = (inner @ valid.reshape(-1, size**2).T.astype(np.float64)).T.reshape(valid.shape)
        return np.asarray(area >= COVERED * whole)

    counts = np.empty(scan.counts.shape, np.float32)
    for part in chunks(scan.counts):
        valid = mask if mask.ndim == 2 else mask[part]
        frames = np.where(valid, scan.counts[part], 0).reshape(-1, size**2).astype(np.float64)
        counts[part] = (inner @ frames.T).T.reshape(-1, size, size)
    shown = scan.background
    if shown is not None:
        shown = (inner @ np.where(np.isfinite(shown), shown, 0).reshape(-1)).reshape(size, size).astype(np.float32)
    return replace(scan, counts=counts, mask=covered(mask), background=shown)


def _weights(geometry: Geometry, size: int, degrees: float, axis: Axis) -> tuple[csr_matrix, NDArray[np.float64]]:
    """Share of each detector pixel in each pixel of the even grid (N^2, N^2), and the area of the grid's pixels (N, N),
    in detector pixels, on a detector that has no edge.
    """
    margin = int(np.ceil(np.abs(bending(geometry, size, degrees, axis)).max())) + 2
    wide, middle = size + 2 * margin, size // 2
    part = (np.arange(wide * PARTS) + 0.5) / PARTS - 0.5 - margin - middle
    y, x = np.meshgrid(part, part, indexing="ij")
    there = [np.rint(c).astype(np.int64) + middle for c in even_coordinates(geometry, size, degrees, axis, y, x)]
    inside = np.all([(c >= 0) & (c < size) for c in there], axis=0)
    target = (there[0] * size + there[1])[inside]
    whole = np.bincount(target, minlength=size**2).reshape(size, size) / PARTS**2
    own = np.arange(wide * PARTS) // PARTS - margin
    rows, columns = np.meshgrid(own, own, indexing="ij")
    real = inside & (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    source = (rows * size + columns)[real]
    goal = (there[0] * size + there[1])[real]
    share = np.full(len(goal), 1 / PARTS**2)
    return csr_matrix((share, (goal, source)), shape=(size**2, size**2)), whole
