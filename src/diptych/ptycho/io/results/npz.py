"""Results as NPZ: the layout that diptych writes, and the arrays that other programs write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import (
    OBJECT_KEYS,
    PROBE_KEYS,
    canvas_from,
    column_from,
    geometry_from,
    probe_from,
    real_from,
    within,
)
from diptych.ptycho.io.files import DataFile, writing
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.light import with_illumination
from diptych.ptycho.io.source import Source, json_text, read_json, write_npz
from diptych.ptycho.scan import Canvas, Geometry, Reconstruction
from diptych.runtime.registry import NoOptions

RESULT_FORMAT = "diptych result"
FORMAT_VERSION = 1
_HISTORY = "history_"

MAPS = (
    "error",
    "amplitude_error",
    "phase_error",
    "illumination",
    "frame_factors",
    "background",
    "recorded_positions",
    "slices",
    "probe_components",
    "probe_coefficients",
)
"""Further arrays of a result: maps of the object (H, W), a factor (M,) and the recorded position (M, 2) of each frame,
the background (N, N), slices (S, H, W), components (K, N, N) of the probe and their coefficients (M, K + 1). Files need
not hold them."""


def record(result: Reconstruction) -> dict[str, Any]:
    """Metadata of a result beside its arrays, as JSON values."""
    geometry = result.geometry
    return {
        "format": RESULT_FORMAT,
        "format_version": FORMAT_VERSION,
        "name": result.name,
        "flags": list(result.flags),
        "provenance": result.provenance,
        "pixel_m": result.object.pixel_m,
        "slice_distance_m": result.slice_distance_m,
        "geometry": None
        if geometry is None
        else {
            "energy_eV": geometry.energy_eV,
            "distance_m": geometry.distance_m,
            "detector_pixel_m": geometry.detector_pixel_m,
            "orientation": geometry.orientation,
            "particle": geometry.particle,
            "propagation": geometry.propagation,
            "focus_distance_m": geometry.focus_distance_m,
        },
    }


def restore(
    said: dict[str, Any],
    values: NDArray[Any],
    origin: tuple[int, int],
    probe: NDArray[Any],
    positions: NDArray[Any],
    history: dict[str, list[float]],
    maps: dict[str, NDArray[Any]],
    where: str,
) -> Reconstruction:
    """The result that :func:`record` and the arrays describe; ``maps`` has those of :data:`MAPS` that the file holds,
    ``where`` names it in messages.
    """
    if said.get("format_version", 0) > FORMAT_VERSION:
        raise InputError(
            where,
            f"was written by a newer diptych (format version {said['format_version']})",
            remedy="Update diptych.",
        )
    pixel = said.get("pixel_m")
    geometry = said.get("geometry")
    if geometry is not None:
        geometry = Geometry(
            **{**geometry, "detector_pixel_m": geometry["detector_pixel_m"] and tuple(geometry["detector_pixel_m"])}
        )
    result = Reconstruction(
        object=Canvas(values, origin, None if pixel is None else (float(pixel[0]), float(pixel[1]))),
        probe=probe,
        positions=positions,
        history=history,
        **{name: maps.get(name) for name in MAPS},
        flags=tuple(said.get("flags", ())),
        provenance=dict(said.get("provenance", {})),
        name=str(said.get("name", "reconstruction")),
        geometry=geometry,
        slice_distance_m=said.get("slice_distance_m"),
    )
    return with_illumination(result)


def write_result(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as an NPZ; every array, column and text is read back exactly."""
    arrays: dict[str, Any] = {
        "object": result.object.values,
        "objectOrigin": np.asarray(result.object.origin, np.int64),
        "probe": result.probe,
        "positions": result.positions,
    }
    arrays |= {_HISTORY + name: np.asarray(column, np.float64) for name, column in result.history.items()}
    arrays |= {name: values for name in MAPS if (values := getattr(result, name)) is not None}
    arrays["_metadata"] = np.asarray(json_text(record(result), f"{result.name}: provenance"))
    with writing(path) as temporary:
        write_npz(temporary, arrays)


def read_result(source: Source, name: str) -> Reconstruction:
    """The result in ``source``: written by diptych, or another program's object and probe under common names.

    A result of another program without ``xcoords`` and ``ycoords`` has no positions, and a flag says so.
    """
    said, _ = read_json(source)
    headers = source.headers()
    try:
        if said.get("format") == RESULT_FORMAT:
            columns = [key for key in headers if key.startswith(_HISTORY)]
            history = {key.removeprefix(_HISTORY): column_from(source, key) for key in columns}
            canvas = canvas_from(source, "object")
            maps = {name: source.read(name) for name in MAPS if name in headers}
            if canvas is None:
                raise InputError(source.where, "the result is incomplete: 'object' is missing")
            probe, positions = source.read("probe"), source.read("positions")
            return restore(said, canvas.values, canvas.origin, probe, positions, history, maps, source.where)
        return _foreign(source, name)
    except InputError as error:
        # The checks of a Reconstruction name it by itself, not by its file.
        raise error.changed(where=within(source.where, error.where)) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            source.where,
            f"the result is incomplete ({error} is missing or of a wrong kind)",
            "what diptych.save writes",
        ) from None


def _foreign(source: Source, name: str) -> Reconstruction:
    headers = source.headers()
    object_key = next(key for key in OBJECT_KEYS if key in headers)
    probe_key = next(key for key in PROBE_KEYS if key in headers)
    canvas = canvas_from(source, object_key)
    assert canvas is not None
    flags: list[str] = []
    if "positions" in headers:
        positions = real_from(source, "positions", "y and x of each pattern")
    elif headers.keys() >= {"xcoords", "ycoords"}:
        positions = np.stack(
            [np.ravel(real_from(source, key, "one per pattern")) for key in ("ycoords", "xcoords")], axis=1
        )
    elif object_key == "psi" and "scan" in headers:
        corners = np.squeeze(real_from(source, "scan", "first pixel (y, x) of each window"))
        positions = corners + probe_from(source, probe_key).shape[-1] // 2
        flags.append("positions read from scan, the first pixel (y, x) of each window, as tike keeps them")
    else:
        positions = np.empty((0, 2))
        flags.append("the file holds no positions: only the image and the probe are known")
    if "objectOrigin" not in headers:
        flags.append("the file does not state the object's origin: its first pixel is taken as coordinate (0, 0)")
    result = Reconstruction(
        object=Canvas(canvas.values.astype(np.complex64), canvas.origin),
        probe=probe_from(source, probe_key).astype(np.complex64),
        positions=positions,
        flags=tuple(flags),
        provenance={"layout": f"NPZ with {object_key} and {probe_key}", "file": Path(source.where).name},
        name=name,
        geometry=geometry_from(source, LoadOptions()),
    )
    return with_illumination(result)


def _matches(file: DataFile) -> bool:
    if file.kind != "npz":
        return False
    names = file.arrays.names()
    return any(key in names for key in OBJECT_KEYS) and any(key in names for key in PROBE_KEYS)


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_result(file.arrays, file.path.stem)


FORMAT = Format(
    name="result-npz",
    help="Result as NPZ: object and probe (also objectGuess, reconstructed_object and the like).",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_result,
    suffixes=(".npz",),
    datasets={"probe": PROBE_KEYS, "object": OBJECT_KEYS},
)
