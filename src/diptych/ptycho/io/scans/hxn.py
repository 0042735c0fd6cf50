"""Scans of NSLS-II HXN as HDF5: ``diffamp`` (M, N, N) holds AMPLITUDES, ``points`` (2, M) the positions (x, y).

Positions are in micrometres; ``ccd_pixel_um``, ``lambda_nm`` and ``z_m`` state the geometry. Files of the beamline's
own export hold counts, ``diff_data/<detector>/det_images``, with ``scan/scan_positions`` and ``scan/energy`` in keV.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, photon_energy_eV, positions_in_pixels, wavelength_energy_eV
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import window_of
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.scan import Geometry, Scan
from diptych.runtime.registry import NoOptions


def read_hxn(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a file of HXN, as stored.

    Raises
    ------
    InputError
        If shapes disagree, or the geometry is incomplete.
    """
    patterns, places, domain = _paths(source)
    values = real_from(source, patterns, "amplitudes or counts")
    said = [f"{domain} read from {patterns}"]
    points = _points(source, options, patterns, values, places, said)
    window = window_of((int(values.shape[1]), int(values.shape[2])), options, None, source.where, said)
    values = values if window.whole else np.ascontiguousarray(window.cut(values))
    geometry = _geometry(source, options, said)
    if options.positions is None:
        metres = points * 1e-6
        y, x, converted = positions_in_pixels(metres[1], metres[0], geometry, values.shape[-1], source.where)
        said += [f"positions (x, y) read from {places} in um", converted]
    else:
        y = x = unplaced(len(values))
    return RawScan(
        where=source.where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain=domain if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "NSLS-II HXN", "stored_domain": domain},
        said=said,
        sources={"patterns": patterns, "positions": places, "energy": "lambda_nm or scan/energy", "distance": "z_m"}
        | {"detector pixel": "ccd_pixel_um"},
        order="patterns (pattern, y, x), positions (x, y)",
        unit="um",
        placed=options.positions is None,
    )


def _points(
    source: TreeSource, options: LoadOptions, patterns: str, values: NDArray[Any], places: str, said: list[str]
) -> NDArray[np.float64]:
    """Positions (2, M), (x, y) in um, at the path ``places``, one for each of the patterns ``values``; where the
    options name another file for them, as many as are stored.
    """
    if source.header(places) is None and options.positions is None:
        raise InputError(source.where, f"holds {patterns} without positions", places, "Or pass --positions FILE.")
    points = np.empty((2, 0))
    if source.header(places) is not None:
        points = real_from(source, places, "positions in um").astype(np.float64)
    if points.shape == (len(values), 2) and len(values) != 2:
        points = points.T
        said.append(f"{places} is stored with its axes exchanged, (patterns, 2)")
    if values.ndim != 3 or (points.shape != (2, len(values)) and options.positions is None):
        raise InputError(
            source.where,
            f"{patterns} has shape {values.shape} and {places} {points.shape}",
            "(patterns, N, N), (2, patterns)",
        )
    return points


def _geometry(source: TreeSource, options: LoadOptions, said: list[str]) -> Geometry:
    """Energy, from the wavelength or else as stored, distance and detector pixel; the options count more."""
    stated = {
        key: scalar_from(source, key) for key in ("ccd_pixel_um", "lambda_nm", "z_m") if source.header(key) is not None
    }
    pixel, wavelength = stated.get("ccd_pixel_um"), stated.get("lambda_nm")
    energy, stored = (wavelength_energy_eV(wavelength * 1e-9) if wavelength else None), "scan/energy"
    if energy is None and options.energy_eV is None and source.header(stored) is not None:
        energy, how = photon_energy_eV(scalar_from(source, stored), "keV", f"{source.where}: {stored}")
        said.append(how)
    return geometry_of(
        options,
        source.where,
        energy_eV=energy,
        distance_m=stated.get("z_m"),
        detector_pixel_m=None if pixel is None else (pixel * 1e-6,) * 2,
    )


def _paths(source: TreeSource) -> tuple[str, str, Literal["amplitude", "counts"]]:
    """Paths of patterns and positions, and what the patterns are."""
    if source.header("diffamp") is not None:
        return "diffamp", "points", "amplitude"
    return _images(source) or "", "scan/scan_positions", "counts"


def _images(source: TreeSource) -> str | None:
    """Path of the counts of the first detector of the beamline's export; None where there is none."""
    detectors = source.group("diff_data")
    for name in sorted(detectors.names()) if detectors is not None else []:
        if source.header(path := f"diff_data/{name}/det_images") is not None:
            return path
    return None


def _matches(file: DataFile) -> bool:
    if file.kind != "hdf5":
        return False
    names = set(file.arrays.names())
    return {"diffamp", "points"} <= names or ("diff_data" in names and _images(file.arrays) is not None)


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_hxn(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="hxn",
    help="Scan of NSLS-II HXN (HDF5): amplitudes in diffamp, positions in points in micrometres.",
    options=NoOptions,
    holds="scan",
    takes=CUT,
    matches=_matches,
    read=_read,
    datasets={"patterns": ("diffamp",)},
)
