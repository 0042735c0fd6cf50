"""4D-STEM scans as EMD (HDF5): py4DSTEM and emdfile (EMD 1.0), older py4DSTEM (EMD 0.x) and Prismatic's simulations.

A data cube (Rx, Ry, Qx, Qy) has the scan first. ``x`` of these programs is the first axis, rows: positions are
(y, x) = (Rx, Ry), patterns (y, x) = (Qx, Qy). ``dim0`` to ``dim3`` (``dim1`` to ``dim4`` in EMD 0.x) hold the
coordinates of each axis, or its first two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.geometry import Geometry
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import window_of
from diptych.ptycho.io.scans.raster import raster_positions
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.io.writers.emd import write_emd
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

_NAMES = ("data", "datacube")
_PRISMATIC = "4DSTEM_simulation"
_PARAMETERS = f"{_PRISMATIC}/metadata/metadata_0/original/simulation_parameters"
_NOMINAL_M = 1.0


@dataclass(frozen=True)
class _Axis:
    """Step of an axis, its first value, the unit as stored, and whether its negative half follows the positive one."""

    step: float
    first: float
    unit: str
    wrapped: bool = False


def cubes(source: TreeSource) -> list[str]:
    """Paths of the data cubes: arrays of four axes called ``data`` or ``datacube`` with an axis beside them."""
    found = []
    for path, header in source.walk():
        if isinstance(header, str) or len(header.shape) != 4 or path.rpartition("/")[2] not in _NAMES:
            continue
        group = path.rpartition("/")[0]
        if any(source.header(f"{group}/dim{number}") is not None for number in (0, 1)):
            found.append(path)
    return found


def read_emd(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in an EMD file, as stored. Of several cubes the last is read: of a simulation, the thickest sample.

    Raises
    ------
    InputError
        If patterns are not square, or units do not tell the step in object pixels.
    """
    found = cubes(source)
    key, where = found[-1], source.where
    header = source.header(key)
    assert header is not None
    rows, columns, height, width = header.shape
    said = [f"patterns read from {key} (Rx, Ry, Qx, Qy): x of the file is the first axis, rows"]
    if len(found) > 1:
        said.append(f"of {len(found)} data cubes the last is read; the others are {listed(found[:-1])}")
    axes = _axes(source, key.rpartition("/")[0], header.shape)
    prismatic = _PRISMATIC in source.names()
    if prismatic:
        axes = {number: replace(axis, unit="A" if number < 2 else "1/A") for number, axis in axes.items()}
        said.append("lengths read in angstroms, in which Prismatic computes, whatever the attribute says")
    geometry = _geometry(source, axes, options, prismatic, said)
    values = real_from(source, key)
    values = values.reshape(-1, height, width)
    # Axes that begin with 0 are the programs' default and say nothing of the beam; those of an FFT wrap.
    wrapped = all(number in axes and axes[number].wrapped for number in (2, 3))
    if wrapped:
        values = np.fft.fftshift(values, (-2, -1))
        said.append("zero frequency moved from pixel [0, 0] to the centre, as the axes state")
    window = window_of((height, width), options, (height // 2, width // 2) if wrapped else None, where, said)
    values = values if window.whole else np.ascontiguousarray(window.cut(values))
    placed = options.positions is None and options.scan_step is None and {0, 1} <= axes.keys()
    if not placed:
        y, x = raster_positions(options, (rows, columns), where, key, said)
    else:
        y, x = _positions(axes, (rows, columns), geometry, window.size, where, said)
    return RawScan(
        where=where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "EMD", "stored_domain": "counts"},
        said=said,
        sources={"patterns": key, "positions": f"{key.rpartition('/')[0]}/dim*"},
        order="patterns (Rx, Ry, Qx, Qy), the first of each pair is y",
        unit=axes[0].unit if placed else options.position_unit,
        placed=placed,
    )


def _axes(source: TreeSource, group: str, shape: tuple[int, ...]) -> dict[int, _Axis]:
    """Axes by their number, those whose step is stated."""
    first = 0 if source.header(f"{group}/dim0") is not None else 1
    axes = {}
    for number in range(4):
        path = f"{group}/dim{number + first}"
        if source.header(path) is None:
            continue
        values = np.ravel(real_from(source, path, "coordinates of an axis")).astype(np.float64)
        if values.size < 2 or not np.isfinite(values).all() or values[1] == values[0]:
            continue
        steps = np.diff(values)
        wrapped = bool(values.size > 2 and (np.sign(steps) != np.sign(steps[0])).sum() == 1)
        step = float(steps[0]) if wrapped else float((values[-1] - values[0]) / (values.size - 1))
        unit = str(source.attributes(path).get("units", "")).strip()
        axes[number] = _Axis(step if number < 2 else abs(step), float(values[0]), unit, wrapped)
    return axes


def _geometry(
    source: TreeSource, axes: dict[int, _Axis], options: LoadOptions, prismatic: bool, said: list[str]
) -> Geometry:
    """Energy as the options or Prismatic's parameters state it, and the pixel in reciprocal space as that of a detector
    at a nominal distance: only their ratio is known.
    """
    stated: dict[str, Any] = {"particle": options.particle or "electron"}
    if options.energy_eV is None and prismatic:
        energy = source.attributes(_PARAMETERS).get("E")
        if energy is not None:
            stated["energy_eV"] = float(energy) * 1e3
            said.append(f"energy read in keV from {_PARAMETERS}, E")
    geometry = geometry_of(options, source.where, **stated)
    frequencies = [_per_metre(axes[number].unit) if number in axes else None for number in (2, 3)]
    if geometry.wavelength_m is None or None in frequencies or options.detector_pixel_m or options.distance_m:
        return geometry
    pixel = tuple(
        axes[number].step * (scale or 0.0) * geometry.wavelength_m * _NOMINAL_M
        for number, scale in zip((2, 3), frequencies, strict=True)
    )
    said.append(
        f"pixels of {axes[2].step:.4g} {axes[2].unit} in reciprocal space as a detector pixel of {pixel[0]:.4g} m at a "
        f"nominal distance of {_NOMINAL_M:g} m: only their ratio is known"
    )
    return geometry_of(options, source.where, **stated, distance_m=_NOMINAL_M, detector_pixel_m=pixel)


def _per_metre(unit: str) -> float | None:
    """One over metres in one of a unit such as ``A^-1``, ``1/nm`` or ``[n_m^-1]``; None where it is no such unit."""
    bare = unit.strip("[] ").replace("_", "")
    for text in ("^-1", "**-1", "-1", "⁻¹"):
        bare = bare.removesuffix(text)
    if bare == unit.strip("[] ").replace("_", "") and not unit.startswith("1/"):
        return None
    scale = UNITS.get(unit_named(bare.removeprefix("1/")) or "px")
    return None if scale is None else 1.0 / scale


def _positions(
    axes: dict[int, _Axis], shape: tuple[int, int], geometry: Geometry, size: int, where: str, said: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates y and x of the raster in object pixels, from the steps of the first two axes."""
    scales = [UNITS.get(unit_named(axes[number].unit) or "px") for number in (0, 1)]
    pixel = geometry.object_pixel_m(size)
    if pixel is None and all(_per_metre(axes[n].unit) is not None if n in axes else False for n in (2, 3)):
        # The object pixel follows from the reciprocal one without the energy.
        pixel = tuple(1.0 / (size * axes[n].step * (_per_metre(axes[n].unit) or 1.0)) for n in (2, 3))  # type: ignore[assignment]
    if pixel is None or None in scales:
        units = ", ".join(axes[number].unit or "none" for number in sorted(axes))
        raise IncompleteError(
            where,
            f"the axes have the units {units}: the step in object pixels cannot be derived",
            "lengths for the scan and inverse lengths for the patterns, or the step",
            "Pass scan_step=... in object pixels (--scan-step).",
        )
    steps = [axes[number].step * (scale or 0.0) for number, scale in zip((0, 1), scales, strict=True)]
    said.append(
        f"positions: a raster with steps of {steps[0]:.4g} x {steps[1]:.4g} m from the axes, "
        f"an object pixel of {pixel[0]:.4g} x {pixel[1]:.4g} m; a scan rotation is not applied"
    )
    first = [axes[number].first * (scale or 0.0) for number, scale in zip((0, 1), scales, strict=True)]
    y, x = np.indices(shape, dtype=np.float64)
    return (first[0] + y.ravel() * steps[0]) / pixel[0], (first[1] + x.ravel() * steps[1]) / pixel[1]


def _matches(file: DataFile) -> bool:
    if file.kind != "hdf5":
        return False
    source = file.arrays
    roots = [name for name in source.names() if "emd_group_type" in _attributes(source, name)]
    known = {"authoring_program", "emd_version", "version_major"} & set(source.attributes())
    return bool(roots or known) and bool(cubes(source))


def _attributes(source: TreeSource, name: str) -> Any:
    try:
        return source.attributes(name)
    except InputError:
        return {}


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_emd(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="emd",
    help="4D-STEM scan as EMD (HDF5) of py4DSTEM, emdfile or Prismatic: a data cube (Rx, Ry, Qx, Qy) with its axes.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, "scan_step"),
    matches=_matches,
    read=_read,
    write=write_emd,
    suffixes=(".emd",),
)
