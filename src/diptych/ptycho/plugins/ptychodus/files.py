"""Readers of the files that diptych reads, for Ptychodus: patterns, positions, and products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ptychodus.api.diffraction import (
    DiffractionDataset,
    DiffractionDatasetLayoutNode,
    DiffractionFileReader,
    DiffractionMetadata,
    SimpleDiffractionArray,
    SimpleDiffractionDataset,
)
from ptychodus.api.geometry import ImageExtent, PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeFileReader, ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionFileReader, ProbePositionSequence
from ptychodus.api.product import LossValue, Product, ProductFileReader, ProductMetadata

from diptych.errors import InputError
from diptych.ptycho.io import load_result, load_scan
from diptych.ptycho.scan import Geometry, Reconstruction, Scan

TITLE = "diptych (any scan or result that it reads)"
NAME = "diptych"


def register(registry: Any) -> None:
    """Add the readers to Ptychodus' ``PluginRegistry``."""
    names = {"display_name": TITLE, "simple_name": NAME}
    registry.diffraction_file_readers.register_plugin(PatternReader(), **names)
    registry.probe_position_file_readers.register_plugin(PositionReader(), **names)
    registry.probe_file_readers.register_plugin(ProbeReader(), **names)
    registry.product_file_readers.register_plugin(ResultReader(), **names)


class PatternReader(DiffractionFileReader):
    """Patterns, mask and geometry of any scan that diptych loads without an option."""

    def read(self, file_path: Path) -> DiffractionDataset:
        """Read the patterns of a scan."""
        scan = load_scan(file_path)
        geometry, size = scan.geometry or Geometry(), scan.size
        pixel = geometry.detector_pixel_m
        tree = DiffractionDatasetLayoutNode.create_root()
        tree.add_child(file_path.stem, type(scan.counts).__name__, f"{scan.counts.dtype}{scan.counts.shape}")
        metadata = DiffractionMetadata(
            num_patterns_per_array=[len(scan)],
            pattern_dtype=scan.counts.dtype,
            detector_extent=ImageExtent(width_px=size, height_px=size),
            detector_distance_m=geometry.distance_m,
            detector_pixel_geometry=None if pixel is None else PixelGeometry(width_m=pixel[1], height_m=pixel[0]),
            photon_energy_eV=geometry.energy_eV if geometry.particle == "photon" else None,
            file_path=file_path,
        )
        array = SimpleDiffractionArray(file_path.stem, np.arange(len(scan)), scan.counts)
        return SimpleDiffractionDataset(metadata, tree, [array], bad_pixels=_bad(scan))


class PositionReader(ProbePositionFileReader):
    """Positions of any scan or result of known geometry, in metres."""

    def read(self, file_path: Path) -> ProbePositionSequence:
        """Read the positions of a scan."""
        scan = load_scan(file_path)
        pixel = _pixel(scan.pixel_m, file_path)
        return _positions(scan.positions * pixel)


class ProbeReader(ProbeFileReader):
    """The initial probe of any scan of known geometry."""

    def read(self, file_path: Path) -> ProbeSequence:
        """Read the probe of a scan."""
        scan = load_scan(file_path)
        if scan.probe is None:
            raise InputError(file_path, "holds no probe", "a scan with one")
        y, x = _pixel(scan.pixel_m, file_path)
        return ProbeSequence(scan.probe[None], None, PixelGeometry(width_m=float(x), height_m=float(y)))


class ResultReader(ProductFileReader):
    """Any result that diptych loads: its own, and those of other programs."""

    def read(self, file_path: Path) -> Product:
        """Read a result as a product."""
        result = load_result(file_path)
        y, x = _pixel(result.object.pixel_m, file_path)
        pixel, geometry = PixelGeometry(width_m=float(x), height_m=float(y)), result.geometry or Geometry()
        half = 0.5 if result.probe.shape[-1] % 2 else 0.0
        (oy, ox), (height, width) = result.object.origin, result.object.shape
        column = next((result.history[name] for name in ("loss", "fit") if name in result.history), [])
        return Product(
            metadata=_metadata(result, geometry),
            probe_positions=_positions(result.positions * (y, x)),
            probes=ProbeSequence(result.probe[None], None, pixel),
            object_=Object(
                result.object.values[None].astype(np.complex64),
                pixel,
                ObjectCenter(x_m=(ox + width / 2 - half) * float(x), y_m=(oy + height / 2 - half) * float(y)),
            ),
            losses=[LossValue(i + 1, float(value)) for i, value in enumerate(column)],
        )


def _metadata(result: Reconstruction, geometry: Geometry) -> ProductMetadata:
    return ProductMetadata(
        name=result.name,
        comments=" ".join(result.flags),
        detector_distance_m=geometry.distance_m or 0.0,
        photon_energy_eV=(geometry.energy_eV or 0.0) if geometry.particle == "photon" else 0.0,
        probe_photon_count=float(np.sum(np.abs(result.probe.astype(np.complex128)) ** 2)),
        exposure_time_s=0.0,
        mass_attenuation_m2_per_kg=0.0,
        tomography_angle_deg=0.0,
    )


def _positions(metres: Any) -> ProbePositionSequence:
    return ProbePositionSequence([ProbePosition(i, float(x), float(y)) for i, (y, x) in enumerate(metres)])


def _pixel(pixel: tuple[float, float] | None, path: Path) -> Any:
    if pixel is None:
        raise InputError(
            path,
            "does not state the geometry, and Ptychodus needs metres",
            "energy, distance and detector pixel in the file",
            "Load it with diptych.load(FILE, energy_eV=..., distance_m=..., detector_pixel_m=...) and save it again.",
        )
    return np.asarray(pixel)


def _bad(scan: Scan) -> Any:
    """Pixels that are bad in every pattern: Ptychodus keeps one mask for all."""
    if scan.mask is None:
        return None
    return ~(scan.mask if scan.mask.ndim == 2 else scan.mask.all(axis=0))
