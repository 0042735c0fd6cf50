"""Joining patterns and positions of different files, by the numbers of the frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import positions_in_pixels
from diptych.ptycho.io.positions.read import read_positions
from diptych.ptycho.io.positions.table import UNITS, Table
from diptych.ptycho.scan import Geometry

if TYPE_CHECKING:
    from diptych.ptycho.io.raw import RawScan

_MOST_LISTED = 12


def joined(raw: RawScan, options: LoadOptions) -> RawScan:
    """``raw`` with the positions that ``options.positions`` names, and the probe beside them where it fits.

    Frames are numbered from 0 unless the format numbers them. A frame with several positions gets their mean, as
    programs that average repeated readings do; frames without a position are left out, and listed in ``said``.

    Raises
    ------
    InputError
        If the file holds no positions, no frame has one, or unnumbered positions are not as many as the frames.
    """
    assert options.positions is not None
    table = read_positions(options.positions)
    frames = np.arange(len(raw.values)) + raw.first if raw.numbers is None else raw.numbers
    y, x, keep, said = _matched(table, frames, raw.where)
    unit = options.position_unit if options.position_unit != "px" else table.unit
    values, mask = raw.values, raw.mask
    if not keep.all():
        values = values[keep]
        mask = mask[keep] if mask is not None and mask.ndim == 3 else mask
    said = [*raw.said, table.said, *said]
    scale = UNITS.get(unit or "px")
    if scale is not None:
        size = int(values.shape[-1])
        y, x, converted = positions_in_pixels(y * scale, x * scale, raw.geometry or Geometry(), size, raw.where)
        said += [f"positions are in {unit}", converted]
    probe = raw.probe
    if probe is None and options.use_probe and table.probe is not None:
        fits = table.probe.shape[-2:] == values.shape[-2:]
        probe = table.probe if fits else None
        said.append(
            f"initial probe read from {Path(table.where).name}"
            if fits
            else f"the probe in {Path(table.where).name} is not used: it does not have the size of the patterns"
        )
    numbers = frames[keep]
    return replace(raw, values=values, mask=mask, y=y, x=x, probe=probe, said=said, numbers=numbers)


def unplaced(count: int) -> NDArray[np.float64]:
    """Coordinates (M,) of patterns whose positions come from another file."""
    return np.full(count, np.nan)


def _matched(
    table: Table, frames: NDArray[Any], where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Coordinates of the frames that have some, which these are (M,), and what could not be joined."""
    if table.numbers is None:
        if len(table.y) != len(frames):
            raise InputError(
                table.where,
                f"holds {len(table.y)} positions, and {where} {len(frames)} patterns",
                "as many, or a column with the number of the frame",
            )
        return table.y, table.x, np.ones(len(frames), bool), []
    if len(table.numbers) != len(table.y):
        raise InputError(table.where, f"numbers {len(table.numbers)} of {len(table.y)} positions", "a number for each")
    known, place = np.unique(table.numbers, return_inverse=True)
    times = np.bincount(place)
    means = [np.bincount(place, line) / times for line in (table.y, table.x)]
    keep = np.isin(frames, known)
    if not keep.any():
        raise InputError(
            table.where,
            f"numbers its positions {known.min()} to {known.max()}, and the frames of {where} are {frames.min()} to "
            f"{frames.max()}",
            "positions of the same frames",
        )
    found = np.searchsorted(known, frames[keep])
    said = []
    if (repeated := int((times[found] > 1).sum())) > 0:
        said.append(f"{repeated} frames have several positions, their mean is used")
    said += _listed("patterns without a position, left out", frames[~keep])
    said += _listed("positions without a pattern, not used", known[~np.isin(known, frames)])
    return means[0][found], means[1][found], keep, said


def _listed(what: str, numbers: NDArray[Any]) -> list[str]:
    if not len(numbers):
        return []
    shown = ", ".join(str(number) for number in numbers[:_MOST_LISTED])
    return [f"{len(numbers)} {what}: frame {shown}{', ...' if len(numbers) > _MOST_LISTED else ''}"]
