"""Writing results as cdtools (HDF5), PtychoShelves (MATLAB v5) and PtyRAD (HDF5) keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.io.files import writing
from diptych.ptycho.io.source import write_hdf5
from diptych.ptycho.io.writers.lengths import corners, losses, pixel_m, square
from diptych.ptycho.scan import Geometry, Reconstruction

ANGSTROM_M = 1e-10
OWN_ORIGIN = "diptych_origin"
"""The coordinate (y, x) of the object's first pixel, for which these formats have no field of their own."""


def write_cdtools(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as cdtools keeps the results of its model FancyPtycho (``from_results_h5`` opens it).

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known.
    """
    pixel, geometry = pixel_m(result, path, "a result of cdtools"), result.geometry or Geometry()
    state = _fancy_ptycho(result, pixel, geometry)
    values = losses(result)[1]
    repeated = ("original_translations", "background", "weights", "wavelength", "oversampling")
    plain: dict[str, Any] = {
        "obj": result.object.values,
        "probe": result.probe,
        "obj_basis": state["obj_basis"],
        "probe_basis": state["probe_basis"],
        "translations": state["original_translations"],
        **{name: state[name] for name in repeated},
        "loss_history": values,
        "epoch": len(values),
        "training_history": "",
        "loss_function": "amplitude mse",
        "model_class": "FancyPtycho",
        **{f"state_dict/{name}": value for name, value in state.items()},
    }
    with writing(path) as temporary, write_hdf5(temporary) as file:
        for name, value in plain.items():
            file[name] = value


def _fancy_ptycho(result: Reconstruction, pixel: tuple[float, float], geometry: Geometry) -> dict[str, Any]:
    """The state of the model FancyPtycho: its probe has a largest modulus of 1, and ``probe_norm`` scales it."""
    basis, size, count = _basis(pixel), result.probe.shape[-1], len(result.positions)
    norm = float(np.abs(result.probe).max()) or 1.0
    state: dict[str, Any] = {
        "obj": result.object.values,
        "probe": (result.probe / norm).astype(np.complex64),
        "probe_norm": np.float32(norm),
        "obj_basis": basis,
        "probe_basis": basis,
        "min_translation": np.asarray(result.object.origin, np.float64),
        "original_translations": _sample_translations(result, pixel),
        "background": np.zeros((size, size), np.float32),
        "weights": np.ones(count, np.float32),
        "wavelength": geometry.wavelength_m or 0.0,
        "oversampling": 1,
        "near_field": geometry.propagation == "near",
    }
    if geometry.detector_pixel_m is not None:
        state["det_basis"] = _basis(geometry.detector_pixel_m)
    if geometry.distance_m is not None:
        state["det_distance"] = geometry.distance_m
    return state


def _basis(pixel: tuple[float, float]) -> NDArray[np.float64]:
    """Steps (3, 2) of rows and columns in the laboratory (x, y, z), for a pixel (y, x)."""
    height, width = pixel
    return np.array([[0.0, -width], [-height, 0.0], [0.0, 0.0]])


def _sample_translations(result: Reconstruction, pixel: tuple[float, float]) -> NDArray[np.float64]:
    """Translations (M, 3) of the sample, m: against the positions, along axes whose steps are negative."""
    height, width = pixel
    first = result.positions - result.probe.shape[-1] // 2
    return np.stack([-first[:, 1] * width, -first[:, 0] * height, np.zeros(len(first))], axis=1)


def write_ptychoshelves(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as PtychoShelves and fold_slice keep theirs: object, probe (N, N, modes) and the struct ``p``.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known.
    """
    from scipy.io import savemat

    pixel, geometry = pixel_m(result, path, "a result of PtychoShelves"), result.geometry or Geometry()
    first, size = corners(result), result.probe.shape[-1]
    shape = np.asarray(result.object.shape, np.float64)
    parameters: dict[str, Any] = {
        "dx_spec": np.asarray(pixel),
        "positions": first,
        "asize": np.array([size, size], np.float64),
        "object_size": shape,
        "lambda": geometry.wavelength_m or 0.0,
        "z": geometry.distance_m or 0.0,
        "energy": (geometry.energy_eV or 0.0) / 1e3,
        OWN_ORIGIN: np.asarray(result.object.origin, np.float64),
    }
    arrays = {
        "object": result.object.values,
        "probe": np.moveaxis(result.probe, 0, -1),
        "p": parameters,
        "outputs": {"probe_positions": (first + size // 2 - shape / 2)[:, ::-1], "fourier_error": losses(result)[1]},
    }
    with writing(path) as temporary, temporary.open("wb") as file:
        savemat(file, arrays)


def write_ptyrad(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as PtyRAD keeps its model: amplitude and phase (object modes, layers, y, x), angstroms.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known or not square.
    """
    pixel, geometry = pixel_m(result, path, "a result of PtyRAD"), result.geometry or Geometry()
    side = square(pixel, path, "PtyRAD")
    first = corners(result)
    whole = np.floor(first)
    epochs, values = losses(result)
    content: dict[str, Any] = {
        "optimizable_tensors/obja": np.abs(result.object.values)[None, None],
        "optimizable_tensors/objp": np.angle(result.object.values)[None, None],
        "optimizable_tensors/probe": result.probe,
        "optimizable_tensors/probe_pos_shifts": first - whole,
        "model_attributes/crop_pos": whole.astype(np.int64),
        "model_attributes/dx": side / ANGSTROM_M,
        f"model_attributes/{OWN_ORIGIN}": np.asarray(result.object.origin, np.int64),
        "loss_iters": np.stack([epochs.astype(np.float64), values], axis=1),
    }
    if geometry.wavelength_m is not None:
        content["model_attributes/lambd"] = geometry.wavelength_m / ANGSTROM_M
    with writing(path) as temporary, write_hdf5(temporary) as file:
        for name, value in content.items():
            file[name] = value
