"""Writing results as Ptychodus products in NPZ and CXI; the HDF5 product is written by its reader's module.

Both hold the keys of Ptychodus 1.7 and those of 2024 (``photon_energy_eV`` and ``probe_energy_eV``, ``loss_values`` and
``costs``), so that either version opens them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.io.fields import LAYER_SPACING
from diptych.ptycho.io.files import writing
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C
from diptych.ptycho.io.source import write_hdf5, write_npz
from diptych.ptycho.io.writers.lengths import losses, photons, pixel_m
from diptych.ptycho.scan import Geometry, Reconstruction

CXI_VERSION = 160


def numbers(result: Reconstruction) -> dict[str, float | bool]:
    """The numbers of a product that Ptychodus keeps beside its arrays, under the names of 1.7 and of 2024."""
    geometry = result.geometry or Geometry()
    energy = geometry.energy_eV or 0.0
    return {
        "detector_object_distance_m": geometry.distance_m or 0.0,
        "photon_energy_eV": energy,
        "probe_energy_eV": energy,
        "probe_photon_count": photons(result.probe),
        "exposure_time_s": 0.0,
        "mass_attenuation_m2_kg": 0.0,
        "mass_attenuation_m2_per_kg": 0.0,
        "tomography_angle_deg": 0.0,
        "tilt_angle_deg": 0.0,
        "far_field": geometry.propagation == "far",
        "focus_object_distance_m": geometry.focus_distance_m or 0.0,
    }


def _places(result: Reconstruction, pixel: tuple[float, float]) -> dict[str, float]:
    """Pixels of probe and object, and the centre of the object, in metres."""
    (py, px), (oy, ox), (h, w) = pixel, result.object.origin, result.object.shape
    sides = {f"{name}_pixel_height_m": py for name in ("probe", "object")}
    sides |= {f"{name}_pixel_width_m": px for name in ("probe", "object")}
    return sides | {"object_center_y_m": (oy + h / 2) * py, "object_center_x_m": (ox + w / 2) * px}


def layers(result: Reconstruction) -> NDArray[np.complex64]:
    """The object as a product keeps it: its slices (S, H, W), or one layer (1, H, W)."""
    return result.object.values[None].astype(np.complex64) if result.slices is None else result.slices


def spacing(result: Reconstruction) -> NDArray[np.float64]:
    """Distances from layer to layer (S - 1,), metres; 0 where they are not known."""
    return np.full(len(layers(result)) - 1, result.slice_distance_m or 0.0)


def write_npz_product(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as a Ptychodus product in NPZ.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known.
    """
    pixel = pixel_m(result, path, "a Ptychodus product in NPZ")
    epochs, values = losses(result)
    arrays: dict[str, Any] = {
        "name": result.name,
        "comments": " ".join(result.flags),
        **numbers(result),
        **_places(result, pixel),
        "probe_position_indexes": np.arange(len(result.positions), dtype=np.int64),
        "probe_position_y_m": result.positions[:, 0] * pixel[0],
        "probe_position_x_m": result.positions[:, 1] * pixel[1],
        "probe": result.probe[None],
        "object": layers(result),
        LAYER_SPACING: spacing(result),
        "loss_epochs": epochs,
        "loss_values": values,
        "costs": values,
    }
    with writing(path) as temporary:
        write_npz(temporary, arrays)


def write_cxi_product(result: Reconstruction, path: Path) -> None:
    """Write ``result`` as a Ptychodus product in CXI: the probe is ``image_1``, the object ``image_2``.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`, or if the object pixel is not known.
    """
    (py, px), geometry = pixel_m(result, path, "a product in CXI"), result.geometry or Geometry()
    places = result.positions * (py, px)
    size, (height, width) = result.probe.shape[-1], result.object.shape
    now = datetime.now(UTC).isoformat(timespec="seconds")
    epochs, values = losses(result)
    with writing(path) as temporary, write_hdf5(temporary) as file:
        file["cxi_version"], file["number_of_entries"] = CXI_VERSION, 1
        entry = file.create_group("entry_1")
        entry["title"], entry["start_time"] = result.name, now
        entry["experiment_description"] = " ".join(result.flags)
        entry["process_1/program"], entry["process_1/date"] = "diptych", now
        entry["sample_1/name"] = result.name
        entry["sample_1/geometry_1/translation"] = np.stack([places[:, 1], places[:, 0], 0 * places[:, 0]], axis=1)
        if geometry.energy_eV is not None:
            entry["instrument_1/source_1/energy"] = geometry.energy_eV * ELEMENTARY_CHARGE_C
        if geometry.distance_m is not None:
            entry["instrument_1/detector_1/distance"] = geometry.distance_m
        images = (
            ("image_1", result.probe[None], "coherent:incoherent:y:x", (size * px, size * py)),
            ("image_2", layers(result), "layer:y:x", (width * px, height * py)),
        )
        for name, image, axes, extent in images:
            group = entry.create_group(name)
            group["data"] = image
            group["data"].attrs["axes"] = axes
            group["data_space"], group["data_type"] = "real", "amplitude"
            group["image_size"] = np.array([*extent, 0.0])
        extras: dict[str, Any] = {**numbers(result), **_places(result, (py, px))}
        extras |= {"probe_position_indexes": np.arange(len(places), dtype=np.int64)}
        extras |= {"loss_epochs": epochs, "loss_values": values, LAYER_SPACING: spacing(result)}
        for name, value in extras.items():
            entry[f"ptychodus/{name}"] = value
