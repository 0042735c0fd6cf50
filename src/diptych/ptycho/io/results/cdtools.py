"""Results of cdtools, HDF5 or MATLAB: ``obj`` and ``probe`` with the steps of their axes in the laboratory.

``obj_basis`` and ``probe_basis`` (3, 2) are the steps of the first and second pixel axis in metres (x, y, z),
``translations`` (``translation`` in earlier versions) (M, 3) in metres, ``wavelength`` in metres. A window's corner, in
pixels, is the translation in terms of the basis; the object's first pixel lies at ``min_translation``, which some
versions keep beside the model's state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import first_from, image_from, probe_from, real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import wavelength_energy_eV
from diptych.ptycho.io.results.product import Product, assemble
from diptych.ptycho.io.results.without_positions import flagged
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.io.writers.fields import write_cdtools
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions

_LEAST = ("min_translation", "state_dict/min_translation")
_TRANSLATIONS = ("translations", "translation")
_DISTANCE = "state_dict/det_distance"
_BASES = ("obj_basis", "probe_basis", "basis")


def read_cdtools(source: TreeSource, name: str) -> Reconstruction:
    """The result in a file that cdtools saved.

    Raises
    ------
    InputError
        If a basis is missing or singular, or shapes disagree.
    """
    image, probe = image_from(source, "obj"), probe_from(source, "probe")
    basis = _basis(source)
    sides = np.linalg.norm(basis, axis=0)
    places = _TRANSLATIONS[0] if source.header(_TRANSLATIONS[0]) is not None else _TRANSLATIONS[1]
    metres = real_from(source, places, "positions in metres").astype(np.float64)
    if metres.ndim != 2 or metres.shape[1] != 3:
        raise InputError(f"{source.where}: {places}", f"has shape {metres.shape}", "(patterns, 3): x, y, z")
    corners = metres @ np.linalg.pinv(basis).T
    first, note = _first(corners, _least(source), image.shape, probe.shape[-1])
    wavelength = first_from(source, "wavelength", "a wavelength") if source.header("wavelength") is not None else 0.0
    losses = (
        [float(value) for value in np.ravel(real_from(source, "loss_history"))]
        if source.header("loss_history") is not None
        else []
    )
    result = assemble(
        Product(
            where=source.where,
            name=name,
            image=image,
            pixel=(float(sides[0]), float(sides[1])),
            centre=(
                float(sides[0] * (first[0] + image.shape[0] / 2)),
                float(sides[1] * (first[1] + image.shape[1] / 2)),
            ),
            probe=probe,
            positions=(corners + probe.shape[-1] // 2) * sides,
            energy_eV=wavelength_energy_eV(wavelength) if wavelength > 0 else 0.0,
            distance_m=scalar_from(source, _DISTANCE) if source.header(_DISTANCE) is not None else 0.0,
            in_pixels=False,
            epochs=[float(number) for number in range(1, len(losses) + 1)],
            losses=losses,
            dropped_modes=0,
            layout="cdtools result",
        )
    )
    return flagged(result, note)


def _basis(source: TreeSource) -> NDArray[np.float64]:
    """Steps (3, 2) of the object's axes in metres."""
    key = next((key for key in _BASES if source.header(key) is not None), None)
    if key is None:
        raise InputError(source.where, "is a cdtools result without the steps of its axes", listed(_BASES))
    basis = real_from(source, key, "steps of the pixel axes in metres").astype(np.float64)
    if basis.shape != (3, 2) or not np.isfinite(basis).all() or np.linalg.matrix_rank(basis) < 2:
        raise InputError(
            f"{source.where}: {key}", f"has shape {basis.shape}", "(3, 2), two steps in different directions"
        )
    return basis


def _least(source: TreeSource) -> NDArray[np.float64] | None:
    key = next((key for key in _LEAST if source.header(key) is not None), None)
    return None if key is None else np.ravel(real_from(source, key)).astype(np.float64)[:2]


def _first(
    corners: NDArray[np.float64], least: NDArray[np.float64] | None, shape: tuple[int, ...], size: int
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Coordinate (y, x) of the object's first pixel; the scan lies in its middle where the file does not say it."""
    if least is not None and least.shape == (2,):
        return least, ()
    extent = np.floor(corners.min(0)), np.ceil(corners.max(0)) + size
    margin = np.floor((np.asarray(shape) - (extent[1] - extent[0])) / 2)
    note = "the file does not state min_translation: the scan is placed in the middle of the object"
    return extent[0] - margin, (note,)


def _matches(file: DataFile) -> bool:
    if file.kind not in ("hdf5", "matlab"):
        return False
    names = set(file.arrays.names())
    return names >= {"obj", "probe"} and all(any(key in names for key in keys) for keys in (_TRANSLATIONS, _BASES))


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_cdtools(file.arrays, file.path.stem)


FORMAT = Format(
    name="cdtools-result",
    help="Result of cdtools (HDF5 or MATLAB): obj, probe, translations, obj_basis, wavelength.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_cdtools,
    suffixes=(".h5", ".hdf5"),
    by_suffix=False,
    datasets={"probe": ("probe",), "object": ("obj",)},
)
