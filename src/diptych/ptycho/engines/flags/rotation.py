"""Search of the scan's rotation against the detector: by the patterns alone, then confirmed by reconstructions.

Short trials of PIE do not tell rotations apart where a pattern holds few photons per pixel: of a 4D-STEM scan with 8
electrons per pixel they reach fits of 1.66 to 1.72 at all rotations. Longer trials tell them by little (levels of 1.175
and 1.187), for noise dominates the fit, but by more than their standard error. So the candidates are few, each is tried
for longer, and where the shadows tell a rotation for certain, a significantly better fit confirms it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.readings import AS_GIVEN, Reading, by_options
from diptych.ptycho.engines.flags.trials import CLEARLY_BETTER, longer_trial, poor, rank
from diptych.ptycho.engines.starts.estimate import estimate_probe, mean_pupil
from diptych.ptycho.engines.starts.trial import central_part
from diptych.ptycho.physics.probe import defocused
from diptych.ptycho.physics.scan_rotation import Direction, scan_directions
from diptych.ptycho.scan import Scan

PATTERNS = 300
"""Patterns at the centre of the scan that shadows and centres of mass are taken from."""

COARSE, COARSE_PATTERNS = 30, 60
"""Step in degrees of the rotations that are tried where the patterns alone do not tell, and the patterns of each short
trial: at a wrong angle, fewer positions are less far out of place."""

REFINED = (8.0, 4.0)
"""Degrees to either side of the best rotation that are tried, where shadows do not tell it to a degree."""

CONFIRMED = 2.0
"""Standard errors by which a rotation that the shadows tell has to fit better than none."""

SAME = 2.0
"""Degrees below which a rotation is not told from none."""


@dataclass(frozen=True)
class Rotation:
    """What the search found.

    Parameters
    ----------
    readings, evidence : list
        Of the scan as given, first, and of each rotation that was tried for longer.
    probe : (P, N, N) complex64
        The initial probe of the trials.
    directions : list of Direction
        What the patterns alone told.
    """

    readings: list[Reading]
    evidence: list[Evidence]
    probe: NDArray[np.complex64]
    directions: list[Direction]

    @property
    def best(self) -> int:
        """Number of the best reading; 0 unless a rotation is better than none: clearly, or significantly where the
        shadows tell it for certain.
        """
        levels = [found.level if np.isfinite(found.level) else np.inf for found in self.evidence]
        best = int(np.argmin(levels))
        noise = float(np.hypot(*(np.nan_to_num(self.evidence[i].error) for i in (0, best))))
        confirmed = _by_shadow(self.directions) and levels[best] < levels[0] - CONFIRMED * noise
        return best if confirmed or levels[best] < CLEARLY_BETTER * levels[0] else 0

    @property
    def right(self) -> bool:
        """Whether the best reading explains the patterns."""
        return not poor(self.evidence[self.best])


def search_rotation(scan: Scan, report: Callable[[Reading, float], None]) -> Rotation:
    """Try the scan as given, and the rotations that the patterns tell, with y and x of the positions exchanged or not.

    Parameters
    ----------
    scan : Scan
        As loaded; its probe, if it has one, is the start of all trials.
    report : callable
        Called with each reading and its fit.
    """
    part = central_part(scan, PATTERNS)
    directions = scan_directions(part.counts, part.positions, part.mask)
    probe = _probe(scan, directions)
    scan = replace(scan, probe=probe)
    # With a symmetric start, a rotation by 180 degrees gives the complex conjugates, and as good a fit.
    both = part.probe is not None
    candidates = _told(directions, both) if any(each.certain for each in directions) else _tried(scan)
    readings, evidence = [AS_GIVEN], [longer_trial(scan)]
    report(AS_GIVEN, evidence[0].level)

    def try_longer(degrees: float, swap: bool) -> float:
        readings.append(reading(degrees, swap))
        evidence.append(longer_trial(readings[-1].apply(scan)))
        report(readings[-1], evidence[-1].level)
        return evidence[-1].level if np.isfinite(evidence[-1].level) else np.inf

    tried = {each: try_longer(*each) for each in candidates}
    if tried and not _by_shadow(directions):
        for width in REFINED:
            degrees, swap = min(tried, key=lambda each: tried[each])
            for turn in (-width, width):
                near = (round((degrees + turn) % 360, 1), swap)
                tried[near] = try_longer(*near)
    return Rotation(readings, evidence, probe, directions)


def reading(degrees: float, swap: bool) -> Reading:
    """A rotation of the positions, after their y and x are exchanged where ``swap``."""
    name = f"scan rotation {degrees:g} degrees"
    if swap:
        return by_options(f"positions: swap y and x, {name}", {"swap_xy": True, "rotation": degrees})
    return by_options(name, {"rotation": degrees})


def _by_shadow(directions: list[Direction]) -> bool:
    return bool(directions) and directions[0].method == "shadow" and directions[0].certain


def _told(directions: list[Direction], both: bool) -> list[tuple[float, bool]]:
    """Rotations (degrees, swap) that one of the effects tells for certain, but for the scan as given."""
    certain = [each for each in directions if each.certain]
    if _by_shadow(directions):
        certain = certain[:1]
    turns = (0.0, 180.0) if both else (0.0,)
    found = [(round((each.degrees + turn) % 360, 1), each.swap) for each in certain[:2] for turn in turns]
    return [(degrees, swap) for degrees, swap in found if swap or SAME < degrees < 360 - SAME]


def _tried(scan: Scan) -> list[tuple[float, bool]]:
    """The best of rotations all around, in short trials, without and with y and x exchanged."""
    grid = [(float(turn), swap) for swap in (False, True) for turn in range(0, 360, COARSE) if turn or swap]
    fits = rank(scan, [reading(*each) for each in grid], COARSE_PATTERNS)
    return [grid[i] for i in np.argsort(fits)[:2]]


def _probe(scan: Scan, directions: list[Direction]) -> NDArray[np.complex64]:
    """The scan's probe, or one with the defocus that the motion of the shadows tells, or an estimate."""
    if scan.probe is not None:
        return scan.probe
    if _by_shadow(directions):
        scale = directions[0].scale
        pupil, edge = mean_pupil(scan)
        if scale is not None and edge / scale < scan.size / 2:
            # A pupil phase c (q / edge)^2 puts the ray at the edge N c / (pi edge) pixels off axis: edge / scale here.
            return defocused(pupil.astype(np.complex128)[None], edge, np.pi * edge**2 / (scan.size * scale))
    return estimate_probe(scan)
