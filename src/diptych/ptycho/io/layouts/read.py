"""Reading a file by a layout."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import probe_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.layouts.layout import Layout
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import (
    ENERGY_UNITS,
    geometry_of,
    photon_energy_eV,
    positions_in_pixels,
    wavelength_energy_eV,
)
from diptych.ptycho.io.positions.table import UNITS
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import Window, read_frames, shape_of, window_of
from diptych.ptycho.io.scans.raster import raster_positions, sequence_positions
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.scan import Geometry, Scan


def expanded(source: TreeSource, path: str) -> list[str]:
    """The datasets that a path stands for: itself, or with ``*`` in its last part all of that group, in order."""
    path = path.strip("/")
    folder, _, last = path.rpartition("/")
    if "*" not in last:
        return [path]
    group = source.group(folder) if folder else source
    names = [] if group is None else sorted(fnmatch.filter(group.names(), last), key=_numbered)
    found = [f"{folder}/{name}" if folder else name for name in names]
    if not found:
        raise InputError(f"{source.where}: {path!r}", "no dataset has such a name", _available(source))
    return found


def _numbered(name: str) -> tuple[str, int, str]:
    digits = "".join(letter for letter in name[::-1][: len(name) - len(name.rstrip("0123456789"))][::-1])
    return name.rstrip("0123456789"), int(digits) if digits else -1, name


def read_layout(file: DataFile, layout: Layout, options: LoadOptions) -> Scan:
    """The scan in ``file``, read as ``layout`` says; options that are given count more.

    Raises
    ------
    InputError
        If a path leads nowhere, shapes disagree, or a unit needs a geometry that is not stated.
    """
    raw = stored(file.arrays, layout, options, file.path.stem)
    changes: dict[str, Any] = {}
    if layout.mask_invalid:
        changes["mask_invalid"] = True
    if layout.corner_centred:
        changes["corner_centred"] = True
    if layout.orientation and not options.orientation:
        changes["orientation"] = layout.orientation
    if layout.saturation and options.saturation is None:
        changes["saturation"] = layout.saturation
    return finish(raw, options.with_changes(**changes))


def stored(source: TreeSource, layout: Layout, options: LoadOptions, name: str) -> RawScan:
    """The scan as stored, in the axes of a scan."""
    options = _with(options, layout)
    said: list[str] = [f"read by the layout {layout.name}"]
    sources: dict[str, str] = {"patterns": layout.patterns}
    geometry = _geometry(source, layout, options, said, sources)
    where = source.where
    values, raster, window = _patterns(source, layout, options, said)
    if options.positions is None and layout.position_paths and options.scan_step is None:
        sources["positions"] = layout.positions or ""
        y, x = _positions(source, layout, geometry, len(values), window.size, said)
    elif raster is not None:
        y, x = raster_positions(options, raster, where, layout.patterns, said)
    else:
        y, x = sequence_positions(options, len(values), where, layout.patterns, said)
    raw = RawScan(
        where=where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain=layout.domain if options.domain == "auto" else options.domain,
        scale=layout.scale if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": layout.name, "stored_domain": layout.domain},
        said=said,
        sources=sources,
        order=f"patterns {layout.axes}, positions {layout.position_order}",
        unit=layout.position_unit,
        signs=(layout.sign_y, layout.sign_x),
        placed="positions" in sources,
    )
    return _with_extras(raw, source, layout, window, options)


def _with(options: LoadOptions, layout: Layout) -> LoadOptions:
    """The options, with centre, crop and particle of the layout where they are not given."""
    changes = {
        key: getattr(layout, key)
        for key in ("frame_size", "centre_y", "centre_x")
        if getattr(options, key) is None and getattr(layout, key) is not None
    }
    if options.particle is None and layout.particle != "photon":
        changes["particle"] = layout.particle
    return options.with_changes(**changes) if changes else options


def _patterns(
    source: TreeSource, layout: Layout, options: LoadOptions, said: list[str]
) -> tuple[NDArray[Any], tuple[int, int] | None, Window]:
    """Patterns (M, N, N), the raster (rows, columns) where the axes state one, and what was cut from each frame."""
    keys = expanded(source, layout.patterns)
    for key in keys:
        _needed(source, key, "patterns")
    if layout.axes == "MYX":
        _, full, _ = shape_of(source, keys)
        window = window_of(full, options, None, source.where, said)
        return read_frames(source, keys, window), None, window
    if len(keys) > 1:
        raise InputError(f"{source.where}: {layout.patterns}", f"is {len(keys)} datasets", "axes MYX for several")
    array = real_from(source, keys[0])
    if array.ndim != len(layout.axes):
        raise InputError(
            f"{source.where}: {keys[0]}", f"has shape {array.shape}", f"{len(layout.axes)} axes ({layout.axes})"
        )
    wanted = "MYX" if "M" in layout.axes else "RCYX"
    array = np.moveaxis(array, [layout.axes.index(axis) for axis in wanted], range(len(wanted)))
    if layout.axes != wanted:
        said.append(f"axes of the patterns moved from {layout.axes} to {wanted}")
    raster = None if "M" in wanted else (int(array.shape[0]), int(array.shape[1]))
    array = array.reshape(-1, *array.shape[-2:])
    window = window_of((int(array.shape[-2]), int(array.shape[-1])), options, None, source.where, said)
    return np.ascontiguousarray(window.cut(array)), raster, window


def _needed(source: TreeSource, path: str, what: str) -> None:
    if source.header(path) is None:
        raise InputError(f"{source.where}: {path!r}", "there is no dataset", f"the {what}; {_available(source)}")


def _available(source: TreeSource) -> str:
    return f"one of {listed(name for name, header in source.walk() if not isinstance(header, str))}"


def _positions(
    source: TreeSource, layout: Layout, geometry: Geometry, count: int, size: int, said: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    paths = layout.position_paths
    for path in paths:
        _needed(source, path, "positions")
    arrays = [np.squeeze(real_from(source, path, "positions")).astype(np.float64) for path in paths]
    if len(arrays) == 1 and arrays[0].ndim == 2 and min(arrays[0].shape) in (2, 3):
        table = arrays[0] if arrays[0].shape[0] == count else arrays[0].T
        first, second = table[:, 0], table[:, 1]
        y, x = (first, second) if layout.position_order == "yx" else (second, first)
    elif len(arrays) == 2:
        y, x = arrays[0].ravel(), arrays[1].ravel()
        if y.size * x.size == count and not y.size == x.size == count:
            y, x = (line.ravel() for line in np.meshgrid(y, x, indexing="ij"))
            said.append("y and x are the axes of a raster, x fastest")
    else:
        y = x = np.empty(0)
    if not y.size == x.size == count:
        raise InputError(
            f"{source.where}: {layout.positions}",
            f"has shape {', '.join(str(array.shape) for array in arrays)}, and there are {count} patterns",
            "one position (y, x) of each, or the axes of the raster",
        )
    said.append(f"positions read from {layout.positions} in {layout.position_unit}")
    y, x = layout.sign_y * y, layout.sign_x * x
    if layout.sign_y < 0 or layout.sign_x < 0:
        said.append(f"signs of y and x ({layout.sign_y:+d}, {layout.sign_x:+d}) as the layout states")
    scale = UNITS[layout.position_unit]
    if scale is None:
        if 0 < (span := max(float(np.ptp(y)), float(np.ptp(x)))) < 0.01:
            raise InputError(
                f"{source.where}: {layout.positions}",
                f"all {count} positions lie within {span:.3g} object pixels, so they look like metres",
                "position_unit in the layout, for instance: position_unit: m",
            )
        return y, x
    y, x, converted = positions_in_pixels(y * scale, x * scale, geometry, size, source.where)
    said.append(converted)
    return y, x


def _geometry(
    source: TreeSource, layout: Layout, options: LoadOptions, said: list[str], sources: dict[str, str]
) -> Geometry:
    def number(value: str | float | None, what: str) -> float | None:
        if value is None or isinstance(value, int | float):
            return value
        path = value.strip("/")
        place, _, attribute = path.partition("@")
        if attribute:
            found = _attribute(source, place.strip("/"), attribute, what)
        else:
            _needed(source, path, what)
            found = np.ravel(real_from(source, path, what)).astype(np.float64)
        if found.size == 0:
            raise InputError(f"{source.where}: {path}", "is empty", what)
        sources[what] = path
        said.append(f"{what} read from {path}")
        return float(found[0])

    stated: dict[str, Any] = {"particle": layout.particle}
    if options.energy_eV is None and (energy := number(layout.energy, "energy")) is not None:
        if layout.energy_unit not in ENERGY_UNITS:
            stated["energy_eV"] = wavelength_energy_eV(energy * (UNITS[layout.energy_unit] or 1.0))
            said.append(f"energy derived from the wavelength in {layout.energy_unit}")
        elif layout.particle == "electron":
            stated["energy_eV"] = energy * ENERGY_UNITS[layout.energy_unit]
        else:
            where = f"{source.where}: {layout.energy}"
            stated["energy_eV"], _ = photon_energy_eV(energy, layout.energy_unit, where)
    if (distance := number(layout.distance, "distance")) is not None:
        stated["distance_m"] = distance * (UNITS[layout.distance_unit] or 1.0)
    sides = [number(layout.pixel_y, "detector pixel"), number(layout.pixel_x, "detector pixel")]
    if any(side is not None for side in sides):
        height = sides[0] if sides[0] is not None else sides[1]
        width = sides[1] if sides[1] is not None else sides[0]
        scale = UNITS[layout.pixel_unit] or 1.0
        stated["detector_pixel_m"] = ((height or 0.0) * scale, (width or 0.0) * scale)
    return geometry_of(options, source.where, **stated)


def _attribute(source: TreeSource, place: str, name: str, what: str) -> NDArray[np.float64]:
    """The numbers of the attribute ``name`` of the array or group at ``place``."""
    known = source.attributes(place)
    if name not in known:
        raise InputError(
            f"{source.where}: {place or '/'}", f"has no attribute {name!r}", f"the {what}; one of {listed(known)}"
        )
    try:
        return np.ravel(np.asarray(known[name], np.float64))
    except (TypeError, ValueError):
        raise InputError(f"{source.where}: {place or '/'}@{name}", f"is {known[name]!r}", f"a number: {what}") from None


def _with_extras(raw: RawScan, source: TreeSource, layout: Layout, window: Window, options: LoadOptions) -> RawScan:
    """Mask, dark frame, probe and numbers of the frames."""

    def frame(path: str, what: str) -> NDArray[Any]:
        _needed(source, path, what)
        stored = np.squeeze(source.read(path))
        raw.sources[what] = path
        raw.said.append(f"{what} read from {path}")
        if stored.shape[-2:] == window.full and stored.ndim in (2, 3):
            return window.cut(stored)
        raise InputError(f"{source.where}: {path}", f"has shape {stored.shape}", f"that of a frame, {window.full}")

    mask = dark = probe = numbers = None
    if layout.mask is not None:
        found = frame(layout.mask.strip("/"), "mask")
        mask = found == 0 if layout.mask_means == "bad" else found != 0
        raw.said.append(f"in the mask, values other than 0 are {layout.mask_means}")
    if layout.dark is not None:
        found = frame(layout.dark.strip("/"), "background")
        dark = np.asarray(found.mean(0) if found.ndim == 3 else found, np.float32)
    if layout.probe is not None and options.use_probe:
        path = layout.probe.strip("/")
        _needed(source, path, "probe")
        probe = probe_from(source, path)
        raw.sources["probe"] = path
        raw.said.append(f"initial probe read from {path}")
    if layout.frames is not None:
        path = layout.frames.strip("/")
        _needed(source, path, "numbers of the frames")
        numbers = np.ravel(real_from(source, path)).astype(np.int64)
        if len(numbers) != len(raw.values):
            raise InputError(
                f"{source.where}: {path}", f"has {len(numbers)} numbers", f"{len(raw.values)}, one of each pattern"
            )
    return replace(raw, mask=mask, mask_means=layout.mask_means, background=dark, probe=probe, numbers=numbers)
