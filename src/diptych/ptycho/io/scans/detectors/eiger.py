"""Master files of Dectris detectors (Eiger, Pilatus, ARINA) and NeXus files of the same kind (NXmx).

Frames are ``entry/data/data_000001``, ``..._000002`` and so on, mostly links into data files beside the master, or one
virtual ``entry/data/data``. ``entry/instrument/detector`` states pixel, distance and beam centre, ``pixel_mask`` in
``detectorSpecific`` is 0 where a pixel is good. Bad pixels hold the largest number of the integer type.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import first_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import (
    ENERGY_UNITS,
    geometry_of,
    photon_energy_eV,
    positions_in_pixels,
    wavelength_energy_eV,
)
from diptych.ptycho.io.positions.table import unit_named
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import Window, raster_of, read_frames, shape_of, window_of
from diptych.ptycho.io.scans.nexus import lengths_m, wavelength_m
from diptych.ptycho.io.scans.raster import sequence_positions
from diptych.ptycho.io.source import Entry, TreeSource, chosen_entry, entries
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

DETECTOR = "entry/instrument/detector"
_SPECIFIC = f"{DETECTOR}/detectorSpecific"
_DATA = "entry/data"
_OTHER_DATA = ("entry/data/eiger_4", f"{DETECTOR}/data", f"{_SPECIFIC}/data")
_ELECTRON_DETECTORS = re.compile(r"arina|quadro|singla|ela\b", re.IGNORECASE)
_MASKS = (f"{_SPECIFIC}/pixel_mask", f"{DETECTOR}/pixel_mask", "entry/collection/mask")
_STAGES = ("entry/sample/transformations", "entry/data", "entry/sample")


def frame_keys(source: TreeSource) -> list[str]:
    """Paths of the datasets with the frames, in their order: the numbered ones, else the one that stands for all."""
    data = source.group(_DATA)
    names = set() if data is None else set(data.names())
    if "data" in names:
        return [f"{_DATA}/data"]
    numbered = sorted((name for name in names if re.fullmatch(r"data_\d+", name)), key=lambda name: int(name[5:]))
    if numbered:
        return [f"{_DATA}/{name}" for name in numbered]
    return [key for key in _OTHER_DATA if source.header(key) is not None][:1]


def read_eiger(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The frames of a master file, as stored; what the detector marks as bad is masked.

    Raises
    ------
    InputError
        If a data file is missing, positions are, or the frames are not square and the beam centre is not stated.
    """
    keys, where = frame_keys(source), source.where
    count, full, _ = shape_of(source, keys)
    said = [f"patterns read from {keys[0]}{f' to {keys[-1]}' if len(keys) > 1 else ''}"]
    sources = {"patterns": ", ".join(keys[:3]) + (f", ... {keys[-1]}" if len(keys) > 3 else "")}
    geometry = geometry_of(options, where, **_stated(source, options, said, sources))
    window = window_of(full, options, _centre(source), where, said)
    unit: str = options.position_unit
    stage = None if options.positions is not None or options.scan_step is not None else _stage(source, count)
    if stage is None:
        y, x = sequence_positions(options, count, where, keys[0], said, raster_of(source, keys))
    else:
        sources["positions"] = ", ".join(stage)
        y, x = (np.ravel(lengths_m(source, key, said)) for key in stage)
        unit = unit_named(source.attributes(stage[0]).get("units")) or "m"
        said.append(
            f"positions read from {stage[0]} (y) and {stage[1]} (x): motors, whose signs the file does not tell"
        )
        y, x, converted = positions_in_pixels(y, x, geometry, window.size, where)
        said.append(converted)
    # What is missing in the file is said before gigabytes are read.
    values = read_frames(source, keys, window)
    return RawScan(
        where=where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        mask=_mask(source, window, said, sources),
        mask_means="bad",
        geometry=geometry,
        metadata={"layout": "Dectris / NXmx", "stored_domain": "counts"},
        said=said,
        sources=sources,
        order="patterns (frame, y, x)",
        unit=unit,
        placed=stage is not None,
    )


def _stated(source: TreeSource, options: LoadOptions, said: list[str], sources: dict[str, str]) -> dict[str, Any]:
    """Particle, energy, distance and pixel that the file states; a 0 stands for not known."""
    stated: dict[str, Any] = {"distance_m": None}
    for key in (f"{DETECTOR}/distance", f"{DETECTOR}/detector_distance"):
        if (value := _number(source, key, said)) is not None and value > 0:
            stated["distance_m"], sources["distance"] = value, key
            break
    pixel = [_number(source, f"{DETECTOR}/{axis}_pixel_size", said) for axis in "yx"]
    if None not in pixel and min(value or 0.0 for value in pixel) > 0:
        stated["detector_pixel_m"] = tuple(pixel)
        sources["detector pixel"] = f"{DETECTOR}/{{y,x}}_pixel_size"
    about = source.read(f"{DETECTOR}/description") if source.header(f"{DETECTOR}/description") is not None else ""
    if options.particle is not None:
        stated["particle"] = options.particle
    elif _ELECTRON_DETECTORS.search(str(about)):
        stated["particle"] = "electron"
        said.append(f"particle: electron, as {str(about)!r} is a detector of electrons")
    if options.energy_eV is None:
        stated["energy_eV"] = _energy(source, str(stated.get("particle", "photon")), said, sources)
    return stated


def _energy(source: TreeSource, particle: str, said: list[str], sources: dict[str, str]) -> float | None:
    for key in (f"{_SPECIFIC}/photon_energy", f"{DETECTOR}/photon_energy", "entry/instrument/beam/incident_energy"):
        if not _there(source, key):
            continue
        value, unit = first_from(source, key, "an energy"), source.attributes(key).get("units", "eV")
        if value <= 0:
            continue
        sources["energy"] = key
        if particle == "electron":
            factor = ENERGY_UNITS.get(str(unit), 1.0)
            said.append(f"energy of the electrons read in {unit} from {key}")
            return value * factor
        energy, how = photon_energy_eV(value, str(unit), f"{source.where}: {key}")
        said.append(how)
        return energy
    for key in ("entry/instrument/beam/incident_wavelength", "entry/sample/beam/incident_wavelength"):
        if particle == "photon" and _there(source, key):
            wavelength = wavelength_m(source, key, said)
            if wavelength > 0:
                sources["energy"] = key
                said.append(f"energy derived from the wavelength in {key}")
                return wavelength_energy_eV(wavelength)
    return None


def _there(source: TreeSource, key: str) -> bool:
    """Whether there is a dataset; links that lead nowhere count as none, as master files link all they may need."""
    try:
        return source.header(key) is not None
    except InputError:
        return False


def _number(source: TreeSource, key: str, said: list[str]) -> float | None:
    if not _there(source, key):
        return None
    found = np.ravel(lengths_m(source, key, said))
    return float(found[0]) if found.size else None


def _centre(source: TreeSource) -> tuple[float, float] | None:
    """Row and column of the beam that the file states; 0 stands for not known."""
    found = []
    for axis in "yx":
        key = f"{DETECTOR}/beam_center_{axis}"
        if not _there(source, key):
            return None
        found.append(first_from(source, key, "the beam centre"))
    return (found[0], found[1]) if all(np.isfinite(found)) and max(found) > 0 else None


def _stage(source: TreeSource, count: int) -> tuple[str, str] | None:
    """Paths of the motors (y, x), where the file holds one number of each for every frame and one of them moves."""
    for group in _STAGES:
        keys = f"{group}/sam_y", f"{group}/sam_x"
        headers = [source.header(key) if _there(source, key) else None for key in keys]
        if all(header is not None and np.prod(header.shape) == count for header in headers):
            moves = [float(np.ptp(real_from(source, key))) > 0 for key in keys]
            if any(moves):
                return keys
    return None


def _mask(source: TreeSource, window: Window, said: list[str], sources: dict[str, str]) -> NDArray[np.bool_] | None:
    key = next((key for key in _MASKS if _there(source, key)), None)
    if key is None:
        return None
    stored = np.squeeze(source.read(key))
    if stored.shape != window.full:
        said.append(f"the mask {key} is not used: it has shape {stored.shape}, and frames {window.full}")
        return None
    sources["mask"] = key
    said.append(f"mask read from {key}: a pixel is valid where it is 0")
    return np.asarray(window.cut(stored) == 0)


def detector_options(source: TreeSource, options: LoadOptions) -> LoadOptions:
    """The options with which bad and saturated pixels of such files are masked."""
    changes: dict[str, Any] = {"mask_invalid": True}
    key = f"{DETECTOR}/saturation_value"
    if options.saturation is None and _there(source, key):
        value = first_from(source, key, "the value of saturated pixels")
        if value > 0:
            changes["saturation"] = value + 1
    return options.with_changes(**changes)


def _entries(file: DataFile) -> list[Entry]:
    """Entries with frames, each under the name ``entry``; one of another name must describe its detector."""
    if file.kind != "hdf5":
        return []
    found = []
    for entry in entries(file.arrays, "entry"):
        data, specific = entry.group(_DATA), entry.group(_SPECIFIC)
        names = set() if data is None else set(data.names())
        frames = "data" in names or specific is not None or any(name.startswith("data_0") for name in names)
        if (frames or "eiger_4" in names) and (entry.name == "entry" or entry.group(DETECTOR) is not None):
            found.append(entry)
    return found


def _matches(file: DataFile) -> bool:
    return bool(_entries(file))


def _read(file: DataFile, options: LoadOptions) -> Scan:
    said: list[str] = []
    entry = chosen_entry(_entries(file), options.entry, str(file.path), said)
    with entry.naming():
        raw = read_eiger(entry, options, file.path.stem)
        masking = detector_options(entry, options)
    sources = {part: entry.told(path) for part, path in raw.sources.items()}
    return finish(replace(raw, said=[*said, *map(entry.told, raw.said)], sources=sources), masking)


FORMAT = Format(
    name="dectris",
    help="Frames of Dectris detectors and NXmx (HDF5 masters of Eiger, ARINA, Velociprobe): entry/data/data*.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER, "entry"),
    matches=_matches,
    read=_read,
    datasets={"patterns": ("entry/data/data", "entry/data/data_000001")},
)
