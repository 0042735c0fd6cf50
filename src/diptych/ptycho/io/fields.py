"""The small fields that scans and results share: probes, objects, geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.source import Source
from diptych.ptycho.scan import Canvas, Geometry

PROBE_KEYS = ("probe", "probeGuess", "reconstructed_probe")
OBJECT_KEYS = ("object", "objectGuess", "reconstructed_object", "psi")

_GEOMETRY_KEYS = {
    "energy_eV": ("energy_eV", "photon_energy_eV", "probe_energy_ev", "probe_energy_eV"),
    "distance_m": ("distance_m", "detector_distance_m", "detector_object_distance_m"),
    "detector_pixel_m": ("detector_pixel_m", "detector_pixel_size_m"),
    "focus_distance_m": ("focus_distance_m",),
}


def within(file: str, where: str) -> str:
    """Where an error lies, with the file named once in front."""
    return where if where == file or where.startswith(f"{file}: ") else f"{file}: {where}"


def probe_from(source: Source, key: str) -> NDArray[np.complexfloating[Any, Any]]:
    """A probe as (modes, N, N), from (N, N), (N, N, 1), (modes, N, N) or (1, ..., modes, N, N).

    Of a stack with several orthogonal (per-pattern) modes, (C, modes, N, N) with C > 1, the first, which is the mean
    probe, is taken.
    """
    array = source.read(key)
    stored = array.shape
    if array.ndim == 3 and stored[-1] == 1 and stored[0] == stored[1]:
        array = array[..., 0]
    while array.ndim > 3:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.size == 0:
        raise InputError(source.where, f"the probe {key!r} has shape {stored}", "(N, N), (modes, N, N) or (N, N, 1)")
    if not np.issubdtype(array.dtype, np.number):
        raise InputError(source.where, f"the probe {key!r} has type {array.dtype}", "complex numbers")
    return array if np.iscomplexobj(array) else array.astype(np.complex64)


LAYER_SPACING = "object_layer_spacing_m"
"""Distances between the layers of an object, in products of Ptychodus."""


def layers_from(source: Source, key: str) -> NDArray[np.complexfloating[Any, Any]] | None:
    """The layers (L, H, W) of an object, two or more; None where it has one."""
    array = source.read(key)
    if array.ndim != 3 or 1 in (array.shape[0], array.shape[-1]) or array.size == 0:
        return None
    if not np.issubdtype(array.dtype, np.number):
        raise InputError(source.where, f"the object {key!r} has type {array.dtype}", "complex numbers (layers, H, W)")
    return array if np.iscomplexobj(array) else array.astype(np.complex64)


def spacing_from(source: Source, key: str = LAYER_SPACING) -> tuple[float, ...]:
    """Distances between the layers of an object, metres; those that are positive."""
    if key not in source.headers():
        return ()
    values = np.ravel(real_from(source, key, "one distance between layers each")).astype(np.float64)
    return tuple(values[np.isfinite(values) & (values > 0)].tolist())


def image_from(source: Source, key: str, layered: bool = False) -> NDArray[np.complexfloating[Any, Any]]:
    """An object as (H, W), from (H, W), (1, H, W) or (H, W, 1).

    Several layers are an InputError; with ``layered``, the object is their product.
    """
    if layered and (layers := layers_from(source, key)) is not None:
        return np.asarray(layers.prod(0))
    array = source.read(key)
    stored = array.shape
    if array.ndim == 3 and stored[0] == 1:
        array = array[0]
    elif array.ndim == 3 and stored[-1] == 1:
        array = array[..., 0]
    elif array.ndim == 3:
        raise InputError(
            source.where, f"the object {key!r} has {stored[0]} layers (shape {stored})", "one; multislice is not read"
        )
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.number):
        raise InputError(
            source.where, f"the object {key!r} has shape {stored} and type {array.dtype}", "complex numbers (H, W)"
        )
    return array if np.iscomplexobj(array) else array.astype(np.complex64)


def canvas_from(source: Source, key: str, pixel_m: tuple[float, float] | None = None) -> Canvas | None:
    """The object under ``key`` with its ``objectOrigin`` ((0, 0) unless the file says otherwise), or None when there is
    none.
    """
    headers = source.headers()
    if key not in headers:
        return None
    origin = (0, 0)
    if "objectOrigin" in headers:
        stored = np.ravel(source.read("objectOrigin")).tolist()
        if len(stored) != 2:
            raise InputError(source.where, f"objectOrigin holds {len(stored)} numbers", "two integers (y, x)")
        origin = (stored[0], stored[1])
    image = image_from(source, key, layered=LAYER_SPACING in headers)
    try:
        return Canvas(image, origin, pixel_m)
    except InputError as error:
        raise error.changed(where=f"{source.where}: {key!r}: {error.where}") from None


def real_from(source: Source, key: str, what: str = "counts or amplitudes") -> NDArray[Any]:
    """The array under ``key``, which must hold real numbers; ``what`` names them in messages."""
    values = source.read(key)
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise InputError(source.where, f"{key!r} has type {values.dtype}", f"real numbers ({what})")
    return values


def numbers_from(source: Source, key: str) -> NDArray[np.int64]:
    """The numbers of frames under ``key``, in a row."""
    values = np.ravel(real_from(source, key, "numbers of frames"))
    if not np.isfinite(values).all() or (np.abs(values.astype(np.float64)) >= 2**62).any():
        raise InputError(
            f"{source.where}: {key!r}", "holds numbers that are not finite or too large", "numbers of frames"
        )
    return np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)


def column_from(source: Source, key: str) -> list[float]:
    """The numbers under ``key`` in a row, for a history."""
    return [float(value) for value in np.ravel(real_from(source, key, "one per epoch"))]


def first_from(source: Source, key: str, what: str) -> float:
    """The first number under ``key``; ``what`` names it in messages. Raises InputError where there is none."""
    found = np.ravel(source.read(key))
    if found.dtype.kind not in "biuf":
        raise InputError(f"{source.where}: {key}", f"has type {found.dtype}", f"a number: {what}")
    if not found.size:
        raise InputError(f"{source.where}: {key}", "is empty", what)
    return float(found[0])


def scalar_from(source: Source, key: str) -> float:
    """The single number under ``key``."""
    array = source.read(key)
    if array.size != 1 or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(source.where, f"{key!r} has shape {array.shape} and type {array.dtype}", "one number")
    return float(array.reshape(()))


def with_propagation(stated: dict[str, Any], options: LoadOptions) -> dict[str, Any]:
    """What a file states of the geometry, overridden by what the options state of the propagation to the detector.

    A focus distance in the options implies the near field; the far field has none.
    """
    values = dict(stated)
    if options.focus_distance_m is not None:
        values |= {"propagation": "near", "focus_distance_m": options.focus_distance_m}
    if options.propagation is not None:
        values["propagation"] = options.propagation
    if values.get("propagation", "far") == "far" and options.focus_distance_m is None:
        values.pop("focus_distance_m", None)
    return values


def geometry_from(source: Source, options: LoadOptions) -> Geometry | None:
    """The geometry that the file states as scalars, overridden by the options; None when neither states anything."""
    values: dict[str, Any] = {}
    for field, keys in _GEOMETRY_KEYS.items():
        key = next((key for key in keys if key in source.headers()), None)
        if (stated := getattr(options, field)) is not None:
            values[field] = (stated, stated) if field == "detector_pixel_m" else stated
        elif key is not None and field == "detector_pixel_m":
            values[field] = np.ravel(source.read(key))
        elif key is not None:
            values[field] = scalar_from(source, key)
    if "orientation" in source.headers():
        values["orientation"] = scalar_from(source, "orientation")
    if options.particle is not None:
        values["particle"] = options.particle
    elif "particle" in source.headers():
        values["particle"] = str(source.read("particle"))
    if "propagation" in source.headers():
        values["propagation"] = str(source.read("propagation"))
    values = with_propagation(values, options)
    try:
        return Geometry(**values) if values else None
    except InputError as error:
        raise error.changed(where=within(source.where, error.where)) from None
