"""Frames of detector files: several datasets in a row, cut to the square around zero frequency, read in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.source.base import Header, refuse_what_does_not_fit

_PART_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Window:
    """The square (``top``, ``left``), ``size`` x ``size``, of frames of the shape ``full``."""

    top: int
    left: int
    size: int
    full: tuple[int, int]

    def cut(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Frames (..., H, W) cut to the square."""
        return frames[..., self.top : self.top + self.size, self.left : self.left + self.size]

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.full == (self.size, self.size)


def window_of(
    full: tuple[int, int], options: LoadOptions, stated: tuple[float, float] | None, where: str, said: list[str]
) -> Window:
    """The square to read: whole frames where they are square and nothing is asked for, else around zero frequency.

    Parameters
    ----------
    full : (int, int)
        Height and width of the stored frames.
    options : LoadOptions
        ``frame_size``, ``centre_y``, ``centre_x``.
    stated : (float, float), optional
        Row and column of zero frequency that the file states.
    where : str
        The file, in messages.
    said : list of str
        Gets a sentence where frames are cut.

    Raises
    ------
    InputError
        If the centre is not known, or the square leaves the frames.
    """
    if (options.centre_y is None) != (options.centre_x is None):
        raise InputError(where, "got one of centre_y and centre_x", "both (--centre-y, --centre-x)")
    given = None if options.centre_y is None or options.centre_x is None else (options.centre_y, options.centre_x)
    if full[0] == full[1] and options.frame_size is None and given is None:
        if stated is not None and (round(stated[0]), round(stated[1])) != (full[0] // 2, full[1] // 2):
            said.append(
                f"frames read whole, with zero frequency at their middle; the file states row {stated[0]:g}, column "
                f"{stated[1]:g}: --frame-size cuts around it"
            )
        return Window(0, 0, full[0], full)
    centre = given or stated or ((full[0] // 2, full[1] // 2) if full[0] == full[1] else None)
    if centre is None:
        raise IncompleteError(
            where,
            f"the frames, {full[0]} x {full[1]} pixels, are not square, and the file does not state where zero "
            "frequency is",
            "its row and column",
            "Pass centre_y, centre_x (--centre-y, --centre-x), and --frame-size for a smaller square.",
        )
    row, column = round(centre[0]), round(centre[1])
    size = options.frame_size or 2 * min(row, column, full[0] - row, full[1] - column)
    top, left = row - size // 2, column - size // 2
    if size < 2 or top < 0 or left < 0 or top + size > full[0] or left + size > full[1]:
        raise InputError(
            where,
            f"a square of {size} pixels around row {row}, column {column} leaves the frames ({full[0]} x {full[1]})",
            "a smaller one, or another centre (--frame-size, --centre-y, --centre-x)",
        )
    by = "as given" if given is not None else "as the file states" if stated is not None else "their middle"
    said.append(f"frames of {full[0]} x {full[1]} cut to {size} x {size} around row {row}, column {column}, {by}")
    return Window(top, left, size, full)


def shape_of(source: TreeSource, keys: Sequence[str]) -> tuple[int, tuple[int, int], np.dtype[Any]]:
    """Number, (height, width) and type of the frames in datasets that follow one another.

    Raises
    ------
    InputError
        If a dataset is missing, its link leads nowhere, or shapes differ.
    """
    count, full, kind = 0, None, None
    for key in keys:
        header = source.header(key)
        if header is None or len(header.shape) not in (2, 3, 4) or header.dtype.kind not in "buif":
            found = "is no dataset" if header is None else f"has shape {header.shape} and type {header.dtype}"
            raise InputError(f"{source.where}: {key}", found, "frames (number, y, x)")
        if full is not None and header.shape[-2:] != full:
            raise InputError(f"{source.where}: {key}", f"has frames of {header.shape[-2:]}", f"{full}, as {keys[0]}")
        if (verify := getattr(source, "verify", None)) is not None:
            verify(key)
        full = header.shape[-2:]
        kind = header.dtype if kind is None else np.promote_types(kind, header.dtype)
        count += int(np.prod(header.shape[:-2]))
    if full is None or kind is None or count == 0 or 0 in full:
        raise InputError(source.where, "holds no frames", "at least one")
    return count, (int(full[0]), int(full[1])), kind


def read_frames(source: TreeSource, keys: Sequence[str], window: Window) -> NDArray[Any]:
    """The frames (M, N, N) of datasets that follow one another, cut to the window; read in parts of 64 MB.

    Raises
    ------
    InputError
        As :func:`shape_of`, or if memory does not suffice.
    """
    count, full, kind = shape_of(source, keys)
    refuse_what_does_not_fit(Header((count, window.size, window.size), kind), source.where, keys[0])
    out = np.empty((count, window.size, window.size), kind.newbyteorder("="))
    place = 0
    for key in keys:
        header = source.header(key)
        assert header is not None
        if len(header.shape) == 2:
            out[place] = window.cut(source.read(key))
            place += 1
            continue
        # Of an axis of one and one of many, parts are taken along the second.
        axis = 1 if len(header.shape) == 4 and header.shape[0] == 1 else 0
        length = header.shape[axis]
        one = full[0] * full[1] * kind.itemsize * max(int(np.prod(header.shape[:-2])) // max(length, 1), 1)
        step = max(1, _PART_BYTES // one)
        for start in range(0, length, step):
            part = source.read_part(key, np.arange(start, min(start + step, length)), axis)
            part = window.cut(part).reshape(-1, window.size, window.size)
            out[place : place + len(part)] = part
            place += len(part)
    return out


def raster_of(source: TreeSource, keys: Sequence[str]) -> tuple[int, int] | None:
    """Rows and columns of frames that one dataset holds as (rows, columns, y, x), more than one of each."""
    header = source.header(keys[0]) if len(keys) == 1 else None
    shape = () if header is None else header.shape
    return (int(shape[0]), int(shape[1])) if len(shape) == 4 and min(shape[:2]) > 1 else None
