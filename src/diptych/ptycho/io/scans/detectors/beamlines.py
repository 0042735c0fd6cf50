"""Frames of beamlines in layouts of their own: NanoMAX (MAX IV), cSAXS (eh5), Data Exchange (APS)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import first_from, real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, photon_energy_eV, positions_in_pixels
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import raster_of, read_frames, shape_of, window_of
from diptych.ptycho.io.scans.raster import sequence_positions
from diptych.ptycho.io.source import Entry, TreeSource, chosen_entry, entries
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

_MEASUREMENT = "entry/measurement"
_STAGES = tuple(
    (f"{_MEASUREMENT}/{y}", f"{_MEASUREMENT}/{x}")
    for y, x in (
        *((f"{group}/y", f"{group}/x") for group in ("pseudo", "npoint_buff", "npoint", "positions")),
        ("samy", "samx"),
        ("sy", "sx"),
    )
)
"""Where positions (y, x) in um lie, by the age of the beamline's software."""
_ENERGIES = ("entry/snapshots/pre_scan/energy", "entry/snapshot/energy", "entry/snapshots/post_scan/energy")
_DETECTORS = ("eiger4m", "eiger1m", "eiger500k", "eiger", "pilatus", "pilatus1m", "merlin", "andor")
_PLAIN = ("eh5/images", "exchange/data")


def nanomax_frames(source: TreeSource) -> list[str]:
    """Paths of the frames, ``entry/measurement/<detector>/frames``; area detectors that are known come first."""
    group = source.group(_MEASUREMENT)
    if group is None:
        return []
    names = [name for name in _DETECTORS if name in group.names()]
    names += sorted(set(group.names()) - set(names))
    found = []
    for name in names:
        try:
            inner = group.group(name)
        except InputError:
            # Another detector of the beamline, whose file is not here.
            continue
        keys = () if inner is None else [key for key in ("frames", "data") if key in inner.names()]
        found += [f"{_MEASUREMENT}/{name}/{key}" for key in keys[:1]]
    return found


def read_nanomax(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a file of NanoMAX, as stored: frames, and positions of the pseudo motors in um.

    Raises
    ------
    InputError
        If the file of the detector is missing, or distance and pixel, which the file does not state, are not given.
    """
    found = nanomax_frames(source)
    if not found:
        raise InputError(
            source.where, "is a NanoMAX file without frames of a detector", f"{_MEASUREMENT}/<detector>/frames"
        )
    key = found[0]
    count, full, _ = shape_of(source, [key])
    said, sources = [f"patterns read from {key}"], {"patterns": key}
    if len(found) > 1:
        said.append(f"of {len(found)} detectors the first is read; the others are {', '.join(found[1:])}")
    stated: dict[str, Any] = {}
    energy = next((path for path in _ENERGIES if source.header(path) is not None), None)
    if options.energy_eV is None and energy is not None:
        value = first_from(source, energy, "an energy")
        stated["energy_eV"], how = photon_energy_eV(value, "eV", f"{source.where}: {energy}")
        said.append(how)
        sources["energy"] = energy
    geometry = geometry_of(options, source.where, **stated)
    window = window_of(full, options, None, source.where, said)
    stages = (pair for pair in _STAGES if all(source.header(path) is not None for path in pair))
    elsewhere = options.positions is not None or options.scan_step is not None
    stage = None if elsewhere else next(stages, None)
    placed = stage is not None
    if stage is not None:
        y, x = (np.ravel(real_from(source, path, "positions in um")).astype(np.float64) for path in stage)
        if not len(y) == len(x) == count:
            raise InputError(source.where, f"{key} has {count} frames and {stage[0]} {len(y)} numbers", "as many")
        y, x, converted = positions_in_pixels(y * 1e-6, x * 1e-6, geometry, window.size, source.where)
        said += [f"positions read from {stage[0]} and {stage[1]} in um", converted]
        sources["positions"] = ", ".join(stage)
    else:
        y, x = sequence_positions(options, count, source.where, key, said, raster_of(source, [key]))
    return RawScan(
        where=source.where,
        name=name,
        values=read_frames(source, [key], window),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "NanoMAX", "stored_domain": "counts"},
        said=said,
        sources=sources,
        order="patterns (frame, y, x), positions y and x separate",
        unit="um" if placed else options.position_unit,
        placed=placed,
    )


def read_plain(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """Frames at ``eh5/images`` (cSAXS) or ``exchange/data`` (Data Exchange), as stored; positions from elsewhere.

    Raises
    ------
    InputError
        If no positions are given, or the frames are not square and the centre is not given.
    """
    key = next(key for key in _PLAIN if source.header(key) is not None)
    count, full, _ = shape_of(source, [key])
    said = [f"patterns read from {key}"]
    window = window_of(full, options, None, source.where, said)
    y, x = sequence_positions(options, count, source.where, key, said, raster_of(source, [key]))
    stated: dict[str, Any] = {}
    sources = {"patterns": key}
    if options.energy_eV is None and source.header("measurement/instrument/monochromator/energy") is not None:
        path = "measurement/instrument/monochromator/energy"
        unit = source.attributes(path).get("units")
        stated["energy_eV"], how = photon_energy_eV(scalar_from(source, path), unit, f"{source.where}: {path}")
        said.append(how)
        sources["energy"] = path
    return RawScan(
        where=source.where,
        name=name,
        values=read_frames(source, [key], window),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, source.where, **stated),
        metadata={"layout": "frames", "stored_domain": "counts"},
        said=said,
        sources=sources,
        order="patterns (frame, y, x)",
        unit=options.position_unit,
    )


def _nanomax_entries(file: DataFile) -> list[Entry]:
    """Entries with frames, each under the name ``entry``."""
    found = entries(file.arrays, "entry") if file.kind == "hdf5" else ()
    return [entry for entry in found if nanomax_frames(entry)]


def _is_nanomax(file: DataFile) -> bool:
    return bool(_nanomax_entries(file))


def _is_plain(file: DataFile) -> bool:
    return file.kind == "hdf5" and any(file.arrays.header(key) is not None for key in _PLAIN)


def _nanomax(file: DataFile, options: LoadOptions) -> Scan:
    said: list[str] = []
    entry = chosen_entry(_nanomax_entries(file), options.entry, str(file.path), said)
    with entry.naming():
        raw = read_nanomax(entry, options, file.path.stem)
    sources = {part: entry.told(path) for part, path in raw.sources.items()}
    read = replace(raw, said=[*said, *map(entry.told, raw.said)], sources=sources)
    return finish(read, options.with_changes(mask_invalid=True))


def _plain(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_plain(file.arrays, options, file.path.stem), options.with_changes(mask_invalid=True))


NANOMAX = Format(
    name="nanomax",
    help="Scan of NanoMAX (HDF5): entry/measurement/<detector>/frames with pseudo motors in um.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER, "entry"),
    matches=_is_nanomax,
    read=_nanomax,
)
FRAMES = Format(
    name="frames",
    help="Frames alone (HDF5): eh5/images of cSAXS, exchange/data of Data Exchange; positions from another file.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER),
    matches=_is_plain,
    read=_plain,
    datasets={"patterns": _PLAIN},
)
