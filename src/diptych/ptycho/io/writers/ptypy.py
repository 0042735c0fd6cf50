"""Writing files of PtyPy: prepared scans (``.ptyd``) and results (``.ptyr``).

PtyPy reads every item by its attribute ``type``: dict, param, array, scalar, string, arraytuple, list or None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.files import writing
from diptych.ptycho.io.source import write_hdf5
from diptych.ptycho.io.writers.lengths import losses, pixel_m
from diptych.ptycho.scan import Geometry, Reconstruction, Scan

H5RW_VERSION = "0.1"
PTYD_VERSION = 0.1
_STORAGE = "S00"


def put(parent: Any, name: str, value: Any, kind: str = "") -> None:
    """Store ``value`` with the attribute by which PtyPy knows what it was in Python.

    Parameters
    ----------
    parent : h5py.Group
        Where to.
    name : str
        Under which name.
    value
        A mapping, a list of mappings, an array, a number, a text or None.
    kind : str, optional
        The attribute; by default it follows from the value.
    """
    if isinstance(value, dict | list):
        group = parent.create_group(name)
        group.attrs["type"] = kind or ("dict" if isinstance(value, dict) else "list")
        items = value.items() if isinstance(value, dict) else ((f"{n:05d}", item) for n, item in enumerate(value))
        for key, item in items:
            put(group, key, item)
        return
    if value is None:
        stored: Any = np.zeros(1)
        kind = "None"
    else:
        stored = value
        usual = "string" if isinstance(value, str) else "array" if np.ndim(value) else "scalar"
        kind = kind or usual
    parent[name] = stored
    parent[name].attrs["type"] = kind


def write_ptyd(scan: Scan, path: Path) -> None:
    """Write ``scan`` as a prepared scan of PtyPy: one chunk with all frames, positions in metres.

    A near field with a focus is written as the parallel beam that gives the same images (Fresnel scaling theorem):
    this is what PtyPy computes with. Probe, background and truth have no place and are left out.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the geometry is not complete.
    """
    import h5py

    pixel, geometry = pixel_m(scan, path, "a prepared scan of PtyPy"), scan.geometry or Geometry()
    if geometry.energy_eV is None or geometry.distance_m is None or geometry.detector_pixel_m is None:
        raise InputError(path, "the scan has no energy", "an energy", "Pass --energy-eV.")
    near = geometry.propagation == "near"
    side = np.asarray(geometry.detector_pixel_m) / (geometry.magnification or 1.0)
    distance = geometry.effective_distance_m if near else geometry.distance_m
    count, size = len(scan), scan.size
    mask = np.ones((size, size), bool) if scan.mask is None else scan.mask
    about: dict[str, Any] = {
        "version": PTYD_VERSION,
        "num_frames": count,
        "label": None,
        "shape": np.array([size, size]),
        "psize": side,
        "energy": geometry.energy_eV / 1e3,
        "center": np.array([size // 2, size // 2], np.float64),
        "distance": distance,
    }
    info = {
        "name": scan.name,
        "propagation": "nearfield" if near else "farfield",
        "electron_data": geometry.particle == "electron",
        "orientation": 0,
        "num_frames": None,
        "positions_theory": None,
    }
    chunk = {
        "data": scan.counts,
        "indices": np.arange(count),
        "positions": scan.positions * pixel,
        "weights": np.broadcast_to(mask, scan.counts.shape),
    }
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["h5rw_version"] = H5RW_VERSION
        put(file, "chunks", {"0": chunk})
        file["chunks/0/indices"].attrs["type"] = "arraylist"
        put(file, "meta", about)
        put(file, "info", about | info)


def write_ptyr(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as PtyPy writes its results of the kind "minimal", with the positions beside them.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known.
    """
    pixel, geometry = np.asarray(pixel_m(result, path, "a result of PtyPy")), result.geometry or Geometry()
    energy = None if geometry.energy_eV is None else geometry.energy_eV / 1e3
    half = result.probe.shape[-1] // 2
    origin = np.asarray(result.object.origin) * pixel
    epochs, values = losses(result)
    rows = [
        {"iteration": int(epoch), "iterations": int(epoch), "engine": "diptych", "error": np.array([value, 0.0, 0.0])}
        for epoch, value in zip(epochs, values, strict=True)
    ]
    data = {"name": "diptych", "energy": energy, "distance": geometry.distance_m}
    data["electron_data"] = geometry.particle == "electron"
    data["propagation"] = "nearfield" if geometry.propagation == "near" else "farfield"
    content = {
        "obj": {_STORAGE: _storage(result.object.values[None], pixel, origin, energy)},
        "probe": {_STORAGE: _storage(result.probe, pixel, -half * pixel, energy)},
        "positions": {_STORAGE: result.positions * pixel},
        "pars": {"run": result.name, "scans": {_STORAGE: {"name": "Full", "data": data}}},
        "runtime": {"run": result.name, "iter_info": rows},
    }
    with writing(path) as temporary, write_hdf5(temporary) as file:
        file.attrs["h5rw_version"] = H5RW_VERSION
        put(file, "header", {"kind": "minimal", "description": "Ptypy .h5 compatible storage format"})
        put(file, "content", content, "param")
        for name in ("pars", "runtime"):
            file[f"content/{name}"].attrs["type"] = "param"


def _storage(
    data: NDArray[Any], pixel: NDArray[np.float64], origin: NDArray[np.float64], energy: float | None
) -> dict[str, Any]:
    """A storage of PtyPy: layers (L, y, x), the pixel and the coordinate of pixel [0, 0] in metres."""
    return {
        "ID": _STORAGE,
        "data": data,
        "_psize": pixel,
        "_origin": origin,
        "_center": -origin / pixel,
        "_energy": energy,
        "shape": np.array(data.shape),
        "nlayers": len(data),
        "layermap": np.arange(len(data)),
        "fill_value": 0.0,
        "padding": 0,
        "padonly": False,
        "numID": 1,
        "model_initialized": True,
    }
