"""Ptychodus products as NPZ : attributes of the HDF5 product are scalars with prefixed names."""

from __future__ import annotations

from diptych.errors import InputError
from diptych.ptycho.io.fields import first_from, image_from, layers_from, probe_from, scalar_from, spacing_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.product import ARRAYS, Product, assemble, dropped_modes, loss_columns, positions_m
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.writers.product import write_npz_product
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions


def read_npz_product(source: TreeSource, name: str) -> Reconstruction:
    """The result in a product that Ptychodus wrote as NPZ.

    Raises
    ------
    InputError
        If something required is missing.
    """
    headers = source.headers()
    keys = ("object_pixel_height_m", "object_pixel_width_m", "object_center_y_m", "object_center_x_m")
    missing = sorted(set(keys) - headers.keys())
    if missing:
        raise InputError(source.where, f"is not a complete Ptychodus product: {', '.join(missing)} missing")
    height, width, y, x = (scalar_from(source, key) for key in keys)
    named = [key for key in headers if key.endswith(("_energy_eV", "object_distance_m"))]
    optional = {key: scalar_from(source, key) for key in named}
    if "far_field" in headers:
        optional["far_field"] = first_from(source, "far_field", "0 or 1")
    epochs, losses = loss_columns(source)
    return assemble(
        Product(
            where=source.where,
            name=str(source.read("name")) if "name" in headers else name,
            image=image_from(source, "object", layered=True),
            slices=layers_from(source, "object"),
            spacing_m=spacing_from(source),
            pixel=(height, width),
            centre=(y, x),
            probe=probe_from(source, "probe"),
            positions=positions_m(source),
            energy_eV=optional.get("photon_energy_eV", optional.get("probe_energy_eV", 0.0)),
            distance_m=optional.get("detector_object_distance_m", 0.0),
            in_pixels=False,
            epochs=epochs,
            losses=losses,
            dropped_modes=dropped_modes(source),
            far_field=optional.get("far_field", 1.0) != 0,
            focus_m=optional.get("focus_object_distance_m", 0.0),
        )
    )


def _matches(file: DataFile) -> bool:
    return file.kind == "npz" and set(file.arrays.names()) >= ARRAYS


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_npz_product(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptychodus-npz",
    help="Result as a Ptychodus product in NPZ: object, probe, probe_position_*.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_npz_product,
    suffixes=(".npz",),
    by_suffix=False,
    datasets={"probe": ("probe",), "object": ("object",)},
)
