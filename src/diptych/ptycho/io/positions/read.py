"""Positions out of any file that holds some: text, a product, a result, a scan, or datasets named by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import numbers_from, real_from
from diptych.ptycho.io.files import DataFile, opened
from diptych.ptycho.io.formats import recognise, unrecognised
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.positions.table import Table, unit_named
from diptych.ptycho.io.positions.text import read_text
from diptych.ptycho.io.source import TreeSource, listed

TRANSLATIONS = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    "entry_1/instrument_1/detector_1/translation",
)
_PRODUCT = ("probe_position_y_m", "probe_position_x_m")
_NUMBERS = ("probe_position_indexes", "entry_1/ptychodus/probe_position_indexes")


def read_positions(spec: str) -> Table:
    """The positions that ``spec`` names, ``FILE`` or ``FILE:PATH``.

    ``PATH`` is a dataset (K, 2) of (y, x), a dataset (K, 3) of (x, y, z), two datasets of y and of x, ``PATH,PATH``, or
    three: y, x and the numbers of the frames (or triggers). Of a table in text, two or three columns by their names, or
    by their numbers, from 1.

    Raises
    ------
    InputError
        If there is no such file or dataset, or it holds no positions.
    """
    path, inner = split(spec)
    with opened(path) as file:
        if file.source is None and inner is None and path.is_file():
            return read_text(path)
        if file.source is None and inner is not None and path.is_file() and recognise(file) is None:
            return read_text(path, inner)
        if inner is not None:
            return _datasets(file.arrays, inner, path)
        return _known(file)


def split(spec: str) -> tuple[Path, str | None]:
    """File and path inside it."""
    whole = Path(spec)
    if whole.exists():
        return whole, None
    # Names of columns may hold colons (EPICS), and paths too (C:\scan.csv): the first part that is a file counts.
    for place in (place for place, letter in enumerate(spec) if letter == ":"):
        if Path(spec[:place]).is_file():
            return Path(spec[:place]), spec[place + 1 :]
    name, colon, inner = spec.rpartition(":")
    return (Path(name), inner) if colon and len(name) > 1 else (whole, None)


def _datasets(source: TreeSource, inner: str, path: Path) -> Table:
    keys = [key.strip().strip("/") for key in inner.split(",")]
    for key in keys:
        if source.header(key) is None:
            found = listed(name for name, header in source.walk() if not isinstance(header, str))
            raise InputError(
                path, f"holds no dataset {key!r}; it holds {found}", "the positions (--positions FILE:PATH)"
            )
    arrays = [np.squeeze(real_from(source, key, "positions")).astype(np.float64) for key in keys]
    unit = unit_named(source.attributes(keys[0]).get("units"))
    if len(arrays) in (2, 3) and len({array.shape for array in arrays}) == 1:
        y, x = (array.ravel() for array in arrays[:2])
        numbers = None
        if len(arrays) == 3:
            if not np.isfinite(arrays[2]).all():
                raise InputError(f"{path}: {keys[2]}", "holds numbers that are not finite", "numbers of the frames")
            numbers = np.rint(arrays[2].ravel()).astype(np.int64)
        said = f"positions read from {path.name}: {keys[0]} (y), {keys[1]} (x)"
        return Table(str(path), y, x, unit, numbers, said + (f", numbered by {keys[2]}" if len(keys) == 3 else ""))
    shapes = ", ".join(str(array.shape) for array in arrays)
    if len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] in (2, 3):
        three = arrays[0].shape[1] == 3
        columns = (1, 0) if three else (0, 1)
        order = "(x, y, z)" if three else "(y, x)"
        y, x = (arrays[0][:, column] for column in columns)
        return Table(str(path), y, x, unit, None, f"positions {order} read from {path.name}: {keys[0]}")
    raise InputError(
        f"{path}: {inner}",
        f"has shape {shapes}",
        "(K, 2) of y, x; (K, 3) of x, y, z; or PATH_Y,PATH_X; or PATH_Y,PATH_X,PATH_OF_FRAME_NUMBERS",
    )


def _known(file: DataFile) -> Table:
    """Positions of a product, a CXI file, a result or a scan."""
    source, path = file.arrays, file.path
    numbers = next((numbers_from(source, key) for key in _NUMBERS if source.header(key) is not None), None)
    if all(source.header(key) is not None for key in _PRODUCT):
        y, x = (np.ravel(real_from(source, key, "positions")).astype(np.float64) for key in _PRODUCT)
        unit = "px" if str(source.attributes().get("units", "")) == "pixel" else "m"
        said = f"positions read from {path.name}: {', '.join(_PRODUCT)}"
        return Table(str(path), y, x, unit, numbers, said, _probe(file))
    key = next((key for key in TRANSLATIONS if source.header(key) is not None), None)
    if key is not None:
        metres = real_from(source, key, "positions in metres").astype(np.float64)
        if metres.ndim == 2 and metres.shape[1] in (2, 3):
            said = f"positions (x, y, z) read from {path.name}: {key}"
            unit = unit_named(source.attributes(key).get("units")) or "m"
            return Table(str(path), metres[:, 1], metres[:, 0], unit, numbers, said, _probe(file))
    return _of_item(file)


def _of_item(file: DataFile) -> Table:
    found = recognise(file, "positions") or recognise(file)
    if found is None:
        raise unrecognised(file)
    item = found.read(file, LoadOptions())
    if isinstance(item, Table):
        return item
    places = np.asarray(item if found.holds == "positions" else item.positions, np.float64)
    if not len(places):
        raise InputError(file.path, "holds no positions", "one of each frame")
    pixel = None if found.holds == "positions" else _pixel(item)
    unit = None if found.holds == "positions" else "px" if pixel is None else "m"
    y, x = (places * (1.0 if pixel is None else np.asarray(pixel))).T
    said = f"positions read from {file.path.name} ({found.name})"
    return Table(str(file.path), y, x, unit, None, said, getattr(item, "probe", None))


def _pixel(item: Any) -> tuple[float, float] | None:
    """The object pixel in metres of a scan or a result, where it is known."""
    known: tuple[float, float] | None = item.object.pixel_m if hasattr(item, "object") else item.pixel_m
    return known


def _probe(file: DataFile) -> NDArray[Any] | None:
    """The probe of a result that holds the positions too."""
    found = recognise(file, "result")
    return None if found is None else found.read(file, LoadOptions()).probe
