"""Positions in wrong units, exact rasters, and canvases that do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.describe import describe_scan
from diptych.ptycho.prepare import positions
from diptych.ptycho.scan import Geometry, Scan


def scan_of(trajectory: str = "jittered-raster") -> Scan:
    scan = diptych.simulate(size=64, patterns=144, step=8, dose=1e4, seed=1, trajectory=trajectory)
    return replace(scan, truth=None)


def test_positions_read_in_another_unit() -> None:
    scan = scan_of()
    assert describe_scan(scan)["notes"] == []
    geometry = Geometry(energy_eV=8000, distance_m=2, detector_pixel_m=75e-6)
    pixel = geometry.object_pixel_m(64)
    assert pixel is not None
    small = replace(scan, positions=scan.positions * pixel[0] * 1e6)
    (note,) = describe_scan(small)["notes"]
    assert "144 positions within" in note
    assert "--position-unit" in note
    (note,) = describe_scan(replace(small, geometry=geometry))["notes"]
    assert "--position-unit um" in note
    assert "position-unit nm" not in note


def test_an_exact_raster_is_said() -> None:
    assert any("exact raster (step y 8, x 8 px)" in note for note in describe_scan(scan_of("raster"))["notes"])
    assert not any("raster" in note for note in describe_scan(scan_of("fermat-spiral"))["notes"])


def test_messages_name_the_canvas_and_the_outermost_position(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_of()
    moved = scan.positions.copy()
    moved[17] = 9000, 8500
    monkeypatch.setattr(positions, "memory", lambda: 2 * 10**9)
    with pytest.raises(InputError, match=r"object of 9\d\d\d x 8\d\d\d pixels.*pattern 17 at \(y 9000, x 8500\)"):
        diptych.reconstruct(replace(scan, positions=moved), bad_frames="keep", epochs=1)
    moved[17] = 90000, 85000
    with pytest.raises(InputError, match=r"pattern 17 at \(y 90000, x 85000\)"):
        replace(scan, positions=moved)
    assert np.isfinite(moved).all()
