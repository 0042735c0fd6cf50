"""Checks of the arrays of a scan: each returns the array in its final form or raises an InputError.

The error's ``where`` is ``"NAME: PART"``, with the scan's name and one of the parts below.
"""

from __future__ import annotations

from diptych.ptycho.validation.counts import (
    counts_array,
    counts_kept,
    counts_values,
    mask_array,
    refuse_sentinel,
    sentinel,
    unsigned,
    wrapped,
)
from diptych.ptycho.validation.parts import BACKGROUND, COUNTS, MASK, POSITIONS, PROBE, TRUTH
from diptych.ptycho.validation.places import (
    MAX_CANVAS_PIXELS,
    MAX_COORDINATE,
    canvas_origin,
    canvas_size,
    canvas_values,
    coordinates,
    positions_array,
    windows_inside,
)
from diptych.ptycho.validation.values import (
    PLAUSIBLE_EV,
    instance,
    numeric,
    particle,
    pixel_sides,
    plausible_energy,
    positive,
    whole,
)
from diptych.ptycho.validation.waves import (
    PROBE_POWER,
    background_array,
    not_negative,
    object_map,
    object_slices,
    probe_array,
)

__all__ = [
    "BACKGROUND",
    "COUNTS",
    "MASK",
    "MAX_CANVAS_PIXELS",
    "MAX_COORDINATE",
    "PLAUSIBLE_EV",
    "POSITIONS",
    "PROBE",
    "PROBE_POWER",
    "TRUTH",
    "background_array",
    "canvas_origin",
    "canvas_size",
    "canvas_values",
    "coordinates",
    "counts_array",
    "counts_kept",
    "counts_values",
    "instance",
    "mask_array",
    "not_negative",
    "numeric",
    "object_map",
    "object_slices",
    "particle",
    "pixel_sides",
    "plausible_energy",
    "positions_array",
    "positive",
    "probe_array",
    "refuse_sentinel",
    "sentinel",
    "unsigned",
    "whole",
    "windows_inside",
    "wrapped",
]
