"""A probe alone, out of any file that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import PROBE_KEYS, probe_from
from diptych.ptycho.io.files import file_kind
from diptych.ptycho.io.source import Hdf5Source, NpySource, Source, listed, open_hdf5, open_npz


def read_probe(path: str | Path, size: int | None = None, keys: Sequence[str] = PROBE_KEYS) -> NDArray[np.complex64]:
    """The probe (modes, N, N) in a scan, a result, a product, an NPZ that holds little else, or a single-array NPY
    file.

    Parameters
    ----------
    path : path-like
        The file.
    size : int, optional
        N that the probe must have.
    keys : sequence of str
        Names to look for; the first that is there is taken.

    Raises
    ------
    InputError
        If there is none, it has an unknown shape or another size, or it is zero or not finite.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "npy":
        probe = probe_from(NpySource(path), "probe")
    elif kind == "hdf5":
        with open_hdf5(path) as file:
            probe = _first(Hdf5Source(file, str(path)), keys)
    else:
        with open_npz(path) as source:
            probe = _first(source, keys)
    if size is not None and probe.shape[-1] != size:
        raise InputError(
            f"{path}: the probe is {probe.shape[1]} x {probe.shape[2]} pixels; expected {size} x {size}, as the "
            f"patterns are."
        )
    if not np.isfinite(probe).all() or not probe.any():
        raise InputError(f"{path}: the probe is zero everywhere or not finite; expected one to start from.")
    return probe.astype(np.complex64)


def _first(source: Source, keys: Sequence[str]) -> NDArray[np.complexfloating[Any, Any]]:
    headers = source.headers()
    if (found := next((name for name in keys if name in headers), None)) is None:
        raise InputError(f"{source.where}: holds no probe; expected one of {', '.join(keys)}, found {listed(headers)}.")
    return probe_from(source, found)
