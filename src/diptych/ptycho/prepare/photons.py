"""A scan in photons: counts of other units divided by their gain, so that every constant of an engine means photons."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from diptych.ptycho.physics.gain import Gain, estimated_gain
from diptych.ptycho.prepare.clean import Cleaned, clean
from diptych.ptycho.scan import Scan


def in_photons(scan: Scan) -> tuple[Scan, Gain]:
    """The scan with counts, background and a calibrated probe in photons, and the gain they were divided by.

    The scan itself where the gain is 1. ``scan.scale`` states the gain (its inverse); without it
    :func:`~diptych.ptycho.physics.gain.estimated_gain` finds it, except where read noise is stated: then it is 1.
    """
    if scan.scale is None and scan.read_noise is not None:
        gain = Gain()
    elif scan.scale is None:
        gain = estimated_gain(scan.counts, scan.mask)
    else:
        gain = Gain(1 / scan.scale, "" if scan.scale == 1 else "as the scan states")
    if gain.value == 1:
        return scan, gain
    counts = np.empty(scan.counts.shape, np.float32)
    for start in range(0, len(scan), 64):
        part = scan.counts[start : start + 64] / np.float64(gain.value)
        counts[start : start + 64] = np.rint(part) if gain.unit else part
    root = np.sqrt(gain.value)
    return replace(
        scan,
        counts=counts,
        background=None if scan.background is None else (scan.background / gain.value).astype(np.float32),
        probe=scan.probe / root if scan.probe is not None and scan.probe_calibrated else scan.probe,
        scale=1.0,
        read_noise=None if scan.read_noise is None else scan.read_noise / gain.value,
    ), gain


def gain_flag(gain: Gain, declared: bool) -> tuple[str, ...]:
    """What a result in other units than photons says; nothing where the scan states its scale."""
    if declared or gain.value == 1:
        return ()
    return (
        f"counts are not photons: gain g = {gain.value:.3g} counts per photon ({gain.source}). They were divided by "
        f"it; state the scale (photons per count, Scan(scale={1 / gain.value:.3g}), --scale) where you know it better.",
    )


def usable(
    scan: Scan,
    *,
    bad_frames: Literal["auto", "keep"] = "auto",
    auto_mask: bool = False,
    saturated: Literal["auto", "keep", "limit"] = "auto",
) -> Cleaned:
    """The scan without what no sample explains (:func:`~diptych.ptycho.prepare.clean.clean`), in photons.

    ``flags`` say what was changed, of both.
    """
    cleaned = clean(scan, bad_frames=bad_frames, auto_mask=auto_mask, saturated=saturated)
    found, gain = in_photons(cleaned.scan)
    return replace(cleaned, scan=found, flags=(*cleaned.flags, *gain_flag(gain, scan.scale is not None)))
