"""Simulated objects with slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import InputError

SMALL: dict[str, Any] = {"size": 16, "patterns": 16, "step": 2.0, "seed": 3}
GEOMETRY: dict[str, Any] = {"energy_eV": 8e3, "distance_m": 2.0, "detector_pixel_m": 75e-6}


@pytest.mark.parametrize("kind", ["natural", "siemens-star", "lines"])
def test_each_slice_has_structure_of_its_own_and_the_truth_is_their_product(kind: str) -> None:
    scan = diptych.simulate(object=kind, slices=3, slice_distance_m=1e-3, dose=1e5, **SMALL, **GEOMETRY)
    assert scan.truth is not None
    assert scan.true_slices is not None
    assert scan.true_slices.shape == (3, *scan.truth.shape)
    np.testing.assert_allclose(scan.true_slices.prod(0), scan.truth.values, rtol=1e-5)
    maps = np.angle(scan.true_slices).reshape(3, -1)
    assert np.abs(np.corrcoef(maps)[~np.eye(3, dtype=bool)]).max() < 0.8
    # Ranges of modulus and phase are those of the product.
    assert np.abs(maps).max() == pytest.approx(0.8 / 3, rel=0.05)
    assert np.abs(scan.true_slices).min() >= 0.55 ** (1 / 3) - 1e-6
    # Dose is what reaches the detector behind all slices.
    assert scan.counts.sum((1, 2)).mean() == pytest.approx(1e5, rel=0.02)


def test_your_own_slices_are_used_and_saved(tmp_path: Path) -> None:
    made = diptych.simulate(object="blocks", slices=2, slice_distance_m=1e-3, **SMALL, **GEOMETRY)
    own = diptych.simulate(object=made.true_slices, slices=2, slice_distance_m=1e-3, **SMALL, **GEOMETRY)
    assert own.true_slices is not None
    assert made.true_slices is not None
    np.testing.assert_array_equal(own.true_slices, made.true_slices)
    loaded = diptych.load(diptych.save(own, tmp_path / "s.npz"))
    assert isinstance(loaded, diptych.Scan)
    assert loaded.true_slices is not None
    np.testing.assert_array_equal(loaded.true_slices, own.true_slices)
    with pytest.raises(InputError, match="2 slices"):
        diptych.bound(own)


def test_one_slice_is_the_thin_object_and_thin_scans_have_none() -> None:
    thin = diptych.simulate(object="blocks", **SMALL, **GEOMETRY)
    assert thin.true_slices is None
    np.testing.assert_array_equal(diptych.simulate(object="blocks", slices=1, **SMALL, **GEOMETRY).counts, thin.counts)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"slices": 2}, "slice_distance_m = None"),
        ({"slice_distance_m": 1e-3}, "slices = 1"),
        ({"slices": 2, "slice_distance_m": 1e-3, "object": np.ones((3, 60, 60))}, "shape"),
        ({"object": np.ones((2, 60, 60))}, "slices = 1"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        diptych.simulate(**SMALL, **GEOMETRY, **options)


def test_slices_need_the_geometry() -> None:
    with pytest.raises(InputError, match="energy_eV, distance_m, detector_pixel_m"):
        diptych.simulate(slices=2, slice_distance_m=1e-3, **SMALL)
