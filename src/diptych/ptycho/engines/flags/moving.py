"""Whether positions may be refined: free positions can hide a wrong reading of the scan, so readings come first."""

from __future__ import annotations

import logging

import numpy as np

from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.readings import AS_GIVEN
from diptych.ptycho.engines.starts.joint import joint_trial
from diptych.ptycho.scan import Scan

log = logging.getLogger("diptych")

RIVALS = 2
"""Other readings that are tried with refined positions, where trials with the recorded ones leave it open."""

SHARE = 0.5
"""The scan as given must then have at most this share of the best rival's misfit (held-out fit - 1)."""


def misreading(scan: Scan, verdict: trials.Verdict, lost: bool = False) -> str:
    """Why positions must not be refined: another reading is right, or none is. An empty string where they may be.

    Parameters
    ----------
    scan : Scan
        As given.
    verdict : Verdict
        Of the trials of all readings, with the recorded positions. Where they single out the scan as given, that is
        enough; where they single out another reading, too. Otherwise wrong positions may be why, and the best readings
        are tried again, each with refined positions.
    lost : bool
        Whether nothing has worked: positions may then be anything, unless a reading stands out.
    """
    if lost:
        return f"reading '{verdict.best.name}' stands out" if verdict.right or verdict.distinct else ""
    if verdict.best is AS_GIVEN and not verdict.alike:
        return ""
    if verdict.best is not AS_GIVEN and verdict.distinct:
        return f"the patterns fit far better read with '{verdict.best.name}'"
    given = joint_trial(scan, trials.probe_of(scan))
    if not np.isfinite(given):
        return "no reading of the scan fits"
    for reading in verdict.others[:RIVALS]:
        other = reading.apply(scan)
        rival = joint_trial(other, trials.probe_of(other))
        log.info("joint trials: held-out fit %.3g as given, %.3g with '%s'", given, rival, reading.name)
        if given - 1 > SHARE * (rival - 1):
            return f"the scan as given fits hardly better than with '{reading.name}', even with refined positions"
    return ""
