"""The illumination of results whose file holds none: from probe and positions, where these allow it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diptych.ptycho.physics.illumination import illumination
from diptych.ptycho.scan import Reconstruction

LEAST_INSIDE = 0.5
"""Share of the light that must fall on the object; less means that positions and object have different coordinates."""

UNKNOWN = "which pixels were illuminated is not known"


def with_illumination(result: Reconstruction) -> Reconstruction:
    """The result with its illumination: as it has it, else computed from its probe and positions.

    Without positions, or where most of the light would fall outside the object, it stays unknown and a flag says why.
    """
    if result.illumination is not None:
        return result
    if not len(result.positions):
        return replace(result, flags=(*result.flags, f"{UNKNOWN}: the file holds no positions"))
    light = illumination(result.probe, result.positions, result.object.origin, result.object.shape)
    whole = len(result.positions) * float((np.abs(result.probe.astype(np.complex128)) ** 2).sum())
    if float(light.sum(dtype=np.float64)) < LEAST_INSIDE * whole:
        flag = f"{UNKNOWN}: the positions lie outside the object; do object and positions have the same origin?"
        return replace(result, flags=(*result.flags, flag))
    return replace(result, illumination=light)
