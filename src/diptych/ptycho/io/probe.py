"""A probe alone, out of any file that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import PROBE_KEYS, probe_from
from diptych.ptycho.io.files import opened
from diptych.ptycho.io.formats import recognise
from diptych.ptycho.io.source import listed


def read_probe(path: str | Path, size: int | None = None, keys: Sequence[str] = PROBE_KEYS) -> NDArray[np.complex64]:
    """The probe (modes, N, N) in a scan, a result, a product, an NPZ with few other arrays, or a single-array NPY file.

    Parameters
    ----------
    path : path-like
        The file.
    size : int, optional
        N that the probe must have.
    keys : sequence of str
        Names to look for; the first that exists is used.

    Raises
    ------
    InputError
        If there is none, it has an unknown shape or another size, or it is zero or not finite.
    """
    path = Path(path)
    with opened(path) as file:
        arrays = file.arrays
        if file.kind == "npy":
            probe = probe_from(arrays, "probe")
        else:
            found = next((name for name in keys if arrays.header(name) is not None), None)
            if found is None and (format_ := recognise(file)) is not None:
                own = format_.datasets.get("probe", ())
                found = next((name for name in own if arrays.header(name) is not None), None)
            if found is None:
                raise InputError(path, f"holds no probe; found {listed(arrays.names())}", f"one of {', '.join(keys)}")
            probe = probe_from(arrays, found)
    if size is not None and probe.shape[-1] != size:
        raise InputError(
            path, f"the probe is {probe.shape[1]} x {probe.shape[2]} pixels", f"{size} x {size}, as the patterns are"
        )
    if not np.isfinite(probe).all() or not probe.any():
        raise InputError(path, "the probe is zero everywhere or not finite", "one to start from")
    return probe.astype(np.complex64)
