"""A scan whose arrays the user names by their paths in the file, whatever its layout (``--patterns-at`` and others)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io import convert
from diptych.ptycho.io.fields import geometry_from, probe_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import window_of
from diptych.ptycho.io.scans.raster import sequence_positions
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.scan import Scan


def read_at(file: DataFile, options: LoadOptions) -> Scan:
    """The scan at the paths that the options name.

    ``positions_at`` names one array (M, 2) of (y, x), or two arrays (M,), y before x, separated by a comma. Without it
    positions come from another file, or are those of a raster; frames may then have any shape, and are cut.

    Raises
    ------
    InputError
        If a path leads to no array, an array has another shape, or the options leave open what the patterns are.
    """
    source, where = file.arrays, f"{file.path}: {options.patterns_at!r}"
    key = options.patterns_at or ""
    patterns = _at(source, key, "patterns_at")
    if options.domain == "auto":
        raise IncompleteError(
            where,
            "the path does not say whether the patterns are counts or amplitudes",
            remedy="Pass domain='counts' (--domain counts) or domain='amplitude' (--domain amplitude).",
        )
    said: list[str] = []
    elsewhere = options.positions is not None or options.scan_step is not None
    if elsewhere and options.positions_at is None:
        values, raster = _sequence(patterns, options, str(file.path))
        window = window_of((int(values.shape[1]), int(values.shape[2])), options, None, str(file.path), said)
        y, x = sequence_positions(options, len(values), str(file.path), key, said, raster)
    else:
        y, x = _positions(source, options)
        values, said = convert.arrange_axes(patterns, len(y), options.axes, str(file.path), key)
        window = window_of((int(values.shape[1]), int(values.shape[2])), options, None, str(file.path), said)
    mask = None if options.mask_at is None else window.cut(_mask(source, options, values.shape))
    values = values if window.whole else np.ascontiguousarray(window.cut(values))
    probe = None
    if options.probe_at is not None:
        _at(source, options.probe_at, "probe_at", read=False)
        probe = probe_from(source, options.probe_at)
    return finish(
        RawScan(
            where=str(file.path),
            name=file.path.stem,
            values=values,
            y=y,
            x=x,
            domain=options.domain,
            scale=1.0 if options.scale is None else options.scale,
            probe=probe,
            mask=mask,
            mask_means="bad" if options.mask_means == "bad" else "valid",
            geometry=geometry_from(source, options),
            metadata={"layout": "arrays named by their paths", "stored_domain": options.domain},
            said=said,
            sources={"patterns": options.patterns_at or "", "positions": options.positions_at or "ycoords, xcoords"}
            | {"mask": options.mask_at or "", "probe": options.probe_at or ""},
            order="patterns as named, positions (y, x)",
        ),
        options,
    )


def _sequence(patterns: NDArray[Any], options: LoadOptions, where: str) -> tuple[NDArray[Any], tuple[int, int] | None]:
    """Patterns (M, H, W), and rows and columns where the array has axes of a raster."""
    if patterns.ndim == 3:
        return (np.moveaxis(patterns, -1, 0) if options.axes == "HWM" else patterns), None
    if patterns.ndim != 4 or options.axes == "HWM":
        raise InputError(
            f"{where}: {options.patterns_at}",
            f"has shape {patterns.shape}",
            "(patterns, y, x), or (rows, columns, y, x) of a raster",
        )
    rows, columns = patterns.shape[:2]
    raster = (int(rows), int(columns)) if min(rows, columns) > 1 else None
    return patterns.reshape(-1, *patterns.shape[2:]), raster


def _at(source: TreeSource, path: str, option: str, read: bool = True) -> NDArray[Any]:
    """The real array at ``path``."""
    if source.header(path) is None:
        found = listed(name for name, header in source.walk() if not isinstance(header, str))
        flag = "--" + option.replace("_", "-")
        raise InputError(f"{source.where}: {path!r}", "there is no array", f"{flag} with one of {found}")
    return real_from(source, path, option.removesuffix("_at")) if read else np.empty(0)


def _positions(source: TreeSource, options: LoadOptions) -> tuple[NDArray[Any], NDArray[Any]]:
    paths = [part.strip() for part in (options.positions_at or "").split(",") if part.strip()]
    if not paths and source.header("ycoords") is not None and source.header("xcoords") is not None:
        paths = ["ycoords", "xcoords"]
    columns = [_at(source, path, "positions_at") for path in paths]
    if len(columns) == 1 and columns[0].ndim == 2 and 2 in columns[0].shape:
        table = columns[0] if columns[0].shape[1] == 2 else columns[0].T
        return table[:, 0], table[:, 1]
    if len(columns) == 2 and all(column.size == max(column.shape, default=0) for column in columns):
        return columns[0].ravel(), columns[1].ravel()
    raise InputError(
        f"{source.where}: positions",
        f"found {'nothing' if not columns else ', '.join(str(column.shape) for column in columns)}",
        "one array (patterns, 2) of (y, x), or two arrays of one coordinate each",
        "Pass positions_at='PATH' or 'PATH_OF_Y,PATH_OF_X' (--positions-at), or --positions FILE.",
    )


def _mask(source: TreeSource, options: LoadOptions, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True = valid, as ``mask_means`` says."""
    path = options.mask_at or ""
    if source.header(path) is None:
        _at(source, path, "mask_at")
    stored = source.read(path)
    if stored.shape == (1, *shape[1:]):
        stored = stored[0]
    if stored.shape not in (shape, shape[1:]):
        raise InputError(f"{source.where}: {path!r}", f"the mask has shape {stored.shape}", f"{shape[1:]} or {shape}")
    return np.asarray(stored == 0 if options.mask_means == "bad" else stored != 0, np.bool_)
