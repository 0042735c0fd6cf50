"""Scans of fold_slice and PtychoShelves: a pair of files ``*_dp.hdf5`` and ``*_para.hdf5`` in one folder.

The first holds the patterns ``dp`` (M, N, N), zero frequency in the centre; the second ``ppX`` and ``ppY`` (M,), the
positions in metres, ``lambda``, the wavelength in metres, and ``dx``, the object pixel in metres. The programs negate
the positions and move the object; the window of a pattern, which moves against it, lies at (ppY, ppX).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.fields import real_from, scalar_from
from diptych.ptycho.io.files import DataFile, opened
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, wavelength_energy_eV
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.positions.table import Table
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.writers.scans import parameters_beside, write_fold_slice
from diptych.ptycho.scan import Geometry, Scan
from diptych.runtime.registry import NoOptions

_PATTERNS, _PARAMETERS = "_dp", "_para"
NOMINAL_M = 1.0
SMALLEST_M, LARGEST_M = 1e-13, 1e-4
"""Plausible object pixels; others are not in metres."""


def parameter_file(path: Path) -> Path:
    """The file with the positions that belongs to a file of patterns: ``scan_dp.hdf5`` and ``scan_para.hdf5``.

    Raises
    ------
    InputError
        If it is not in the folder.
    """
    stem, _, rest = path.stem.rpartition(_PATTERNS)
    other = path.with_name(f"{stem}{_PARAMETERS}{rest}{path.suffix}") if stem else None
    if other is None or not other.is_file():
        name = "<name>_para.hdf5" if other is None else other.name
        raise IncompleteError(
            path,
            "holds patterns (dp) of fold_slice without their positions",
            f"the file {name} beside it, with ppX and ppY",
            "Copy it into the same folder, or pass --positions FILE.",
        )
    return other


def read_fold_slice(file: DataFile, options: LoadOptions) -> RawScan:
    """The scan in a pair of files, as stored.

    Raises
    ------
    InputError
        If the second file is missing, or the two do not belong together.
    """
    where = str(file.path)
    values = _patterns(file)
    if options.positions is not None:
        return _unplaced(values, where, file, options)
    other = parameter_file(file.path)
    with opened(other) as parameters:
        source = parameters.arrays
        wavelength = scalar_from(source, "lambda") if source.header("lambda") is not None else None
        stated = geometry_of(options, where, energy_eV=wavelength_energy_eV(wavelength) if wavelength else None)
        derived = stated.object_pixel_m(values.shape[-1])
        missing = [key for key in ("ppX", "ppY", *(("dx",) if derived is None else ())) if source.header(key) is None]
        if missing:
            without = "Without dx, pass --energy-eV, --distance-m and --detector-pixel-m." if "dx" in missing else ""
            raise InputError(other, f"holds no {', '.join(missing)}", "ppX, ppY and dx in metres", without)
        x_m, y_m = (np.ravel(real_from(source, key, "positions in metres")) for key in ("ppX", "ppY"))
        said = f"positions (ppY, ppX) read from {other.name}, in object pixels of "
        if source.header("dx") is not None:
            pixel = scalar_from(source, "dx")
            said += f"dx = {pixel:.4g} m"
        else:
            pixel = derived[0] if derived is not None else 0.0
            said += f"{pixel:.4g} m, from the geometry, as the file states no dx"
    if values.ndim != 3 or not len(values) == len(x_m) == len(y_m):
        raise InputError(
            where, f"dp has shape {values.shape} and {other.name} {len(y_m)} positions", "one position of each pattern"
        )
    if not pixel > 0:
        raise InputError(other, f"dx is {pixel:g}", "the object pixel in metres")
    energy = wavelength_energy_eV(wavelength) if wavelength is not None and wavelength > 0 else None
    geometry, derived_from = _geometry(geometry_of(options, where, energy_eV=energy), pixel, values.shape[-1])
    return RawScan(
        where=where,
        name=file.path.stem,
        values=values,
        y=y_m.astype(np.float64) / pixel,
        x=x_m.astype(np.float64) / pixel,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "fold_slice", "stored_domain": "counts", "object_pixel_m": pixel},
        said=[said, *derived_from],
        sources={"patterns": "dp", "positions": f"{other.name}: ppY, ppX", "energy": f"{other.name}: lambda"}
        | dict.fromkeys(("distance", "detector pixel"), f"derived from {other.name}: dx"),
        order="patterns (pattern, y, x), positions ppX and ppY separate",
        unit="m",
        placed=True,
    )


def _geometry(stated: Geometry, pixel: float, size: int) -> tuple[Geometry, list[str]]:
    """``stated`` with what the object pixel in metres adds: one of distance and detector pixel follows from the other,
    and where neither is known, the detector pixel at a nominal distance, as only their ratio matters.
    """
    wavelength = stated.wavelength_m
    known = stated.distance_m is not None and stated.detector_pixel_m is not None
    if wavelength is None or known or stated.propagation == "near" or not SMALLEST_M < pixel < LARGEST_M:
        return stated, []
    extent = pixel * size
    if stated.detector_pixel_m is not None:
        distance = extent * stated.detector_pixel_m[0] / wavelength
        return replace(stated, distance_m=distance), [
            f"distance of {distance:.4g} m derived from dx and detector pixel"
        ]
    distance = NOMINAL_M if stated.distance_m is None else stated.distance_m
    side = wavelength * distance / extent
    nominal = "a nominal" if stated.distance_m is None else "the"
    said = f"detector pixel of {side:.4g} m derived from dx at {nominal} distance of {distance:g} m"
    return replace(stated, distance_m=distance, detector_pixel_m=(side, side)), [said]


def _unplaced(values: NDArray[Any], where: str, file: DataFile, options: LoadOptions) -> RawScan:
    """The patterns alone, with what the options state of the geometry."""
    if values.ndim != 3:
        raise InputError(where, f"dp has shape {values.shape}", "(patterns, N, N)")
    lost = unplaced(len(values))
    return RawScan(
        where=where,
        name=file.path.stem,
        values=values,
        y=lost,
        x=lost,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, where),
        metadata={"layout": "fold_slice", "stored_domain": "counts"},
        said=["patterns read from dp"],
    )


def _patterns(file: DataFile) -> NDArray[Any]:
    """``dp`` as (pattern, y, x). MATLAB keeps it as (y, x, pattern), and HDF5 shows the axes of v7.3 files reversed."""
    values = real_from(file.arrays, "dp")
    if values.ndim != 3:
        return values
    if "MATLAB_class" in file.arrays.attributes("dp"):
        return np.swapaxes(values, 1, 2)
    if file.kind == "matlab" and values.shape[0] == values.shape[1]:
        return np.moveaxis(values, -1, 0)
    return values


def read_parameters(source: TreeSource, name: str) -> Table:
    """The positions in the second file of a pair, for patterns that lie elsewhere."""
    x_m, y_m = (np.ravel(real_from(source, key, "positions in metres")).astype(np.float64) for key in ("ppX", "ppY"))
    if len(x_m) != len(y_m):
        raise InputError(source.where, f"holds {len(x_m)} numbers ppX and {len(y_m)} ppY", "as many of each")
    return Table(source.where, y_m, x_m, "m", None, f"positions read from {name}: ppY, ppX")


def _is_parameters(file: DataFile) -> bool:
    if file.kind not in ("hdf5", "matlab") or "dp" in (names := file.arrays.names()):
        return False
    return {"ppX", "ppY"} <= set(names)


def _matches(file: DataFile) -> bool:
    header = file.arrays.header("dp") if file.kind in ("hdf5", "matlab") else None
    # A raster with four axes is of another program.
    return header is not None and len(header.shape) == 3 and (file.kind == "hdf5" or "_dp" in file.path.stem)


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_fold_slice(file, options), options)


FORMAT = Format(
    name="fold-slice",
    help="Scan of fold_slice and PtychoShelves: *_dp.hdf5 with the patterns, *_para.hdf5 with the positions.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
    write=write_fold_slice,
    suffixes=(".hdf5", ".h5"),
    by_suffix=False,
    beside=lambda path: (parameters_beside(path),),
    datasets={"patterns": ("dp",)},
)

PARAMETERS = Format(
    name="fold-slice-positions",
    help="Positions of fold_slice and PtychoShelves: *_para.hdf5 with ppX and ppY in metres.",
    options=NoOptions,
    holds="positions",
    matches=_is_parameters,
    read=lambda file, options: read_parameters(file.arrays, file.path.name),
)
