"""Scans as CXI files: cdtools, Ptychodus, SHARP and beamlines (Maia, Acta Cryst. D 68, 1186, 2012; cxidb.org).

Patterns are ``entry_1/data_1/data`` (M, N, N), positions a ``translation`` (M, 3) in metres, (x, y, z). The detector
states its pixel, distance, mask (0 where a pixel is good) and, in cdtools, ``basis_vectors`` (3, 2): the steps of the
first and second detector axis in the laboratory (x, y, z).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.fields import first_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import (
    ENERGY_UNITS,
    energy_unit,
    geometry_of,
    photon_energy_eV,
    positions_in_pixels,
    wavelength_energy_eV,
)
from diptych.ptycho.io.positions.table import unit_named
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.cxi_write import write_cxi
from diptych.ptycho.io.scans.detectors.frames import Window, window_of
from diptych.ptycho.io.scans.nexus import axes_beside, lengths_m, one_number, positions_m, wavelength_m
from diptych.ptycho.io.scans.raster import raster_positions, sequence_positions
from diptych.ptycho.io.source import Entry, TreeSource, chosen_entry, entries
from diptych.ptycho.io.writers.scans import write_nxptycho
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

PATTERNS = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data", "entry_1/data/data")
TRANSLATIONS = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    "entry_1/instrument_1/detector_1/translation",
)
DETECTORS = ("entry_1/instrument_1/detector_1", "entry_1/detector_1")
ENERGIES = (
    "entry_1/instrument_1/beam_1/energy",
    "entry_1/instrument_1/source_1/energy",
    "entry_1/instrument/beam/energy",
    "entry_1/instrument_1/beam_1/incident_beam_energy",
)
WAVELENGTHS = (
    "entry_1/instrument_1/source_1/wavelength",
    "entry_1/instrument_1/beam_1/incident_wavelength",
    "entry_1/instrument_1/beam_1/wavelength",
)
PARTICLES = ("entry_1/instrument_1/source_1/probe", "entry_1/instrument/source/probe")
MASKS = ("mask", "pixel_mask")
TITLE = "entry_1/title"
PROBES = ("entry_1/instrument_1/source_1/illumination", "entry_1/instrument_1/source_1/probe")


def first(source: TreeSource, paths: tuple[str, ...]) -> str | None:
    """The first of ``paths`` that is an array."""
    return next((path for path in paths if source.header(path) is not None), None)


def particle_of(source: TreeSource) -> str | None:
    """Particle that the file names as the ``probe`` of its source (a NeXus word), if that is the electron."""
    for path in PARTICLES:
        header = source.header(path)
        if header is not None and header.dtype.kind in "OSU" and int(np.prod(header.shape)) == 1:
            found = np.ravel(source.read(path))[0]
            text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
            if text.strip().lower() == "electron":
                return "electron"
    return None


def read_cxi(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a CXI file, as stored.

    Raises
    ------
    InputError
        If patterns or positions are missing or disagree, or the energy is implausible.
    """
    patterns, translation = first(source, PATTERNS), first(source, TRANSLATIONS)
    axes = None if patterns is None or translation is not None else axes_beside(source, patterns)
    elsewhere = options.positions is not None or options.scan_step is not None
    if patterns is None or (translation is None and axes is None and not elsewhere):
        what = "diffraction patterns" if patterns is None else "positions (a translation of each pattern)"
        where = " or ".join(PATTERNS[:2] if patterns is None else TRANSLATIONS[:2])
        remedy = (
            ""
            if patterns is None
            else (
                "Where they lie in another file, pass positions=... (--positions FILE); of a raster, --scan-columns "
                "COLUMNS with --scan-step STEP."
            )
        )
        raise IncompleteError(source.where, f"is a CXI file without {what}", where, remedy)
    said: list[str] = []
    sources = {"patterns": patterns}
    values = real_from(source, patterns)
    if values.ndim not in (3, 4):
        raise InputError(f"{source.where}: {patterns}", f"has shape {values.shape}", "(patterns, N, N)")
    scan_shape = tuple(side for side in values.shape[:-2] if side != 1) or (1,)
    values = values.reshape(-1, *values.shape[-2:]) if values.ndim == 4 else values
    detector = next((path for path in DETECTORS if source.group(path) is not None), "")
    window = window_of(values.shape[-2:], options, _centre(source, detector), source.where, said)
    values = values if window.whole else np.ascontiguousarray(window.cut(values))
    placed = not elsewhere
    metres = np.full((len(values), 3), np.nan)
    in_pixels = translation is not None and source.attributes(translation).get("units") == "px"
    if placed and in_pixels and translation is not None:
        metres = real_from(source, translation, "positions in object pixels").astype(np.float64)
        said.append(f"positions (x, y, z) read from {translation} in object pixels")
    elif placed and translation is not None:
        metres = lengths_m(source, translation, said)
        said.append(f"positions (x, y, z) read from {translation}")
    elif placed and axes is not None:
        metres = positions_m(source, axes, scan_shape, said)
    if metres.shape == (3, len(values)) and len(values) != 3:
        metres = metres.T
        said.append("the translation is stored with its axes exchanged, (3, patterns)")
    if values.ndim != 3 or metres.ndim != 2 or metres.shape[1] not in (2, 3) or len(metres) != len(values):
        raise InputError(
            source.where,
            f"{patterns} has shape {values.shape} and {translation} {metres.shape}",
            "(patterns, N, N) and (patterns, 3)",
        )
    said.insert(0, f"patterns read from {patterns}")
    mask_path = first(source, tuple(f"{detector}/{name}" for name in MASKS))
    sources |= {"positions": translation or ", ".join(axes or ())} if placed else {}
    sources |= {"mask": mask_path} if mask_path is not None else {}
    sources |= {"distance": f"{detector}/distance", "detector pixel": f"{detector}/{{y,x}}_pixel_size"}
    sources |= {"energy": first(source, ENERGIES) or "", "probe": first(source, PROBES) or ""}
    geometry = geometry_of(options, source.where, **_stated(source, detector, options, said))
    signs: tuple[float, float] | None = None
    if placed and in_pixels:
        y, x = metres[:, 1], metres[:, 0]
    elif placed:
        signs = _signs(source, detector, said)
        y, x, converted = positions_in_pixels(
            signs[0] * metres[:, 1], signs[1] * metres[:, 0], geometry, values.shape[-1], source.where
        )
        said.append(converted)
    elif len(scan_shape) == 2:
        y, x = raster_positions(options, (scan_shape[0], scan_shape[1]), source.where, patterns, said)
    else:
        y, x = sequence_positions(options, len(values), source.where, patterns, said)
    return RawScan(
        where=source.where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        probe=_probe(source, options, values.shape[-1], said),
        mask=_mask(source, mask_path, window, said),
        mask_means="bad",
        background=_dark(source, detector, window, said),
        geometry=geometry,
        metadata={"layout": "CXI", "stored_domain": "counts"},
        said=said,
        sources=sources,
        order="patterns (pattern, y, x), positions (x, y, z)",
        unit=_unit(source, translation, axes) if placed else options.position_unit,
        placed=placed,
        signs=signs,
    )


def _stated(source: TreeSource, detector: str, options: LoadOptions, said: list[str]) -> dict[str, Any]:
    """Energy, distance and detector pixel that the file states."""

    def number(path: str) -> float | None:
        if source.header(path) is None:
            return None
        return one_number(source, path, lengths_m(source, path, said), said)

    stated: dict[str, Any] = {"distance_m": number(f"{detector}/distance")}
    stated["detector_pixel_m"] = _pixels([number(f"{detector}/{each}pixel_size") for each in ("y_", "x_", "")], said)
    about = source.attributes(detector)
    if "propagation" in about:
        stated["propagation"] = str(about["propagation"])
        said.append(f"propagation: {stated['propagation']} field, from {detector}")
    if "focus_distance_m" in about:
        stated["focus_distance_m"] = float(about["focus_distance_m"])
    # NeXus files keep the energy of the storage ring, in GeV, where others keep that of the photons.
    texts = {path: source.attributes(path).get("units") for path in ENERGIES if source.header(path) is not None}
    units = {path: energy_unit(text) for path, text in texts.items() if not text or energy_unit(text) is not None}
    path = next(iter(units), None)
    if (particle := particle_of(source)) is not None:
        stated["particle"] = particle
        said.append(f"particle: {particle}")
    if options.energy_eV is None and path is not None and "electron" in (particle, options.particle):
        value = one_number(source, path, real_from(source, path, "energies").astype(np.float64), said)
        stated["energy_eV"] = value * ENERGY_UNITS[units[path] or "J"]
        said.append(f"kinetic energy read in {units[path] or 'J'} from {path}")
    elif options.energy_eV is None and path is not None:
        where = f"{source.where}: {path}"
        value = one_number(source, path, real_from(source, path, "energies").astype(np.float64), said)
        stated["energy_eV"], how = photon_energy_eV(value, units[path], where)
        said.append(how)
    elif options.energy_eV is None and particle is None and (path := first(source, WAVELENGTHS)) is not None:
        stated["energy_eV"] = wavelength_energy_eV(wavelength_m(source, path, said))
        said.append(f"energy derived from the wavelength in {path}")
    return stated


def _pixels(stated: list[float | None], said: list[str]) -> tuple[float, float] | None:
    """Detector pixel (y, x) from ``y_pixel_size``, ``x_pixel_size`` and ``pixel_size``; one of them is that of both."""
    y, x, both = stated
    known = next((side for side in (y, x, both) if side is not None), None)
    if known is None:
        return None
    if y is None or x is None:
        said.append("the file states one side of a detector pixel: it is read as square")
    return (known if y is None else y), (known if x is None else x)


def _signs(source: TreeSource, detector: str, said: list[str]) -> tuple[float, float]:
    """Signs (y, x) that turn a translation into positions along the detector's rows and columns.

    Without basis vectors a translation is that of the probe along the detector's axes. Writers that state them
    (cdtools) store the translation of the sample in the laboratory; the sample moves against the probe, and with the
    usual vectors, negative in both axes, the two signs cancel.
    """
    path = f"{detector}/basis_vectors"
    if source.header(path) is None:
        return 1.0, 1.0
    vectors = real_from(source, path, "steps of the detector axes")
    if vectors.ndim == 3 and len(vectors) and (vectors == vectors[0]).all():
        vectors = vectors[0]
    if vectors.shape == (2, 3):
        vectors = vectors.T
    if vectors.shape != (3, 2) or vectors[1, 0] == 0 or vectors[0, 1] == 0:
        raise InputError(
            f"{source.where}: {path}",
            f"are {np.array2string(np.asarray(vectors), separator=', ')}".replace("\n", ""),
            "detector rows along y and columns along x",
            "Orient the patterns with orientation=... (--orientation) after removing the vectors.",
        )
    signs = -float(np.sign(vectors[1, 0])), -float(np.sign(vectors[0, 1]))
    said.append(f"signs of y and x ({signs[0]:+g}, {signs[1]:+g}) from {path}")
    return signs


def _unit(source: TreeSource, translation: str | None, axes: tuple[str, str] | None) -> str:
    """Unit of the positions as they are stored."""
    path = translation or (axes[0] if axes is not None else "")
    return unit_named(source.attributes(path).get("units")) or "m"


def _centre(source: TreeSource, detector: str) -> tuple[float, float] | None:
    """Row and column of zero frequency that the file states; values of 0 stand for not known."""
    found = []
    for axis in "yx":
        path = f"{detector}/beam_center_{axis}"
        if source.header(path) is None or source.attributes(path).get("units") not in (
            None,
            "",
            "pixel",
            "pixels",
            "px",
        ):
            return None
        found.append(first_from(source, path, "the beam centre"))
    return (found[0], found[1]) if all(np.isfinite(found)) and max(found) > 0 else None


def _mask(source: TreeSource, path: str | None, window: Window, said: list[str]) -> NDArray[np.bool_] | None:
    if path is None:
        return None
    stored = source.read(path)
    stored = stored[0] if stored.ndim == 3 and len(stored) == 1 else stored
    if stored.shape[-2:] != window.full or stored.ndim not in (2, 3):
        raise InputError(f"{source.where}: {path}", f"has shape {stored.shape}", f"that of a pattern, {window.full}")
    said.append(f"mask read from {path}: a pixel is valid where it is 0")
    return np.asarray(window.cut(stored) == 0)


def _dark(source: TreeSource, detector: str, window: Window, said: list[str]) -> NDArray[np.float32] | None:
    """The dark frame as background, where there is one that is not zero."""
    path = f"{detector}/data_dark"
    if source.header(path) is None:
        return None
    dark = real_from(source, path)
    dark = dark.mean(0) if dark.ndim == 3 else dark
    if dark.shape != window.full or not np.any(dark):
        return None
    said.append(f"background read from {path}")
    return np.asarray(window.cut(dark), np.float32)


def _probe(source: TreeSource, options: LoadOptions, size: int, said: list[str]) -> NDArray[Any] | None:
    path = first(source, PROBES) if options.use_probe else None
    header = None if path is None else source.header(path)
    if path is None or header is None or header.dtype.kind not in "fciu" or len(header.shape) < 2:
        return None
    probe = source.read(path)
    probe = probe.reshape(-1, *probe.shape[-2:]) if probe.ndim >= 2 else probe
    if probe.shape[-2:] != (size, size):
        said.append(f"probe of shape {probe.shape} in {path} not used: patterns have {size} px")
        return None
    said.append(f"initial probe read from {path}")
    return probe


def _entries(file: DataFile) -> list[Entry]:
    """Entries with patterns, each under the name ``entry_1``. Detector files without numbers keep theirs elsewhere."""
    if file.kind != "hdf5":
        return []
    return [
        entry
        for entry in entries(file.arrays, "entry_1")
        if first(entry, PATTERNS if re.fullmatch(r"entry_\d+", entry.name) else PATTERNS[:2]) is not None
    ]


def _matches(file: DataFile) -> bool:
    return bool(_entries(file))


def _read(file: DataFile, options: LoadOptions) -> Scan:
    said: list[str] = []
    entry = chosen_entry(_entries(file), options.entry, str(file.path), said)
    with entry.naming():
        title = entry.read(TITLE) if entry.header(TITLE) is not None else np.asarray("")
        name = str(title).strip() if title.dtype.kind == "U" and title.size == 1 else ""
        raw = read_cxi(entry, options, name or file.path.stem)
    sources = {part: entry.told(path) for part, path in raw.sources.items()}
    return finish(replace(raw, said=[*said, *map(entry.told, raw.said)], sources=sources), options)


FORMAT = Format(
    name="cxi",
    help="Scan as CXI (cdtools, Ptychodus, SHARP): entry_1/data_1/data with a translation of each pattern in metres.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER, "entry"),
    matches=_matches,
    read=_read,
    write=write_cxi,
    suffixes=(".cxi",),
    datasets={"patterns": PATTERNS, "probe": PROBES},
)

NXPTYCHO = Format(
    name="nxptycho",
    help="Scan as NeXus by NXcxi_ptycho or NXptycho: the arrays of CXI, each with its unit.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER, "entry"),
    matches=lambda file: any(entry.header("entry_1/definition") is not None for entry in _entries(file)[:1]),
    read=_read,
    write=write_nxptycho,
    suffixes=(".nxs",),
    datasets={"patterns": PATTERNS, "probe": PROBES},
)
