"""Writing a scan as CXI 1.60, in the layout that cdtools, Ptychodus and the reader of :mod:`diptych` open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych.ptycho.io.files import writing
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C
from diptych.ptycho.scan import Geometry, Scan

CXI_VERSION = 160


def write_cxi(scan: Scan, path: Path) -> None:
    """Write ``scan`` as CXI.

    Positions are metres where the geometry is complete; otherwise object pixels, and the attribute ``units`` says "px".
    Metadata, the true object and probe, and the orientation of the geometry have no place in CXI and are left out.

    Parameters
    ----------
    scan : Scan
        What to write.
    path : Path
        Where to.

    Raises
    ------
    InputError, UnavailableError
        As :func:`diptych.save`.
    """
    import h5py

    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file["cxi_version"], file["number_of_entries"] = CXI_VERSION, 1
        entry = file.create_group("entry_1")
        entry["title"] = scan.name
        _write_detector(entry.create_group("instrument_1/detector_1"), scan)
        source = entry.create_group("instrument_1/source_1")
        if scan.geometry is not None and scan.geometry.energy_eV is not None:
            source["energy"] = scan.geometry.energy_eV * ELEMENTARY_CHARGE_C
            source["energy"].attrs["units"] = "J"
            source["wavelength"] = scan.geometry.wavelength_m
            if scan.geometry.particle != "photon":
                source["probe"] = scan.geometry.particle
        if scan.probe is not None:
            source["illumination"] = scan.probe
        pixel = scan.pixel_m
        places = scan.positions * (1.0 if pixel is None else np.asarray(pixel))
        translation = np.stack([places[:, 1], places[:, 0], np.zeros(len(places))], axis=1)
        entry["sample_1/geometry_1/translation"] = translation
        entry["sample_1/geometry_1/translation"].attrs["units"] = "px" if pixel is None else "m"
        data = entry.create_group("data_1")
        data["data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        data["translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")


def _write_detector(detector: Any, scan: Scan) -> None:
    """Patterns, mask (0 where a pixel is valid), background and geometry of the detector."""
    detector["data"] = scan.counts
    if scan.mask is not None:
        detector["mask"] = (~scan.mask).astype(np.uint32)
    if scan.background is not None:
        detector["data_dark"] = scan.background
    geometry = scan.geometry or Geometry()
    if geometry.propagation != "far":
        # CXI has no place for these.
        detector.attrs["propagation"] = geometry.propagation
        if geometry.focus_distance_m is not None:
            detector.attrs["focus_distance_m"] = geometry.focus_distance_m
    if geometry.distance_m is not None:
        detector["distance"] = geometry.distance_m
    if geometry.detector_pixel_m is not None:
        height, width = geometry.detector_pixel_m
        detector["y_pixel_size"], detector["x_pixel_size"] = height, width
        # Rows lead down and columns to the left as seen from the source: the vectors that cdtools assumes.
        detector["basis_vectors"] = np.array([[0.0, -width], [-height, 0.0], [0.0, 0.0]])
