"""Run in an environment with Ptychodus: its file plug-ins on our products and scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rows import EXPECTED, row, same


def plugins(kind: str, name: str):
    from ptychodus.api.plugins import PluginRegistry

    registry = PluginRegistry.load_plugins()
    for plugin in getattr(registry, kind):
        if name in (plugin.simple_name, plugin.display_name):
            return plugin.strategy
    raise LookupError(f"{kind} has no {name}: {[each.simple_name for each in getattr(registry, kind)]}")


def product(name: str):
    def check(path: Path) -> str:
        found = plugins("product_file_readers", name).read(path)
        places = found.probe_positions
        stored = np.stack([places.get_coordinates_y_m(), places.get_coordinates_x_m()], axis=1)
        same("positions", stored, EXPECTED["positions_m"], 1e-12)
        same("object", found.object_.get_array()[0], EXPECTED["object"])
        same("probe", found.probes.get_array()[0], EXPECTED["probe"])
        about, geometry = found.metadata, found.object_.get_geometry()
        same("energy", about.photon_energy_eV, EXPECTED["energy_eV"], 1e-9)
        same("distance", about.detector_distance_m, EXPECTED["distance_m"], 1e-12)
        same("losses", [loss.value for loss in found.losses], EXPECTED["loss"])
        # Where its own geometry puts each position in the object.
        pixel = np.array([geometry.pixel_height_m, geometry.pixel_width_m])
        centre = np.array([geometry.center_y_m, geometry.center_x_m])
        inside = (stored - centre) / pixel + np.array(EXPECTED["object"].shape) / 2
        expected = EXPECTED["positions_m"] / EXPECTED["pixel_m"] - EXPECTED["origin_px"]
        same("place in the object", inside, expected, 1e-9)
        return "object and probe exact, positions, energy, distance, losses, place in the object"

    return check


def patterns(name: str):
    def check(path: Path) -> str:
        data = plugins("diffraction_file_readers", name).read(path)
        found = np.concatenate([part.get_patterns() for part in data])
        same("counts", found, EXPECTED["counts"])
        return f"counts exact ({len(found)} patterns)"

    return check


def positions(name: str):
    def check(path: Path) -> str:
        places = plugins("probe_position_file_readers", name).read(path)
        stored = np.stack([places.get_coordinates_y_m(), places.get_coordinates_x_m()], axis=1)
        same("positions", stored, EXPECTED["positions_m"], 1e-12)
        return "positions to 1e-12"

    return check


row("product.h5", product("HDF5"))
row("product.npz", product("NPZ"))
row("product.cxi", product("CXI"))
row("scan.cxi", patterns("CXI"))
row("scan.nxs", patterns("CXI"))
row("scan_dp.hdf5", patterns("fold_slice"))
row("scan_para.hdf5", positions("fold_slice"))
