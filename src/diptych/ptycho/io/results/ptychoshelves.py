"""Results of PtychoShelves and fold_slice, MATLAB v5 and v7.3: ``object``, ``probe`` and the parameters ``p``.

``probe`` is (N, N, modes, variable), ``p.dx_spec`` the object pixel in metres (y, x), ``p.lambda`` the wavelength in
metres, ``p.z`` the distance. ``p.positions`` (M, 2) is the first pixel (row, column) of each window;
``outputs.probe_positions`` (M, 2), where the positions were refined, is (column, row) from the object's middle.
HDF5 shows the arrays of v7.3 files with their axes reversed, and complex numbers as pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import wavelength_energy_eV
from diptych.ptycho.io.results.product import Product, assemble
from diptych.ptycho.io.results.without_positions import flagged
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.writers.fields import OWN_ORIGIN, write_ptychoshelves
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions


def matlab_array(source: TreeSource, path: str) -> NDArray[Any] | None:
    """The numbers at ``path`` with MATLAB's axes; None where there are none."""
    header = source.header(path)
    if header is None:
        return None
    found = source.read(path)
    if found.dtype.names == ("real", "imag"):
        found = found["real"] + 1j * found["imag"]
    if found.dtype.kind not in "biufc":
        return None
    return found.T if "MATLAB_class" in source.attributes(path) else found


def read_ptychoshelves(source: TreeSource, name: str) -> Reconstruction:
    """The result in a ``.mat`` file of PtychoShelves.

    Raises
    ------
    InputError
        If the pixel is missing, or the object has several layers.
    """
    image, probe = matlab_array(source, "object"), matlab_array(source, "probe")
    if image is None or probe is None or image.ndim != 2:
        shape = None if image is None else image.shape
        raise InputError(source.where, f"the object has shape {shape}", "(H, W); multislice is not read")
    while probe.ndim > 3:
        probe = probe[..., 0]
    probe = np.moveaxis(probe, -1, 0) if probe.ndim == 3 else probe[None]
    pixel = matlab_array(source, "p/dx_spec")
    if pixel is None or pixel.size not in (1, 2):
        raise InputError(source.where, "holds no p.dx_spec", "the object pixel in metres")
    sides = np.broadcast_to(np.ravel(pixel).astype(np.float64), 2)
    wavelength, distance = (_number(source, f"p/{key}") for key in ("lambda", "z"))
    centres, notes = _centres(source, image.shape, probe.shape[-1])
    stated = matlab_array(source, f"p/{OWN_ORIGIN}")
    first = np.ravel(stated).astype(np.float64) if stated is not None and stated.size == 2 else np.zeros(2)
    middle = (first + np.asarray(image.shape) / 2) * sides
    result = assemble(
        Product(
            where=source.where,
            name=name,
            image=image.astype(np.complex64),
            pixel=(float(sides[0]), float(sides[1])),
            centre=(float(middle[0]), float(middle[1])),
            probe=probe.astype(np.complex64),
            positions=(centres + first) * sides,
            energy_eV=wavelength_energy_eV(wavelength) if wavelength > 0 else 0.0,
            distance_m=distance,
            in_pixels=False,
            epochs=[],
            losses=[],
            dropped_modes=0,
            layout="PtychoShelves result",
        )
    )
    return flagged(result, notes)


def _number(source: TreeSource, path: str) -> float:
    found = matlab_array(source, path)
    return float(np.ravel(found)[0]) if found is not None and found.size == 1 else 0.0


def _centres(source: TreeSource, shape: tuple[int, ...], size: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Coordinates (M, 2) of index [N // 2, N // 2] of each window, in the object's pixels."""
    refined, planned = matlab_array(source, "outputs/probe_positions"), matlab_array(source, "p/positions")
    if refined is not None and refined.ndim == 2 and refined.shape[1] == 2 and len(refined):
        note = "positions read from outputs.probe_positions, (column, row) from the object's middle"
        return refined[:, [1, 0]].astype(np.float64) + np.asarray(shape) / 2, (note,)
    if planned is not None and planned.ndim == 2 and planned.shape[1] == 2 and len(planned):
        note = "positions read from p.positions, the first pixel (row, column) of each window"
        return planned.astype(np.float64) + size // 2, (note,)
    return np.empty((0, 2)), ()


def _matches(file: DataFile) -> bool:
    return file.kind in ("hdf5", "matlab") and {"object", "probe", "p"} <= set(file.arrays.names())


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_ptychoshelves(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptychoshelves",
    help="Result of PtychoShelves and fold_slice (MATLAB v5 and v7.3): object, probe and p with dx_spec and lambda.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_ptychoshelves,
    suffixes=(".mat",),
    datasets={"probe": ("probe",), "object": ("object",)},
)
