"""What the user states about a file against what its format says: unit of the positions, meaning of the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.positions.table import UNITS, unit_named

if TYPE_CHECKING:
    from diptych.ptycho.io.raw import RawScan

_LOOKED_AT = 16
"""Patterns by which a mask is judged."""


def as_stated(raw: RawScan, options: LoadOptions) -> RawScan:
    """``raw`` with its positions in the unit and its mask in the meaning that the options state.

    Raises
    ------
    InputError
        If the unit cannot be applied, or the mask marks most pixels and most counts as bad and nothing is stated.
    """
    if options.positions is None and options.position_unit != "px" and raw.placed and raw.unit != "px":
        raw = _in_unit(raw, options.position_unit)
    if raw.mask is None or not raw.mask_means:
        return raw
    if options.mask_means == "auto":
        _refuse_inverted(raw, raw.mask)
    elif options.mask_means != raw.mask_means:
        said = f"mask inverted: values other than 0 mean {options.mask_means}, as given, not {raw.mask_means}"
        raw = replace(raw, mask=~raw.mask, mask_means=options.mask_means, said=[*raw.said, said])
    return raw


def _in_unit(raw: RawScan, unit: str) -> RawScan:
    """Positions that were converted from the unit of the format, converted from ``unit`` instead."""
    assumed = UNITS.get(unit_named(raw.unit) or "px")
    stated = UNITS.get(unit)
    if assumed is None or stated is None:
        raise InputError(raw.where, f"its positions are in {raw.unit}", "no --position-unit", "Omit it.")
    if assumed == stated:
        return raw
    factor = stated / assumed
    said = f"positions read in {unit}, as given, not in {raw.unit}"
    return replace(raw, y=raw.y * factor, x=raw.x * factor, unit=unit, said=[*raw.said, said])


def _refuse_inverted(raw: RawScan, mask: NDArray[np.bool_]) -> None:
    """Raise where the mask takes away most pixels and, with them, most counts: then it means the opposite."""
    if mask.mean() > 0.5 or not mask.any():
        # Where nothing is valid, the checks of a scan say so.
        return
    total = kept = 0.0
    for number in range(0, len(raw.values), max(1, -(-len(raw.values) // _LOOKED_AT))):
        counts = _plausible(raw.values[number])
        total += float(counts.sum())
        kept += float(counts[mask[number] if mask.ndim == 3 else mask].sum())
    if total > 0 and kept < 0.5 * total:
        source = raw.sources.get("mask", "mask")
        raise IncompleteError(
            f"{raw.where}: {source}",
            f"marks {1 - float(mask.mean()):.0%} of the pixels as bad, and they hold {1 - kept / total:.0%} of the "
            f"counts (values other than 0 are read as {raw.mask_means})",
            "bad pixels that are few or dark",
            "Pass --mask-means valid or --mask-means bad to say what values other than 0 mean.",
        )


def _plausible(frame: NDArray[Any]) -> NDArray[np.float64]:
    """Counts of a frame, 0 where a value is no number of photons."""
    values = frame.astype(np.float64)
    usable = np.isfinite(values) & (values > 0)
    if frame.dtype.kind in "iu" and frame.dtype.itemsize > 1:
        usable &= values < np.iinfo(frame.dtype.str).max
    return np.where(usable, values, 0.0)
