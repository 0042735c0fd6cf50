"""Positions that cannot be right, or make a scan hard: isolated ones, wrong units, exact rasters, huge canvases."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.probe import probe_diameter
from diptych.ptycho.scan import Scan

CROWDED = 0.05
"""A median step below this share of the probe's diameter is called crowded: usual scans have 0.1 to 0.5."""

COPIES = 24
"""Copies of the object that a reconstruction holds at its largest: gradients and the history of L-BFGS."""

Floats = NDArray[np.float64]
_UNITS = {"um": 1e-6, "nm": 1e-9, "m": 1.0, "mm": 1e-3}


def reach(scan: Scan) -> float:
    """Distance in pixels below which two patterns see a common part: twice the probe's diameter, at most N."""
    return float(scan.size if scan.probe is None else min(2 * probe_diameter(scan.probe), scan.size))


def isolated(scan: Scan) -> tuple[int, ...]:
    """Patterns that overlap nothing, alone or in groups of at most 2 % of the scan, where the rest hangs together.

    Empty where less than 80 % of the patterns overlap each other: then no few positions are at fault.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    count = len(scan)
    # Of many crowded positions the pairs would fill the memory; nearest ones and a coarse grid connect as well.
    cells = np.floor(scan.positions / (reach(scan) / 4))
    _, first, member = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    pairs = cKDTree(scan.positions[first]).query_pairs(reach(scan), output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(first),) * 2)
    label = connected_components(graph, directed=False)[1][member.ravel()]
    sizes = np.bincount(label)
    if count < 8 or sizes.max() < 0.8 * count:
        return ()
    return tuple(int(i) for i in np.flatnonzero(sizes[label] <= max(1, 0.02 * count)))


def position_notes(scan: Scan, step: float | None) -> list[str]:
    """Sentences on units and rasters; ``step`` is the median distance to the nearest neighbour, pixels."""
    notes = []
    diameter = scan.size / 3 if scan.probe is None else probe_diameter(scan.probe)
    span = float(np.ptp(scan.positions, axis=0).max())
    if step is not None and len(scan) >= 8 and step < CROWDED * diameter and span < 4 * diameter:
        notes.append(
            f"{len(scan)} positions within {span:.3g} px, {step:.2g} px apart, under a probe of {diameter:.0f} px: are "
            f"they in object pixels? {_candidates(scan, step, diameter)}"
        )
    if lattice := _raster(scan.positions):
        notes.append(
            f"the positions are an exact raster (step y {lattice[0]:.3g}, x {lattice[1]:.3g} px). With a probe that is "
            "refined, structure at this period may be exchanged between object and probe: a faint lattice in the "
            "image. reconstruct removes what the far field of the probe shows of it. Jitter of a quarter of a step, a "
            "spiral, or a known probe (probe='fixed') prevents it."
        )
    return notes


def _candidates(scan: Scan, step: float, diameter: float) -> str:
    """Units in which the step would be usual for the probe, where the object pixel is known."""
    if scan.pixel_m is None:
        return (
            "If they are lengths, pass energy, distance and detector pixel, and position_unit='um', 'nm' or 'm' "
            "(--position-unit)."
        )
    pixel = float(np.mean(scan.pixel_m))
    usual = {
        unit: step * metres / pixel
        for unit, metres in _UNITS.items()
        if CROWDED * diameter <= step * metres / pixel <= diameter
    }
    if not usual:
        return "No length unit makes the step usual for this probe: check the object pixel."
    return " ".join(
        f"In {unit} the step would be {value:.1f} px (object pixel {pixel * 1e9:.3g} nm): load with "
        f"position_unit='{unit}' (--position-unit {unit})."
        for unit, value in usual.items()
    )


def _raster(positions: Floats) -> tuple[float, float] | None:
    """Steps (y, x) of an exact raster of at least 4 x 4 positions, parallel to the axes; None for others."""
    steps = []
    for axis in positions.T:
        # Values within a thousandth of a pixel are one line.
        lines = np.unique(np.round(axis, 3))
        gaps = np.diff(lines)
        if len(lines) < 4 or len(lines) > len(positions) / 3 or np.ptp(gaps) > 0.02 * gaps.mean():
            return None
        steps.append(float(gaps.mean()))
    return steps[0], steps[1]


def outermost(positions: Floats) -> str:
    """The position furthest from the median of all, as text."""
    number = int(np.argmax(np.abs(positions - np.median(positions, axis=0)).max(1)))
    return f"pattern {number} at (y {positions[number, 0]:.4g}, x {positions[number, 1]:.4g})"


def check_memory(scan: Scan) -> None:
    """Raise where the object that the positions need does not fit this machine's memory.

    Raises
    ------
    InputError
        It names the canvas's size and the outermost position.
    """
    height, width = canvas_box(scan.positions, scan.size, 0)[1]
    needed, there = height * width * 8 * COPIES, memory()
    if there is not None and needed > there:
        raise InputError(
            f"{scan.name}: positions",
            f"they need an object of {height} x {width} pixels, {needed / 1e9:.1f} GB of memory while reconstructing; "
            f"{there / 1e9:.1f} GB are there. The outermost is {outermost(scan.positions)}",
            "positions in object pixels",
            "If that position is wrong, leave it out with drop (--drop NUMBER); else check the units.",
        )


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
