"""Flags about the data themselves: no overlap, too few measurements, too few photons. All in closed form."""

from __future__ import annotations

import math

from diptych.ptycho.engines.flags.base import FEW_PHOTONS, NO_OVERLAP, ONE_PATTERN, OVER_FITTING, Flag
from diptych.ptycho.engines.flags.evidence import Evidence

MOST_ALONE = 0.5
"""No overlap is flagged where more than this share of the light falls on object pixels that one position sees."""

MOST_USED = 0.4
"""Over-fitting is flagged where more than this share of what was measured went into fitting noise."""

LEAST_RATIO = 1.0
"""Over-fitting is flagged where there are fewer pixels with counts for each unknown."""

LEAST_PHOTONS = 4.0
"""Photons for each unknown below which a note says what error to expect."""


def data_flags(evidence: Evidence) -> list[Flag]:
    """Flags that follow from the numbers of patterns, photons, pixels and unknowns."""
    flags = []
    if evidence.patterns == 1:
        flags.append(
            Flag(
                ONE_PATTERN,
                "object and probe cannot be told apart without overlapping positions. Scan more positions, or use a "
                "known probe (--probe fixed).",
            )
        )
    elif evidence.alone > MOST_ALONE:
        flags.append(
            Flag(
                NO_OVERLAP,
                f"{evidence.alone:.0%} of the light falls on object pixels that a single position illuminates. Check "
                "the units of the positions (object pixels) and the size of the probe; neighbouring positions should "
                "share more than half of the probe.",
            )
        )
    if (text := _over_fitting(evidence)) and evidence.photons >= LEAST_PHOTONS * evidence.unknowns:
        flags.append(Flag(OVER_FITTING, text))
    if evidence.photons < LEAST_PHOTONS * evidence.unknowns:
        flags.append(Flag(FEW_PHOTONS, _few_photons(evidence)))
    return flags


def _over_fitting(evidence: Evidence) -> str:
    ratio = evidence.counted / max(evidence.unknowns, 1)
    if ratio >= LEAST_RATIO and not evidence.used > MOST_USED:
        return ""
    text = f"{evidence.unknowns} unknowns against {evidence.counted} pixels with counts"
    if not math.isnan(evidence.held_out):
        text += f"; fit {evidence.fit:.2f} at fitted, {evidence.held_out:.2f} at held-out pixels"
    return text + ". Details may be fitted noise: add patterns or overlap, or hold the probe fixed (--probe fixed)."


def _few_photons(evidence: Evidence) -> str:
    each = evidence.photons / max(evidence.unknowns, 1)
    return (
        f"{evidence.photons:.3g} photons for {evidence.unknowns} unknowns ({each:.2g} each): noise limits the image to "
        "coarse details. Add exposure or patterns, or average in the figure; no option of the engine adds information."
    )
