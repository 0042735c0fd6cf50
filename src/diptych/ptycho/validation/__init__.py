"""Checks of the arrays of a scan: each returns the array in its final form or raises an InputError.

The error's ``where`` is ``"NAME: PART"``, with the scan's name and one of the parts below.
"""

from __future__ import annotations

from diptych.ptycho.validation.counts import (
    counts_array,
    counts_kept,
    counts_values,
    dark_noise,
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
    alike,
    canvas_origin,
    canvas_size,
    canvas_values,
    coordinates,
    positions_array,
    truth_covers,
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
    one_per_pattern,
    probe_array,
    varying_probe,
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
    "alike",
    "background_array",
    "canvas_origin",
    "canvas_size",
    "canvas_values",
    "coordinates",
    "counts_array",
    "counts_kept",
    "counts_values",
    "dark_noise",
    "instance",
    "mask_array",
    "not_negative",
    "numeric",
    "object_map",
    "object_slices",
    "one_per_pattern",
    "particle",
    "pixel_sides",
    "plausible_energy",
    "positions_array",
    "positive",
    "probe_array",
    "refuse_sentinel",
    "sentinel",
    "truth_covers",
    "unsigned",
    "whole",
    "windows_inside",
    "wrapped",
    "varying_probe",
]
