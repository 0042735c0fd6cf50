"""Files that were made to do harm: they run code, fill the memory, or lead to other files."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from typing import Any

import numpy as np


class Trap:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/diptych-hacked",)


def npz(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """An NPY file that states a shape, and has no values."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def pickled() -> bytes:
    return header((1,), "|O") + pickle.dumps(Trap())


def array(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


XY = {name: array(np.arange(4.0)) for name in ("xcoords", "ycoords")}

FILES = {
    "pickle.npz": npz(diffraction=pickled(), diff3d=pickled(), **XY),
    "pickle.npy": pickled(),
    "huge.npz": npz(diffraction=header((10**6, 10**5, 10**5)), diff3d=header((10**6, 10**5, 10**5)), **XY),
    "bomb.npz": npz(diff3d=header((4, 12_000, 12_000)) + bytes(1_000_000), **XY),
    "truncated.npz": npz(diff3d=array(np.ones((4, 16, 16))), **XY)[:-200],
    "markup.h5": b"<script>window.hacked=1</script>",
}
"""By name."""
