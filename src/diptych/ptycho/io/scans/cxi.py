"""Scans as CXI files: cdtools, Ptychodus, SHARP and beamlines (Maia, Acta Cryst. D 68, 1186, 2012; cxidb.org).

Patterns are ``entry_1/data_1/data`` (M, N, N), positions a ``translation`` (M, 3) in metres, (x, y, z). The detector
states its pixel, distance, mask (0 where a pixel is good) and, in cdtools, ``basis_vectors`` (3, 2): the steps of the
first and second detector axis in the laboratory (x, y, z).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.fields import first_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, positions_in_pixels
from diptych.ptycho.io.positions.table import unit_named
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.cxi_write import write_cxi
from diptych.ptycho.io.scans.detectors.frames import Window, window_of
from diptych.ptycho.io.scans.nexus import ENERGIES, axes_beside, first, lengths_m, positions_m, stated_geometry
from diptych.ptycho.io.scans.raster import raster_positions, sequence_positions
from diptych.ptycho.io.source import Entry, TreeSource, chosen_entry, entries
from diptych.ptycho.io.writers.scans import write_nxptycho
from diptych.ptycho.scan import Geometry, Scan
from diptych.runtime.registry import NoOptions

PATTERNS = ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data", "entry_1/data/data")
TRANSLATIONS = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    "entry_1/instrument_1/detector_1/translation",
)
DETECTORS = ("entry_1/instrument_1/detector_1", "entry_1/detector_1")
MASKS = ("mask", "pixel_mask")
TITLE = "entry_1/title"
PROBES = ("entry_1/instrument_1/source_1/illumination", "entry_1/instrument_1/source_1/probe")


def read_cxi(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a CXI file, as stored.

    Raises
    ------
    InputError
        If patterns or positions are missing or disagree, or the energy is implausible.
    """
    paths, said = _paths(source, options), list[str]()
    values, scan_shape = _patterns(source, paths.patterns)
    detector = next((path for path in DETECTORS if source.group(path) is not None), "")
    window = window_of(values.shape[-2:], options, _centre(source, detector), source.where, said)
    values = values if window.whole else np.ascontiguousarray(window.cut(values))
    stored = _stored_positions(source, paths, values.shape, scan_shape, said)
    said.insert(0, f"patterns read from {paths.patterns}")
    mask_path = first(source, tuple(f"{detector}/{name}" for name in MASKS))
    sources = _sources(source, paths, detector, mask_path)
    geometry = geometry_of(options, source.where, **stated_geometry(source, detector, options, said))
    if paths.placed:
        y, x, signs = _in_object_pixels(source, paths, stored, detector, geometry, values.shape[-1], said)
    else:
        (y, x), signs = _on_a_raster(source, options, paths, len(values), scan_shape, said), None
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
        unit=paths.unit(source) if paths.placed else options.position_unit,
        placed=paths.placed,
        signs=signs,
    )


@dataclass(frozen=True)
class _Paths:
    """Where a CXI file keeps patterns and positions: in a ``translation``, or in two ``axes`` (y, x).

    ``placed``: they are the positions of the scan; otherwise the options state its step, or name another file.
    """

    patterns: str
    translation: str | None
    axes: tuple[str, str] | None
    placed: bool

    def in_pixels(self, source: TreeSource) -> bool:
        """Whether the translation is in object pixels, not metres."""
        return self.translation is not None and source.attributes(self.translation).get("units") == "px"

    def unit(self, source: TreeSource) -> str:
        """Unit of the positions as they are stored."""
        path = self.translation or (self.axes[0] if self.axes is not None else "")
        return unit_named(source.attributes(path).get("units")) or "m"


def _paths(source: TreeSource, options: LoadOptions) -> _Paths:
    """Where the file keeps patterns and positions; refused where it has no patterns, or nothing states positions."""
    patterns, translation = first(source, PATTERNS), first(source, TRANSLATIONS)
    axes = None if patterns is None or translation is not None else axes_beside(source, patterns)
    elsewhere = options.positions is not None or options.scan_step is not None
    if patterns is None:
        raise IncompleteError(source.where, "is a CXI file without diffraction patterns", " or ".join(PATTERNS[:2]))
    if translation is None and axes is None and not elsewhere:
        raise IncompleteError(
            source.where,
            "is a CXI file without positions (a translation of each pattern)",
            " or ".join(TRANSLATIONS[:2]),
            "Where they lie in another file, pass positions=... (--positions FILE); of a raster, --scan-columns "
            "COLUMNS with --scan-step STEP.",
        )
    return _Paths(patterns, translation, axes, placed=not elsewhere)


def _patterns(source: TreeSource, path: str) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The patterns (M, H, W), and the shape in which they were taken, (M,) or (rows, columns)."""
    values = real_from(source, path)
    if values.ndim not in (3, 4):
        raise InputError(f"{source.where}: {path}", f"has shape {values.shape}", "(patterns, N, N)")
    scan_shape = tuple(side for side in values.shape[:-2] if side != 1) or (1,)
    return (values.reshape(-1, *values.shape[-2:]) if values.ndim == 4 else values), scan_shape


def _stored_positions(
    source: TreeSource, paths: _Paths, shape: tuple[int, ...], scan_shape: tuple[int, ...], said: list[str]
) -> NDArray[np.float64]:
    """Positions (M, 2 or 3), (x, y, z) in metres or object pixels, of patterns of a ``shape``; NaN where not placed."""
    found, translation, count = np.full((shape[0], 3), np.nan), paths.translation, shape[0]
    if paths.placed and translation is not None and paths.in_pixels(source):
        found = real_from(source, translation, "positions in object pixels").astype(np.float64)
        said.append(f"positions (x, y, z) read from {translation} in object pixels")
    elif paths.placed and translation is not None:
        found = lengths_m(source, translation, said)
        said.append(f"positions (x, y, z) read from {translation}")
    elif paths.placed and paths.axes is not None:
        found = positions_m(source, paths.axes, scan_shape, said)
    if found.shape == (3, count) and count != 3:
        found = found.T
        said.append("the translation is stored with its axes exchanged, (3, patterns)")
    if found.ndim != 2 or found.shape[1] not in (2, 3) or len(found) != count:
        raise InputError(
            source.where,
            f"{paths.patterns} has shape {shape} and {translation} {found.shape}",
            "(patterns, N, N) and (patterns, 3)",
        )
    return found


def _in_object_pixels(
    source: TreeSource,
    paths: _Paths,
    stored: NDArray[np.float64],
    detector: str,
    geometry: Geometry,
    size: int,
    said: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float] | None]:
    """Positions y and x (M,) in object pixels, and the signs that turned the stored ones into them."""
    if paths.in_pixels(source):
        return stored[:, 1], stored[:, 0], None
    signs = _signs(source, detector, said)
    y_m, x_m = signs[0] * stored[:, 1], signs[1] * stored[:, 0]
    y, x, converted = positions_in_pixels(y_m, x_m, geometry, size, source.where)
    said.append(converted)
    return y, x, signs


def _on_a_raster(
    source: TreeSource, options: LoadOptions, paths: _Paths, count: int, scan_shape: tuple[int, ...], said: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions y and x (M,) by the step that the options state, or none where they name another file."""
    if len(scan_shape) == 2:
        return raster_positions(options, (scan_shape[0], scan_shape[1]), source.where, paths.patterns, said)
    return sequence_positions(options, count, source.where, paths.patterns, said)


def _sources(source: TreeSource, paths: _Paths, detector: str, mask: str | None) -> dict[str, str]:
    """Which dataset each part of the scan comes from."""
    sources = {"patterns": paths.patterns}
    sources |= {"positions": paths.translation or ", ".join(paths.axes or ())} if paths.placed else {}
    sources |= {"mask": mask} if mask is not None else {}
    sources |= {"distance": f"{detector}/distance", "detector pixel": f"{detector}/{{y,x}}_pixel_size"}
    return sources | {"energy": first(source, ENERGIES) or "", "probe": first(source, PROBES) or ""}


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
