"""Results as NeXus (HDF5) for viewers such as silx, NeXpy, DAWN and h5web, which open the phase by default.

``entry`` (NXentry) holds images with axes in um (pixels where the geometry is not known) as NXdata: ``object_phase``,
``object_amplitude``, ``probe`` (modes), ``illumination``; ``positions`` and the complex ``object``; ``process`` tells
the program. :func:`diptych.load` reads them back exactly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import column_from, image_from, probe_from, real_from, within
from diptych.ptycho.io.files import DataFile, writing
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.results.npz import MAPS, record, restore
from diptych.ptycho.io.source import TreeSource, json_text, write_hdf5
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions

_OBJECT, _PROBE, _RECORD = "entry/object/values", "entry/probe/data", "entry/process/diptych"


def write_nexus(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as NeXus.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`.
    """
    values, (oy, ox) = result.object.values, result.object.origin
    pixel = result.object.pixel_m
    unit, step = ("pixel", (1.0, 1.0)) if pixel is None else ("um", (pixel[0] * 1e6, pixel[1] * 1e6))
    axes = [(np.arange(side) + origin) * size for side, origin, size in zip(values.shape, (oy, ox), step, strict=True)]
    with writing(path) as temporary, write_hdf5(temporary) as file:
        file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "object_phase"
        entry["title"] = result.name
        _image(entry, "object_phase", np.angle(values), axes, unit, "rad")
        _image(entry, "object_amplitude", np.abs(values), axes, unit, "")
        for name in MAPS:
            if (array := getattr(result, name)) is not None and array.shape == values.shape:
                _image(entry, name, array, axes, unit, "")
        stored = _group(entry, "object", "NXcollection")
        stored["values"] = values.astype(np.complex64)
        stored.attrs["origin"] = np.asarray((oy, ox), np.int64)
        probe = _group(entry, "probe", "NXdata")
        probe["data"] = result.probe
        probe.attrs["signal"] = "data"
        places = _group(entry, "positions", "NXdata")
        for axis, name in enumerate("yx"):
            places[name] = result.positions[:, axis] * step[axis]
            places[name].attrs["units"] = unit
        places["pixels"] = result.positions
        places.attrs["signal"], places.attrs["axes"] = "y", ["x"]
        history = _group(entry, "history", "NXcollection")
        for name, column in result.history.items():
            history[name] = np.asarray(column, np.float64)
        maps = _group(entry, "maps", "NXcollection")
        for name in MAPS:
            if (array := getattr(result, name)) is not None:
                maps[name] = array
        process = _group(entry, "process", "NXprocess")
        process["program"] = "diptych"
        process["diptych"] = json_text(record(result), f"{result.name}: provenance")


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _image(
    entry: Any, name: str, values: NDArray[Any], axes: list[NDArray[np.float64]], unit: str, meaning: str
) -> None:
    """An image with its axes, which a viewer opens by itself."""
    group = _group(entry, name, "NXdata")
    group["data"] = values.astype(np.float32)
    group["data"].attrs["interpretation"] = "image"
    if meaning:
        group["data"].attrs["units"] = meaning
    for axis, line in zip("yx", axes, strict=True):
        group[axis] = line
        group[axis].attrs["units"] = unit
    group.attrs["signal"], group.attrs["axes"] = "data", ["y", "x"]


def read_nexus(source: TreeSource) -> Reconstruction:
    """The result in a NeXus file that :func:`write_nexus` wrote.

    Raises
    ------
    InputError
        If something is missing or damaged.
    """
    try:
        said = json.loads(str(source.read(_RECORD)[()]))
        origin = [int(value) for value in source.attributes("entry/object")["origin"]]
        columns, stored = source.group("entry/history"), source.group("entry/maps")
        history = {} if columns is None else {name: column_from(columns, name) for name in columns.headers()}
        maps = {} if stored is None else {name: stored.read(name) for name in MAPS if name in stored.names()}
        positions = real_from(source, "entry/positions/pixels", "positions").astype(np.float64)
        image, probe = image_from(source, _OBJECT), probe_from(source, _PROBE)
        return restore(said, image, (origin[0], origin[1]), probe, positions, history, maps, source.where)
    except InputError as error:
        raise error.changed(where=within(source.where, error.where)) from None
    except (KeyError, TypeError, ValueError, IndexError, OSError, AttributeError, RecursionError) as error:
        raise InputError(source.where, f"the NeXus result is damaged ({error})", "what diptych.save writes") from None


def _matches(file: DataFile) -> bool:
    if file.kind != "hdf5" or "entry" not in file.arrays.names():
        return False
    return file.arrays.header(_RECORD) is not None and file.arrays.header(_OBJECT) is not None


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_nexus(file.arrays)


FORMAT = Format(
    name="nexus",
    help="Result as NeXus for viewers (silx, NeXpy, DAWN): images with axes in um, the phase by default.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_nexus,
    suffixes=(".nxs",),
    datasets={"probe": (_PROBE,), "object": (_OBJECT,)},
)
