"""What ``check`` reports of the search of the scan's rotation: the rows of the ranking, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.ptycho.engines.flags.readings import Reading, command_line
from diptych.ptycho.engines.flags.rotation import Rotation, search_rotation
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress, ProgressCallback


@dataclass(frozen=True)
class RotationReport:
    """Rows of the ranking, best first, what to do, and whether nothing else has to be tried."""

    rows: list[dict[str, Any]]
    advice: str
    settled: bool


def check_rotation(scan: Scan, progress: ProgressCallback | None) -> RotationReport:
    """Search the rotation of the scan against the detector, and say what was found."""
    done = 0

    def report(reading: Reading, fit: float) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(Progress(f"check: {reading.name}", done, 0, {"fit": fit}))

    found = search_rotation(scan, report)
    given = found.evidence[0].level
    rows: list[dict[str, Any]] = [
        {
            "reading": reading.name,
            "change": command_line(reading.changes or {}),
            "fit": evidence.level if np.isfinite(evidence.level) else float("inf"),
            "relative": evidence.level / given if np.isfinite(given) else float(not np.isfinite(evidence.level)),
        }
        for reading, evidence in zip(found.readings, found.evidence, strict=True)
    ]
    ranked = sorted(rows, key=lambda row: row["fit"])
    return RotationReport(ranked, _advice(scan, found, given), bool(found.best) or found.right)


def _advice(scan: Scan, found: Rotation, given: float) -> str:
    best, level = found.readings[found.best], found.evidence[found.best].level
    if not found.best:
        text = f"No rotation of the scan fits clearly better than none (level {given:.3f}, where 1 is expected)."
        return text if not found.right else f"The scan fits best as it is given (level {given:.3f}). {text}"
    changes = dict(best.changes or {})
    other = command_line({**changes, "rotation": round((changes["rotation"] + 180) % 360, 1)})
    times = f"to a level of {level:.3f}, as given to {given:.3f}" if np.isfinite(given) else "and diverged as given"
    text = f"Reading the scan with '{best.name}' fits {times}, where 1 is expected: {best.remedy}."
    if not found.right:
        text += (
            " The patterns are not fully explained yet: try more probe modes (--modes 3), and check defocus, centring "
            "and mask."
        )
    shadow = next((each for each in found.directions if each.method == "shadow" and each.certain), None)
    if shadow is not None and scan.probe is None:
        text += f" It belongs to a sample before the focus (a positive defocus_nm){_defocus(scan, shadow.scale)}."
    return text + (
        f" {other} gives the complex conjugate of object and probe, fits as well, and belongs to the opposite sign of "
        "the defocus: only knowledge of the microscope decides between the two."
    )


def _defocus(scan: Scan, scale: float | None) -> str:
    """The defocus that the motion of the shadows tells, where wavelength and object pixel are known."""
    if scan.geometry is None or scan.pixel_m is None or scan.geometry.wavelength_m is None or not scale:
        return ""
    pixel = float(np.sqrt(scan.pixel_m[0] * scan.pixel_m[1]))
    metres = scan.size * pixel**2 / (scan.geometry.wavelength_m * scale)
    return f", by the motion of its shadow about {1e9 * metres:.3g} nm"
