"""Results of PtyRAD (HDF5): amplitude and phase of the object, lengths in angstrom.

``optimizable_tensors`` holds ``obja`` and ``objp`` (object modes, layers, H, W), ``probe`` (modes, N, N) and
``probe_pos_shifts`` (M, 2); ``model_attributes`` holds ``crop_pos`` (M, 2), the first pixel (y, x) of each window,
``dx``, the pixel, and ``lambd``, the wavelength of the electrons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import probe_from, real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.product import Product, assemble
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.writers.fields import ANGSTROM_M, OWN_ORIGIN, write_ptyrad
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions

_TENSORS, _ATTRIBUTES = "optimizable_tensors", "model_attributes"


def read_ptyrad(source: TreeSource, name: str) -> Reconstruction:
    """The result in a file of PtyRAD, one object mode of one layer.

    Raises
    ------
    InputError
        If the object has several modes or layers, or something required is missing.
    """
    required = [f"{_TENSORS}/{key}" for key in ("objp", "probe")]
    required += [f"{_ATTRIBUTES}/{key}" for key in ("crop_pos", "dx")]
    if missing := [path for path in required if source.header(path) is None]:
        raise InputError(source.where, f"is not a complete result of PtyRAD: {', '.join(missing)} missing")
    pixel = scalar_from(source, f"{_ATTRIBUTES}/dx") * ANGSTROM_M
    image, probe = _image(source), _probe(source)
    corners = real_from(source, f"{_ATTRIBUTES}/crop_pos", "first pixels of the windows").astype(np.float64)
    shifts = f"{_TENSORS}/probe_pos_shifts"
    if source.header(shifts) is not None:
        moved = real_from(source, shifts, "position shifts").astype(np.float64)
        if moved.shape == corners.shape:
            corners = corners + moved
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise InputError(f"{source.where}: crop_pos", f"has shape {corners.shape}", "(patterns, 2): y, x")
    own = f"{_ATTRIBUTES}/{OWN_ORIGIN}"
    first = np.zeros(2)
    if source.header(own) is not None and (stated := np.ravel(real_from(source, own))).size == 2:
        first = stated.astype(np.float64)
    middle = pixel * (first + np.asarray(image.shape) / 2)
    return assemble(
        Product(
            where=source.where,
            name=name,
            image=image,
            pixel=(pixel, pixel),
            centre=(float(middle[0]), float(middle[1])),
            probe=probe,
            positions=(corners + first + probe.shape[-1] // 2) * pixel,
            # Electrons: their wavelength is not that of photons of their energy.
            energy_eV=0.0,
            distance_m=0.0,
            in_pixels=False,
            epochs=[],
            losses=[],
            dropped_modes=0,
            layout="PtyRAD result",
        )
    )


def _image(source: TreeSource) -> NDArray[Any]:
    phase = real_from(source, f"{_TENSORS}/objp", "phases in rad")
    path = f"{_TENSORS}/obja"
    amplitude = real_from(source, path, "amplitudes") if source.header(path) is not None else np.ones_like(phase)
    if phase.ndim < 2 or np.prod(phase.shape[:-2], dtype=int) != 1 or amplitude.shape != phase.shape:
        raise InputError(
            f"{source.where}: objp",
            f"has shape {phase.shape} (object modes, layers, y, x), obja {amplitude.shape}",
            "one object mode of one layer; multislice is not read",
        )
    image: NDArray[Any] = (amplitude * np.exp(1j * phase)).reshape(phase.shape[-2:])
    return image


def _probe(source: TreeSource) -> NDArray[Any]:
    """The probe (modes, N, N); real numbers with a last axis of 2 are real and imaginary parts."""
    path = f"{_TENSORS}/probe"
    header = source.header(path)
    if header is not None and header.shape[-1:] == (2,) and header.dtype.kind == "f":
        parts = real_from(source, path)
        probe: NDArray[Any] = parts[..., 0] + 1j * parts[..., 1]
        return probe.reshape(-1, *probe.shape[-2:])
    return probe_from(source, path)


def _matches(file: DataFile) -> bool:
    return file.kind == "hdf5" and {_TENSORS, _ATTRIBUTES} <= set(file.arrays.names())


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_ptyrad(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptyrad",
    help="Result of PtyRAD (HDF5): optimizable_tensors with obja, objp and probe, lengths in angstrom.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_ptyrad,
    suffixes=(".hdf5", ".h5"),
    by_suffix=False,
    datasets={"probe": (f"{_TENSORS}/probe",)},
)
