"""Frames as TIFF: one file with a page for each frame, or a folder with a file for each. Positions lie elsewhere.

Files of a folder are taken in the order of the numbers in their names: ``f_2.tif`` before ``f_10.tif``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import CUT, RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.detectors.frames import Window, window_of
from diptych.ptycho.io.scans.raster import sequence_positions
from diptych.ptycho.io.source.base import Header, brief, refuse_what_does_not_fit
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_MOST_FILES = 1_000_000


def read_images(path: Path, options: LoadOptions) -> RawScan:
    """The frames in a TIFF file, or in the TIFF files of a folder, as stored.

    Raises
    ------
    InputError
        If pages are damaged or differ in shape, or positions are not given.
    UnavailableError
        If tifffile is not installed.
    """
    where = str(path)
    files = _files(path) if path.is_dir() else [path]
    with _opened(files[0]) as first:
        stack, kind = _shape(first, files[0])
    full = (int(stack[-2]), int(stack[-1]))
    count = len(files) * int(np.prod(stack[:-2]))
    said = [f"patterns read from {path.name}: {count} frames" + (f" in {len(files)} files" if path.is_dir() else "")]
    window = window_of(full, options, None, where, said)
    raster = (int(stack[0]), int(stack[1])) if len(stack) == 4 and len(files) == 1 and min(stack[:2]) > 1 else None
    y, x = sequence_positions(options, count, where, path.name, said, raster)
    refuse_what_does_not_fit(Header((count, window.size, window.size), kind), where, path.name)
    return RawScan(
        where=where,
        name=path.stem,
        values=_values(files, stack, kind, window),
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry_of(options, where),
        metadata={"layout": "TIFF frames", "stored_domain": "counts"},
        said=said,
        sources={"patterns": path.name},
        order="patterns (frame, y, x)",
        unit=options.position_unit,
    )


def _values(files: Sequence[Path], stack: tuple[int, ...], kind: np.dtype[Any], window: Window) -> NDArray[Any]:
    """All frames (M, N, N), cut to the window; one file is in memory at a time."""
    each = int(np.prod(stack[:-2]))
    out = np.empty((len(files) * each, window.size, window.size), kind.newbyteorder("="))
    for number, path in enumerate(files):
        with _opened(path) as file:
            shape, other = _shape(file, path)
            if shape != stack or other != kind:
                found = f"has the shape {shape} and type {other}"
                raise InputError(path, found, f"{stack} and {kind}, as {files[0].name}")
            frames = np.asarray(file.series[0].asarray()).reshape(each, *window.full)
        out[number * each : (number + 1) * each] = window.cut(frames)
    return out


def _shape(file: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (..., y, x) and type of the frames in an open file."""
    series, *others = file.series
    shape, kind = tuple(int(side) for side in series.shape), np.dtype(series.dtype)
    refuse_what_does_not_fit(Header(shape, kind), str(path), "its pages")
    if others or len(shape) not in (2, 3, 4) or min(shape, default=0) < 1 or kind.kind not in "uif":
        further = f", and {len(others)} series of other shapes" if others else ""
        found = f"has the shape {shape} and type {kind}{further}"
        raise InputError(path, found, "frames of one shape with one number for each pixel")
    return shape, kind


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import tifffile
    except ImportError:
        raise UnavailableError(
            "TIFF needs tifffile, which is not installed. Run: pip install 'diptych[formats]'"
        ) from None
    log = logging.getLogger("tifffile")
    silent, log.disabled = log.disabled, True
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except (InputError, UnavailableError):
        raise
    except Exception as error:
        # Damage shows as any of the library's exceptions, and as thousands of lines in its log.
        raise InputError(path, f"the TIFF file is damaged ({brief(error)})", remedy="Write it again.") from None
    finally:
        log.disabled = silent


def _files(folder: Path) -> list[Path]:
    """The TIFF files of a folder, in the order of the numbers in their names."""
    found = [each for each in folder.iterdir() if each.suffix.lower() in (".tif", ".tiff") and each.is_file()]
    if len(found) > _MOST_FILES:
        raise InputError(folder, f"holds {len(found)} TIFF files", f"{_MOST_FILES} at most")

    def order(path: Path) -> tuple[list[int], str]:
        return [int(digits) for digits in re.findall(r"\d{1,15}", path.stem)], path.name

    return sorted(found, key=order)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in _MAGIC


def _matches(file: DataFile) -> bool:
    if file.kind != "other":
        return False
    if file.path.is_dir():
        return bool(found := _files(file.path)) and _is_tiff(found[0])
    return file.path.is_file() and _is_tiff(file.path)


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_images(file.path, options), options.with_changes(mask_invalid=True))


FORMAT = Format(
    name="tiff-frames",
    help="Frames as TIFF: pages of one file, or a folder with a file for each; positions from another file.",
    options=NoOptions,
    holds="scan",
    takes=(*CUT, *RASTER),
    matches=_matches,
    read=_read,
)
