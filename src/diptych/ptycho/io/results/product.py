"""Results as Ptychodus products (HDF5), with a group ``diptych`` that makes reading our own files exact.

A product holds metres: position = centre + pixel * (object index - size / 2), x = column, y = row. An object index here
is where index [N // 2, N // 2] of a pattern's window lies, as everywhere in diptych. For even N this agrees with
readers that put the centre of a window at (N - 1) / 2 and the centre of the object at (size - 1) / 2. A scan of unknown
geometry is written with a pixel of 1.0, and the file's attribute ``units`` then says "pixel".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import (
    LAYER_SPACING,
    column_from,
    image_from,
    layers_from,
    probe_from,
    real_from,
    spacing_from,
    within,
)
from diptych.ptycho.io.files import DataFile, writing
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.light import with_illumination
from diptych.ptycho.io.results.npz import MAPS, record, restore
from diptych.ptycho.io.source import Source, TreeSource, json_text, listed, write_hdf5
from diptych.ptycho.io.writers.lengths import losses
from diptych.ptycho.io.writers.product import layers, numbers, spacing
from diptych.ptycho.scan import Canvas, Geometry, Reconstruction
from diptych.runtime.registry import NoOptions

OWN_GROUP = "diptych"
ARRAYS = {"object", "probe", "probe_position_x_m", "probe_position_y_m"}
_IN_PIXELS = "The geometry of the scan is not known: every length in this file is in object pixels, not in metres."


@dataclass(frozen=True)
class Product:
    """A product's fields, as every container has them. Pairs are (y, x)."""

    where: str
    name: str
    image: NDArray[np.complexfloating[Any, Any]]
    pixel: tuple[float, float]
    centre: tuple[float, float]
    probe: NDArray[np.complexfloating[Any, Any]]
    positions: NDArray[np.float64]
    energy_eV: float
    distance_m: float
    in_pixels: bool
    epochs: list[float]
    losses: list[float]
    dropped_modes: int
    layout: str = "Ptychodus product"
    particle: Literal["photon", "electron"] = "photon"
    far_field: bool = True
    focus_m: float = 0.0
    slices: NDArray[np.complexfloating[Any, Any]] | None = None
    spacing_m: tuple[float, ...] = ()

    def geometry(self) -> Geometry | None:
        """What the file states, and the detector pixel that follows; None where it states no energy."""
        if self.in_pixels or not self.energy_eV > 0:
            return None
        focus = self.focus_m if self.focus_m > 0 and not self.far_field else None
        about: dict[str, Any] = {"particle": self.particle, "propagation": "far" if self.far_field else "near"}
        if not self.distance_m > 0:
            return Geometry(self.energy_eV, particle=self.particle) if self.layout != Product.layout else None
        bare = Geometry(self.energy_eV, self.distance_m, focus_distance_m=focus, **about)
        height, width = self.pixel
        if self.far_field:
            scale = float(bare.wavelength_m or 0.0) * self.distance_m / self.probe.shape[-1]
            return replace(bare, detector_pixel_m=(scale / height, scale / width))
        magnification = bare.magnification or 1.0
        return replace(bare, detector_pixel_m=(height * magnification, width * magnification))


def write_product(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as an HDF5 product that Ptychodus opens, and that :func:`read_product` reads back exactly."""
    size = result.probe.shape[-1]
    pixel = result.object.pixel_m or (result.geometry.object_pixel_m(size) if result.geometry is not None else None)
    (py, px), (oy, ox), (h, w) = pixel or (1.0, 1.0), result.object.origin, result.object.shape
    with writing(path) as temporary, write_hdf5(temporary) as file:
        file.attrs.update(_root_attributes(result, in_pixels=pixel is None))
        # The specification calls this an index into probe entries (all 0 for one probe), but Ptychodus reads it as the
        # number of the pattern and averages positions of equal number: zeros would collapse the scan to one point.
        file["probe_position_indexes"] = np.arange(len(result.positions), dtype=np.int64)
        file["probe_position_y_m"] = result.positions[:, 0] * py
        file["probe_position_x_m"] = result.positions[:, 1] * px
        probe = file.create_dataset("probe", data=result.probe[None])
        image = file.create_dataset("object", data=layers(result))
        for item in (probe, image):
            item.attrs["pixel_height_m"], item.attrs["pixel_width_m"] = py, px
        image.attrs["center_y_m"], image.attrs["center_x_m"] = (oy + h / 2) * py, (ox + w / 2) * px
        file[LAYER_SPACING] = spacing(result)
        file["loss_epochs"], file["loss_values"] = losses(result)
        _write_own(file.create_group(OWN_GROUP), result)


def _root_attributes(result: Reconstruction, in_pixels: bool) -> dict[str, Any]:
    comments = [*result.flags, *([_IN_PIXELS] if in_pixels else [])]
    return {
        "name": result.name,
        "comments": " ".join(comments),
        **numbers(result),
        "format_id": "ptychodus.product.hdf5",
        "format_version": "1.0",
        "units": "pixel" if in_pixels else "metre",
    }


def _write_own(group: Any, result: Reconstruction) -> None:
    """What the product has no field for. Positions are kept in pixels too: in metres, whole pixels would become
    fractional.
    """
    group.attrs["origin"] = np.asarray(result.object.origin, np.int64)
    group["record"] = json_text(record(result), f"{result.name}: provenance")
    group["positions"] = result.positions
    history = group.create_group("history")
    for name, column in result.history.items():
        history[name] = np.asarray(column, np.float64)
    for name in MAPS:
        if name != "slices" and (values := getattr(result, name)) is not None:
            group[name] = values
    if result.slices is not None:
        # The product's own object are the slices.
        group["object"] = result.object.values


def read_product(source: TreeSource, name: str) -> Reconstruction:
    """The result in an HDF5 product: exact where diptych wrote it, else by the product's own formula.

    Parameters
    ----------
    source : TreeSource
        The top of the file.
    name : str
        Name of the result where the file states none.

    Raises
    ------
    InputError
        If something required is missing.
    """
    headers = source.headers()
    missing = sorted(ARRAYS - headers.keys())
    if missing:
        raise InputError(
            source.where,
            f"is not a complete Ptychodus product: {', '.join(missing)} missing; it holds {listed(source.names())}",
        )
    if (own := source.group(OWN_GROUP)) is not None:
        return _read_own(own, source)
    stated = source.attributes()
    epochs, loss = loss_columns(source)

    def number(key: str, default: float = 0.0) -> float:
        return default if key not in stated else _attribute(stated[key], key, source.where)

    return assemble(
        Product(
            where=source.where,
            name=str(stated.get("name", name)),
            image=image_from(source, "object", layered=True),
            slices=layers_from(source, "object"),
            spacing_m=spacing_from(source),
            pixel=_pair(source, "pixel_height_m", "pixel_width_m"),
            centre=_pair(source, "center_y_m", "center_x_m", 0.0),
            probe=probe_from(source, "probe"),
            positions=positions_m(source),
            energy_eV=number("probe_energy_eV") or number("photon_energy_eV"),
            distance_m=number("detector_object_distance_m"),
            in_pixels=str(stated.get("units", "")) == "pixel",
            epochs=epochs,
            losses=loss,
            dropped_modes=dropped_modes(source),
            far_field=number("far_field", 1.0) != 0,
            focus_m=number("focus_object_distance_m"),
        ),
        raw_data="raw_data" in source.names(),
    )


def assemble(product: Product, raw_data: bool = False) -> Reconstruction:
    """The result, in object pixels: the origin is the whole pixel nearest to the product's, positions carry the
    rest.
    """
    pixel, shape = np.asarray(product.pixel), np.asarray(product.image.shape)
    if not (np.isfinite(pixel).all() and (pixel > 0).all() and np.isfinite(product.centre).all()):
        raise InputError(product.where, f"the object pixel is {product.pixel} m", "positive numbers")
    flags: list[str] = []
    indices = (product.positions - np.asarray(product.centre)) / pixel + shape / 2
    origin = np.rint(np.asarray(product.centre) / pixel - shape / 2)
    half = product.probe.shape[-1] // 2
    corner = product.positions / pixel
    if product.centre == (0.0, 0.0) and not _inside(indices, shape, half) and _inside(corner, shape, half):
        indices, origin = corner, np.zeros(2)
        flags.append(
            "the object's centre is stated as 0: positions are read relative to the object's first pixel, "
            "where they fit"
        )
    if product.dropped_modes:
        flags.append(f"{product.dropped_modes} probes that vary from pattern to pattern (OPR modes) were left out")
    if product.spacing_m and np.ptp(product.spacing_m) > 0.01 * min(product.spacing_m):
        least, most = min(product.spacing_m), max(product.spacing_m)
        flags.append(f"the layers are {least:.3g} to {most:.3g} m apart: their mean distance is kept")
    if raw_data:
        flags.append("the file also holds its diffraction patterns: diptych.load_scan reads them")
    try:
        result = Reconstruction(
            object=Canvas(
                product.image.astype(np.complex64),
                (int(origin[0]), int(origin[1])),
                None if product.in_pixels else product.pixel,
            ),
            probe=product.probe.astype(np.complex64),
            positions=indices + origin,
            history={"epoch": product.epochs, "loss": product.losses} if product.losses else {},
            flags=tuple(flags),
            provenance={"layout": product.layout, "file": Path(product.where).name},
            name=product.name,
            geometry=product.geometry(),
            slices=None if product.slices is None else product.slices.astype(np.complex64),
            slice_distance_m=float(np.mean(product.spacing_m)) if product.spacing_m else None,
        )
    except InputError as error:
        raise error.changed(where=within(product.where, error.where)) from None
    return with_illumination(result)


def _read_own(own: TreeSource, source: TreeSource) -> Reconstruction:
    """The exact result from the group ``diptych`` and the product's object and probe."""
    if missing := sorted({"record", "positions", "history"} - set(own.names())):
        raise InputError(
            source.where,
            f"the group '{OWN_GROUP}' is damaged: {', '.join(missing)} missing",
            "what diptych.save writes",
        )
    try:
        origin = [int(v) for v in own.attributes()["origin"]]
        said = json.loads(str(own.read("record")[()]))
        columns = own.group("history")
        history = {} if columns is None else {name: column_from(columns, name) for name in columns.headers()}
        maps = {name: own.read(name) for name in MAPS if name in own.names()}
        image, probe = source.read("object"), source.read("probe")[0]
        if "object" in own.names():
            image, maps["slices"] = own.read("object"), image
        else:
            image = image[0]
        positions = own.read("positions")
        return restore(said, image, (origin[0], origin[1]), probe, positions, history, maps, source.where)
    except InputError as error:
        raise error.changed(where=within(source.where, error.where)) from None
    except (KeyError, TypeError, ValueError, IndexError, OSError, AttributeError, RecursionError) as error:
        raise InputError(
            source.where, f"the group '{OWN_GROUP}' is damaged ({error})", "what diptych.save writes"
        ) from None


def positions_m(source: Source) -> NDArray[np.float64]:
    """Positions (M, 2) of a product, (y, x) in metres."""
    y, x = (
        np.ravel(real_from(source, f"probe_position_{axis}_m", "one per pattern")).astype(np.float64) for axis in "yx"
    )
    if len(y) != len(x):
        raise InputError(source.where, f"{len(y)} y positions but {len(x)} x positions", "one of each per pattern")
    return np.stack([y, x], axis=1)


def loss_columns(source: Source) -> tuple[list[float], list[float]]:
    """(epochs, losses) of a product; older files call the losses ``costs``."""
    key = next((key for key in ("loss_values", "costs") if key in source.headers()), None)
    losses = column_from(source, key) if key else []
    epochs = column_from(source, "loss_epochs") if "loss_epochs" in source.headers() else []
    return (epochs if len(epochs) == len(losses) else [float(i) for i in range(len(losses))]), losses


def dropped_modes(source: TreeSource, key: str = "probe") -> int:
    """How many probes that vary from pattern to pattern (OPR modes) are left out."""
    header = source.header(key)
    shape = () if header is None else header.shape
    return shape[0] - 1 if len(shape) == 4 else 0


def _inside(indices: NDArray[np.float64], shape: NDArray[Any], half: int) -> bool:
    return bool(len(indices) and (indices - half > -1).all() and (indices + half < shape + 1).all())


def _pair(source: TreeSource, first: str, second: str, default: float | None = None) -> tuple[float, float]:
    """Two attributes of the object, else of the probe, whose pixel is the same."""
    about = dict(source.attributes("probe")) | dict(source.attributes("object"))
    missing = next((name for name in (first, second) if name not in about), None)
    if missing is None:
        return _attribute(about[first], first, source.where), _attribute(about[second], second, source.where)
    if default is not None:
        return default, default
    raise InputError(
        source.where, f"the object has no attribute {missing!r}", f"{first} and {second}, as a product has"
    )


def _attribute(value: Any, name: str, where: str) -> float:
    """The number that an attribute holds; numbers as text count too."""
    try:
        return float(np.ravel(np.asarray(value))[0])
    except (TypeError, ValueError, IndexError):
        raise InputError(f"{where}: @{name}", f"is {str(value)[:80]!r}", "one number") from None


def _matches(file: DataFile) -> bool:
    # Two of its names are enough to call it an incomplete product rather than a file of an unknown layout.
    return file.kind == "hdf5" and len((ARRAYS | {"probe_position_indexes"}) & set(file.arrays.names())) >= 2


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_product(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptychodus",
    help="Result as a Ptychodus product (HDF5): object, probe, probe_position_*; what diptych.save writes as .h5.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_product,
    suffixes=(".h5", ".hdf5"),
    datasets={"probe": ("probe",), "object": ("object",)},
)
