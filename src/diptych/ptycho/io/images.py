"""One real image (N, N) out of a file: a mask, a dark frame, a flat field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.files import opened
from diptych.ptycho.io.source import listed
from diptych.ptycho.io.source.base import Header


def read_image(named: str, size: int, what: str) -> NDArray[Any]:
    """The image that ``named`` (``FILE`` or ``FILE:PATH``) leads to; a stack (frames, N, N) is averaged.

    Parameters
    ----------
    named : str
        An NPY file, or an NPZ or HDF5 file with one array of that shape, or with the path of the array after a colon.
    size : int
        N.
    what : str
        What it is, for messages.

    Raises
    ------
    InputError
        If there is no such file or array, or it has another shape.
    """
    path, _, key = (named, "", "") if Path(named).exists() else named.rpartition(":")
    expected = f"{what}, {size} x {size} real numbers"
    if not Path(path).is_file():
        raise InputError(named, "there is no such file", expected)
    with opened(Path(path)) as file:
        arrays = file.arrays
        headers = {name: found for name, found in arrays.walk() if isinstance(found, Header)}
        names = list(headers)
        if not key:
            fitting = [name for name, found in headers.items() if found.shape[-2:] == (size, size)]
            if len(fitting) != 1:
                raise InputError(
                    path,
                    f"holds {len(fitting)} arrays of that shape; it holds {listed(names)}",
                    expected,
                    "Name one: FILE:PATH.",
                )
            key = fitting[0]
        if key not in headers:
            raise InputError(path, f"holds no {key!r}; it holds {listed(names)}", expected)
        values = np.asarray(arrays.read(key))
    if values.dtype.kind not in "biuf" or values.shape[-2:] != (size, size) or values.ndim not in (2, 3):
        raise InputError(path, f"{key!r} has shape {values.shape} and type {values.dtype}", expected)
    if values.ndim == 2:
        return values
    return np.asarray(values.all(0) if values.dtype == bool else values.mean(0, dtype=np.float64))
