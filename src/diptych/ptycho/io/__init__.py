"""Files in and out: ``load`` finds the format by the content, ``save`` by the suffix."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError, UnavailableError, to_type
from diptych.ptycho.io.fields import OBJECT_KEYS, canvas_from
from diptych.ptycho.io.files import DataFile, opened
from diptych.ptycho.io.formats import (
    CUT,
    FORMATS,
    RASTER,
    Format,
    recognise,
    refuse_others,
    refuse_unused,
    unrecognised,
    writer,
)
from diptych.ptycho.io.layouts.find import chosen_layout, fitting_layout
from diptych.ptycho.io.layouts.read import read_layout
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.probe import read_probe
from diptych.ptycho.io.scans.hdf5 import scan_group
from diptych.ptycho.io.scans.paths import read_at
from diptych.ptycho.io.source import listed
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.files import is_full, needs

__all__ = [
    "FORMATS",
    "LoadOptions",
    "bytes_of",
    "load",
    "load_object",
    "load_result",
    "load_scan",
    "read_probe",
    "save",
    "scan_group",
]


def load(path: str | Path, options: LoadOptions | None = None, **overrides: Any) -> Scan | Reconstruction:
    """Read a scan or a result; the format is found by the content, never by the suffix.

    Parameters
    ----------
    path : path-like
        A scan (NPZ or HDF5, canonical or legacy keys; tike's raw layout), a result (NPZ), a Ptychodus product (HDF5 or
        NPZ), or a file of an installed format. Nothing is ever unpickled.
    options : LoadOptions, optional
        What the file does not state itself; the defaults rely on what the file states.
    **overrides
        Single options by name, for instance ``domain="amplitude"``.

    Returns
    -------
    Scan or Reconstruction

    Raises
    ------
    InputError
        If the file is missing, damaged, ambiguous or wrong; the message says what was found, what was expected and the
        remedy.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> path = diptych.save(scan, "scan.npz")
    >>> diptych.load("scan.npz").counts.shape
    (25, 16, 16)

    A file that does not declare whether it holds counts or amplitudes needs ``domain``:

    >>> import numpy as np
    >>> y, x = scan.positions.T
    >>> np.savez("bare.npz", diff3d=scan.counts, ycoords=y, xcoords=x)
    >>> diptych.load("bare.npz", domain="counts").counts.shape
    (25, 16, 16)
    """
    path, options = Path(path), _options(options, overrides)
    with opened(path) as file:
        if (scan := _as_told(file, options)) is not None:
            return scan
        found = recognise(file)
        if found is None or found.holds == "positions":
            raise _not_an_item(file, found)
        if found.holds == "result":
            _refuse_options(path, options)
        refuse_unused(found, path, options)
        item: Scan | Reconstruction = found.read(file, options)
        return item


def load_scan(path: str | Path, options: LoadOptions | None = None, **overrides: Any) -> Scan:
    """Like :func:`load`, but only a scan is accepted; of a product that bundles its patterns (``/raw_data``) the scan
    is read.
    """
    path, options = Path(path), _options(options, overrides)
    with opened(path) as file:
        if (scan := _as_told(file, options)) is not None:
            return scan
        found = recognise(file, "scan")
        if found is not None:
            refuse_unused(found, path, options)
            read: Scan = found.read(file, options)
            return read
        if (positions := recognise(file, "positions")) is not None:
            raise _not_an_item(file, positions)
        if recognise(file, "result") is None:
            raise unrecognised(file)
        raise InputError(path, "holds a result (object and probe), no diffraction patterns", "a scan")


def load_result(path: str | Path) -> Reconstruction:
    """Like :func:`load`, but only a result is accepted."""
    path = Path(path)
    with opened(path) as file:
        found = recognise(file)
        if found is None:
            raise unrecognised(file)
        if found.holds != "result":
            raise InputError(path, "holds a scan (diffraction patterns)", "a result (object and probe)")
        result: Reconstruction = found.read(file, LoadOptions())
        return result


def load_object(path: str | Path) -> Canvas:
    """The object in a result, or the true object in a scan (whose patterns are not read)."""
    path = Path(path)
    with opened(path) as file:
        found = recognise(file)
        if found is not None and found.holds == "result":
            result: Reconstruction = found.read(file, LoadOptions())
            return result.object
        arrays = file.arrays
        keys = (*(() if found is None else found.datasets.get("object", ())), *OBJECT_KEYS)
        for key in keys:
            if (canvas := canvas_from(arrays, key)) is not None:
                return canvas
        raise InputError(path, f"holds no object; found {listed(arrays.names())}", f"one of {', '.join(OBJECT_KEYS)}")


def save(item: Scan | Reconstruction, path: str | Path, format: str | None = None) -> Path:
    """Write a result as ``.h5`` (Ptychodus product) or ``.npz``, or a scan as ``.npz``; :func:`load` reads it back
    exactly.

    The file appears in one step: a reader sees the old one or the new one, never a part.

    Parameters
    ----------
    item : Scan or Reconstruction
        What to write.
    path : path-like
        Where to.
    format : str, optional
        Name of the format; without it the suffix decides.

    Raises
    ------
    InputError
        If no format has the suffix, the folder does not exist, or metadata cannot be written as JSON.
    UnavailableError
        If the file system refuses; on a full disk the message says how many bytes are needed.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> result = diptych.reconstruct(scan, epochs=2)
    >>> path = diptych.save(result, "result.h5")
    >>> bool((diptych.load(path).object.values == result.object.values).all())
    True
    """
    path = Path(path)
    if not isinstance(item, Scan | Reconstruction):
        raise InputError("save", f"got a {type(item).__name__}", "a Scan or a Reconstruction")
    write = writer(item, path, format).write
    assert write is not None
    try:
        write(item, path)
    except UnavailableError as error:
        if not (isinstance(error.__cause__, OSError) and is_full(error.__cause__)):
            raise
        raise UnavailableError(f"{str(error).rstrip('.')}: {needs(path, bytes_of(item))}.") from error.__cause__
    return path


def bytes_of(item: Scan | Reconstruction) -> int:
    """Bytes of the arrays of a scan or a result: what its file needs at most, but for a few kB."""
    parts = (getattr(item, each.name) for each in dataclasses.fields(item))
    arrays = (part.values if isinstance(part, Canvas) else part for part in parts)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def _as_told(file: DataFile, options: LoadOptions) -> Scan | None:
    """The scan where the user says how to read the file: by paths, by a layout, or by an installed layout that fits."""
    if options.patterns_at is not None:
        refuse_others("arrays named by their paths", (*CUT, *RASTER, "axes"), file.path, options)
        return read_at(file, options)
    layout = None
    if options.layout is not None:
        layout = chosen_layout(options.layout)
    elif file.kind in ("hdf5", "npz", "matlab"):
        layout = fitting_layout(file.arrays)
    if layout is None:
        return None
    refuse_others(f"the layout {layout.name}", (*CUT, *RASTER), file.path, options)
    return read_layout(file, layout, options)


def _not_an_item(file: DataFile, found: Format | None) -> InputError:
    if found is None or file.problem is not None:
        return unrecognised(file)
    return InputError(
        file.path,
        f"holds positions ({found.name}), no diffraction patterns",
        "a scan or a result",
        to_type(
            "To use it with the patterns", f"diptych reconstruct PATTERNS --positions {shlex.quote(file.path.name)}"
        ),
    )


def _options(options: LoadOptions | None, overrides: dict[str, Any]) -> LoadOptions:
    chosen = (options or LoadOptions()).with_changes(**overrides).in_photons()
    paths = [name for name in ("positions_at", "probe_at", "mask_at") if getattr(chosen, name) is not None]
    if paths and chosen.patterns_at is None:
        raise InputError("load", f"{', '.join(paths)} without patterns_at", "patterns_at=... (--patterns-at PATH) too")
    return chosen


def _refuse_options(path: Path, options: LoadOptions) -> None:
    """Options say how to read a scan; with a result they would be ignored silently."""
    stated = sorted(key for key, value in options if value != LoadOptions.model_fields[key].default)
    if stated:
        raise InputError(path, f"holds a result, to which {', '.join(stated)} cannot apply", "a scan")
