"""Scans of NSLS-II HXN as HDF5: ``diffamp`` (M, N, N) holds AMPLITUDES, ``points`` (2, M) the positions (x, y).

Positions are in micrometres; ``ccd_pixel_um``, ``lambda_nm`` and ``z_m`` state the geometry.
"""

from __future__ import annotations

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, positions_in_pixels, wavelength_energy_eV
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions


def read_hxn(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a file of HXN, as stored.

    Raises
    ------
    InputError
        If shapes disagree, or the geometry is incomplete.
    """
    values = real_from(source, "diffamp", "amplitudes")
    points = real_from(source, "points", "positions in um").astype(np.float64)
    if values.ndim != 3 or (points.shape != (2, len(values)) and options.positions is None):
        raise InputError(
            source.where,
            f"diffamp has shape {values.shape} and points {points.shape}",
            "(patterns, N, N), (2, patterns)",
        )
    stated = {
        key: scalar_from(source, key) for key in ("ccd_pixel_um", "lambda_nm", "z_m") if source.header(key) is not None
    }
    pixel, wavelength = stated.get("ccd_pixel_um"), stated.get("lambda_nm")
    geometry = geometry_of(
        options,
        source.where,
        energy_eV=wavelength_energy_eV(wavelength * 1e-9) if wavelength else None,
        distance_m=stated.get("z_m"),
        detector_pixel_m=None if pixel is None else (pixel * 1e-6,) * 2,
    )
    said = ["amplitudes read from diffamp"]
    if options.positions is None:
        metres = points * 1e-6
        y, x, converted = positions_in_pixels(metres[1], metres[0], geometry, values.shape[-1], source.where)
        said += ["positions (x, y) read from points in um", converted]
    else:
        y = x = unplaced(len(values))
    return RawScan(
        where=source.where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain="amplitude" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "NSLS-II HXN", "stored_domain": "amplitude"},
        said=said,
        sources={"patterns": "diffamp", "positions": "points", "energy": "lambda_nm", "distance": "z_m"}
        | {"detector pixel": "ccd_pixel_um"},
        order="patterns (pattern, y, x), positions (x, y)",
        unit="um",
        placed=options.positions is None,
    )


def _matches(file: DataFile) -> bool:
    return file.kind == "hdf5" and {"diffamp", "points"} <= set(file.arrays.names())


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_hxn(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="hxn",
    help="Scan of NSLS-II HXN (HDF5): amplitudes in diffamp, positions in points in micrometres.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
    datasets={"patterns": ("diffamp",)},
)
