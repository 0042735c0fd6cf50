"""Parts of NeXus files (NXptycho, PtyREX, Diamond): lengths with units, and positions as separate ``x`` and ``y``.

``x`` and ``y`` stand beside the patterns, one number for each pattern, or one for each column and each row of a raster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.source import TreeSource


def lengths_m(source: TreeSource, path: str, said: list[str]) -> NDArray[np.float64]:
    """The numbers at ``path`` in metres, by the attribute ``units``; without one they are metres.

    Raises
    ------
    InputError
        If the unit is stated and is no length.
    """
    values = real_from(source, path, "lengths").astype(np.float64)
    stated = source.attributes(path).get("units")
    if stated in (None, ""):
        return values
    scale = UNITS.get(unit_named(stated) or "px")
    if scale is None:
        raise InputError(f"{source.where}: {path}", f"has the unit {stated!r}", "a length: m, mm, um, nm")
    if scale != 1.0:
        said.append(f"{path} converted from {stated} to m")
    return values * scale


def one_number(source: TreeSource, path: str, values: NDArray[np.float64], said: list[str]) -> float:
    """The number at ``path``; of one for each frame, the median, where they agree to 1e-3.

    Raises
    ------
    InputError
        If there is none, or they differ.
    """
    found = np.ravel(values)
    found = found[np.isfinite(found)]
    if not found.size or np.ptp(found) > 1e-3 * abs(float(np.median(found))):
        span = f" and values from {found.min():.6g} to {found.max():.6g}" if found.size else ""
        text = f"has shape {values.shape}{span}"
        raise InputError(f"{source.where}: {path}", text, "one number, or the same for each frame")
    if found.size > 1:
        said.append(f"{path} holds {found.size} numbers that agree; their median is read")
    return float(np.median(found))


def wavelength_m(source: TreeSource, path: str, said: list[str]) -> float:
    """The wavelength at ``path`` in metres, by its ``units``; without them, numbers above 1e-6 are angstroms."""
    values = lengths_m(source, path, said)
    value = one_number(source, path, values, said)
    if source.attributes(path).get("units") in (None, "") and value > 1e-6:
        said.append(f"{path} states no unit: {value:.6g} is read in angstroms, as NeXus prescribes")
        return value * 1e-10
    return value


def axes_beside(source: TreeSource, patterns: str) -> tuple[str, str] | None:
    """Paths of ``y`` and ``x`` in the group of the patterns; None where they are not both there."""
    group = patterns.rpartition("/")[0]
    paths = f"{group}/y", f"{group}/x"
    return paths if all(source.header(path) is not None for path in paths) else None


def positions_m(
    source: TreeSource, axes: tuple[str, str], scan_shape: tuple[int, ...], said: list[str]
) -> NDArray[np.float64]:
    """Positions (M, 3), (x, y, 0) in metres, from the datasets ``axes`` (y, x) of patterns that were taken in
    ``scan_shape``, (M,) or (rows, columns).

    Raises
    ------
    InputError
        If they are neither one for each pattern nor the axes of the raster.
    """
    y, x = (np.squeeze(lengths_m(source, path, said)) for path in axes)
    count = int(np.prod(scan_shape))
    if y.size == x.size == count:
        y, x = y.ravel(), x.ravel()
    elif (y.size, x.size) == scan_shape or (len(scan_shape) == 1 and y.size * x.size == count):
        y, x = (line.ravel() for line in np.meshgrid(y.ravel(), x.ravel(), indexing="ij"))
        said.append("y and x are the axes of a raster, x fastest")
    else:
        raise InputError(
            source.where,
            f"{axes[0]} has {y.size} numbers, {axes[1]} {x.size}, and there are {count} patterns",
            "one of each for each pattern, or the axes of the raster",
        )
    said.append(f"positions read from {axes[0]} and {axes[1]}")
    return np.stack([x, y, np.zeros(count)], axis=1)
