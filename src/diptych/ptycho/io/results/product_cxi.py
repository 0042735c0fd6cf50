"""Ptychodus products as CXI : ``image_1`` is the probe, ``image_2`` the object.

``entry_1/image_1/data`` (coherent, incoherent, y, x) and ``entry_1/image_2/data`` (layer, y, x) are complex, the
``translation`` (M, 3) of the probe is in metres, (x, y, z), the photon energy in J. What CXI has no place for lies in
``entry_1/ptychodus``: the object's pixel and centre in metres, losses, the numbers of the patterns.
"""

from __future__ import annotations

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import (
    first_from,
    image_from,
    layers_from,
    probe_from,
    real_from,
    scalar_from,
    spacing_from,
)
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import photon_energy_eV
from diptych.ptycho.io.results.product import Product, assemble, dropped_modes, loss_columns
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.io.writers.product import write_cxi_product
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions

PROBE, OBJECT = "entry_1/image_1/data", "entry_1/image_2/data"
TRANSLATION = "entry_1/sample_1/geometry_1/translation"
EXTRAS = "entry_1/ptychodus"
_NUMBERS = ("object_pixel_height_m", "object_pixel_width_m", "object_center_y_m", "object_center_x_m")
_ENERGY, _DISTANCE = "entry_1/instrument_1/source_1/energy", "entry_1/instrument_1/detector_1/distance"


def read_cxi_product(source: TreeSource, name: str) -> Reconstruction:
    """The result in a product that Ptychodus wrote as CXI.

    Raises
    ------
    InputError
        If something required is missing, or the energy is implausible.
    """
    required = (TRANSLATION, *(f"{EXTRAS}/{key}" for key in _NUMBERS))
    missing = [path for path in required if source.header(path) is None]
    if missing:
        raise InputError(source.where, f"is not a complete Ptychodus product: {listed(missing)} missing")
    extras = source.group(EXTRAS)
    assert extras is not None
    metres = real_from(source, TRANSLATION, "positions in metres")
    if metres.ndim != 2 or metres.shape[1] not in (2, 3):
        raise InputError(f"{source.where}: {TRANSLATION}", f"has shape {metres.shape}", "(patterns, 3): x, y, z")
    height, width, y, x = (scalar_from(extras, key) for key in _NUMBERS)
    energy = 0.0
    if source.header(_ENERGY) is not None and (stored := scalar_from(source, _ENERGY)) > 0:
        energy, _ = photon_energy_eV(stored, None, f"{source.where}: {_ENERGY}")
    epochs, losses = loss_columns(extras)
    title, focus = "entry_1/title", "focus_object_distance_m"
    return assemble(
        Product(
            where=source.where,
            name=str(source.read(title)) if source.header(title) is not None else name,
            image=image_from(source, OBJECT, layered=True),
            slices=layers_from(source, OBJECT),
            spacing_m=spacing_from(extras),
            pixel=(height, width),
            centre=(y, x),
            probe=probe_from(source, PROBE),
            positions=metres[:, [1, 0]].astype(np.float64),
            energy_eV=energy,
            distance_m=scalar_from(source, _DISTANCE) if source.header(_DISTANCE) is not None else 0.0,
            in_pixels=False,
            epochs=epochs,
            losses=losses,
            dropped_modes=dropped_modes(source, PROBE),
            layout="Ptychodus product (CXI)",
            far_field=extras.header("far_field") is None or bool(first_from(extras, "far_field", "0 or 1")),
            focus_m=scalar_from(extras, focus) if extras.header(focus) is not None else 0.0,
        )
    )


def _matches(file: DataFile) -> bool:
    if file.kind != "hdf5" or "entry_1" not in file.arrays.names():
        return False
    return all(file.arrays.header(path) is not None for path in (PROBE, OBJECT)) and (
        file.arrays.group(EXTRAS) is not None
    )


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_cxi_product(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptychodus-cxi",
    help="Result as a Ptychodus product in CXI: probe in image_1, object in image_2, the rest in entry_1/ptychodus.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_cxi_product,
    suffixes=(".cxi",),
    datasets={"probe": (PROBE,), "object": (OBJECT,)},
)
