"""Scans of PtyLab: HDF5 of its Python version, MATLAB v7.3 of the other.

``ptychogram`` (M, N, N) holds counts with zero frequency in the centre, ``encoder`` (M, 2) the positions of the stage
in metres (row, column), ``dxd`` the detector pixel, ``zo`` the distance and ``wavelength``, all in metres. Files of the
MATLAB version store arrays transposed, ``positions`` (2, M) in object pixels and ``xd``, the detector coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, positions_in_pixels, wavelength_energy_eV
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.scan import Geometry, Scan
from diptych.runtime.registry import NoOptions


def read_ptylab(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a PtyLab file, as stored.

    Raises
    ------
    InputError
        If positions are missing, or shapes disagree.
    """
    matlab = "MATLAB_class" in source.attributes("ptychogram")
    values = real_from(source, "ptychogram")
    said = ["patterns read from ptychogram"]
    if source.header("orientation") is not None:
        stated_turn = np.ravel(source.read("orientation"))
        if stated_turn.size and stated_turn.dtype.kind in "biuf" and stated_turn[0] != 0:
            said.append(
                f"the file states orientation {stated_turn[0]:g} in the numbering of PtyLab, which is not applied: "
                "`diptych check` finds the orientation, --orientation states it"
            )
    if matlab:
        # MATLAB stores by columns: h5py shows every axis reversed, the patterns' axis first and y and x exchanged.
        values = np.swapaxes(values, -1, -2)
        said.append("y and x of the patterns exchanged: MATLAB stores arrays by columns")
    geometry = geometry_of(options, source.where, **_stated(source))
    if options.positions is None:
        y, x, unit = _coordinates(source, matlab, geometry, values.shape, said)
    else:
        y = x = unplaced(len(values))
        unit = ""
    probe = source.read("probe") if options.use_probe and source.header("probe") is not None else None
    if probe is not None:
        if probe.dtype.names == ("real", "imag"):
            probe = probe["real"] + 1j * probe["imag"]
        probe = np.swapaxes(probe, -1, -2) if matlab else probe
        probe = probe.reshape(-1, *probe.shape[-2:])
        said.append("initial probe read from probe")
    return RawScan(
        where=source.where,
        name=name,
        values=np.ascontiguousarray(values),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        probe=probe,
        geometry=geometry,
        metadata={"layout": "PtyLab", "stored_domain": "counts"},
        said=said,
        sources={"patterns": "ptychogram", "positions": "encoder or positions", "probe": "probe"}
        | {"energy": "wavelength", "distance": "zo", "detector pixel": "dxd or xd"},
        order="patterns (pattern, y, x), positions (row, column)" + (", axes reversed by MATLAB" if matlab else ""),
        unit=unit,
        placed=options.positions is None,
    )


def _stated(source: TreeSource) -> dict[str, object]:
    """Energy, distance and detector pixel that the file states."""

    def number(key: str) -> float | None:
        if source.header(key) is None:
            return None
        found = np.ravel(real_from(source, key, key))
        return float(found[0]) if found.size else None

    stated: dict[str, object] = {"distance_m": number("zo")}
    if (wavelength := number("wavelength")) is not None and wavelength > 0:
        stated["energy_eV"] = wavelength_energy_eV(wavelength)
    pixel = number("dxd")
    if pixel is None and source.header("xd") is not None:
        steps = np.diff(np.ravel(real_from(source, "xd", "detector coordinates")).astype(np.float64))
        pixel = float(np.median(np.abs(steps))) if steps.size else None
    if pixel is not None:
        stated["detector_pixel_m"] = (pixel, pixel)
    return stated


def _coordinates(
    source: TreeSource, matlab: bool, geometry: Geometry, shape: tuple[int, ...], said: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Coordinates y and x (M,) in object pixels, and the unit in which they are stored."""
    key = next((key for key in ("encoder", "positions") if source.header(key) is not None), None)
    if key is None:
        raise InputError(source.where, "is a PtyLab file without positions", "encoder (patterns, 2)")
    stored = real_from(source, key, "positions").astype(np.float64)
    stored = stored.T if matlab else stored
    if stored.shape == (2, shape[0]) and shape[0] != 2:
        stored = stored.T
        said.append(f"{key} is stored with its axes exchanged, (2, patterns)")
    if len(shape) != 3 or stored.shape != (shape[0], 2):
        raise InputError(
            source.where,
            f"ptychogram has shape {shape} and {key} {stored.shape}",
            "(patterns, N, N) and one position (row, column) of each",
        )
    if key == "positions" and np.ptp(stored, axis=0).max() > 1:
        said.append("positions (row, column) read in object pixels, the corner of each window")
        return stored[:, 0] + shape[-1] // 2, stored[:, 1] + shape[-1] // 2, "px"
    y, x, converted = positions_in_pixels(stored[:, 0], stored[:, 1], geometry, shape[-1], source.where)
    said += [f"positions (row, column) read from {key} in m", converted]
    return y, x, "m"


def _matches(file: DataFile) -> bool:
    return file.kind == "hdf5" and file.arrays.header("ptychogram") is not None


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_ptylab(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="ptylab",
    help="Scan of PtyLab (HDF5 or MATLAB v7.3): ptychogram with encoder positions in metres.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
    datasets={"patterns": ("ptychogram",), "probe": ("probe",)},
)
