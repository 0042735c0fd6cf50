"""Tilted samples: detector frames on an even grid of the momentum transfer in the sample's plane."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.prepare.tilt import bending, even_coordinates

TILT = 55.0
GEOMETRY = diptych.Geometry(energy_eV=92, distance_m=0.05, detector_pixel_m=400e-6)


@cache
def seen(axis: str = "y") -> tuple[diptych.Scan, diptych.Scan]:
    """A scan in its sample's plane, and what a detector sees of it when the plane is tilted: the far field at the
    directions of its pixels, by direct Fourier sums.
    """
    plane = diptych.simulate(
        size=32, patterns=49, step=4.0, dose=1e8, seed=1, noise="none", integer=True, aperture=10, defocus=3
    )
    n, across = plane.size, 1 if axis == "y" else 0
    y, x = np.indices((n, n)) - n // 2
    fy, fx = (c.ravel() for c in even_coordinates(GEOMETRY, n, TILT, axis, y, x))
    step = 1e-4
    dy = np.subtract(*(even_coordinates(GEOMETRY, n, TILT, axis, y + s * step, x) for s in (0.5, -0.5))) / step
    dx = np.subtract(*(even_coordinates(GEOMETRY, n, TILT, axis, y, x + s * step) for s in (0.5, -0.5))) / step
    area = np.abs(dy[0] * dx[1] - dy[1] * dx[0])
    at = np.arange(n) - n // 2
    rows, columns = (np.exp(-2j * np.pi * np.outer(f, at) / n) for f in (fy, fx))
    frames = np.empty(plane.counts.shape, np.float32)
    for i, (r, c) in enumerate(np.rint(plane.positions).astype(int) - n // 2 - np.asarray(plane.truth.origin)):
        wave = plane.true_probe[0] * plane.truth.values[r : r + n, c : c + n]
        field = np.einsum("pa,ab,pb->p", rows, wave, columns, optimize=True) / n
        frames[i] = np.abs(field.reshape(n, n)) ** 2 * area
    places = plane.positions.copy()
    places[:, across] /= np.cos(np.deg2rad(TILT))
    # Positions in pixels of a plane that is not tilted, as a reader makes them from metres in the sample's plane.
    return plane, replace(plane, counts=frames, positions=places, geometry=GEOMETRY, truth=None)


def difference(found: diptych.Scan, plane: diptych.Scan) -> float:
    valid = np.ones((plane.size,) * 2, bool) if found.mask is None else found.mask
    a, b = np.sqrt(found.counts[:, valid]), np.sqrt(plane.counts[:, valid])
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("axis", ["y", "x"])
def test_frames_of_a_tilted_plane_come_back_to_its_even_grid(axis: str) -> None:
    plane, detector = seen(axis)
    assert np.abs(bending(GEOMETRY, 32, TILT, axis)).max() > 1
    found = diptych.prepare(detector, tilt_deg=TILT, tilt_axis=axis)
    assert difference(found, plane) < 0.5 * difference(detector, plane)
    np.testing.assert_allclose(found.positions, plane.positions)
    wide, narrow = (found.pixel_m[1], found.pixel_m[0]) if axis == "y" else found.pixel_m
    assert wide / narrow == pytest.approx(1 / np.cos(np.deg2rad(TILT)))
    assert "resampled" in found.metadata["preparation"]["steps"][0]


def test_counts_are_conserved_up_to_what_leaves_the_frame() -> None:
    _, detector = seen()
    counts = np.zeros((1, 32, 32), np.float32)
    counts[0, 6:26, 6:26] = 10
    some = replace(detector, counts=counts, positions=detector.positions[:1])
    found = diptych.prepare(some, tilt_deg=TILT)
    assert found.counts.sum() == pytest.approx(counts.sum(), rel=1e-5)


def test_a_bad_pixel_masks_the_pixels_that_it_reaches_and_no_others() -> None:
    _, detector = seen()
    mask = np.ones((32, 32), bool)
    mask[20, 9] = False
    plain, holed = (diptych.prepare(replace(detector, mask=m), tilt_deg=TILT) for m in (None, mask))
    lost = plain.mask & ~holed.mask
    assert 1 <= lost.sum() <= 6
    np.testing.assert_allclose(holed.counts[:, holed.mask], plain.counts[:, holed.mask], rtol=1e-5)


def test_a_small_aperture_needs_no_resampling() -> None:
    scan = replace(seen()[1], geometry=replace(GEOMETRY, distance_m=50.0))
    found = diptych.prepare(scan, tilt_deg=TILT)
    np.testing.assert_array_equal(found.counts, scan.counts)
    across = diptych.prepare(scan, tilt_deg=TILT, tilt_positions="beam")
    np.testing.assert_array_equal(across.positions, scan.positions)


def test_a_tilt_without_directions_of_the_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="distance_m"):
        diptych.prepare(replace(seen()[1], geometry=None), tilt_deg=10.0)


@pytest.mark.slow
def test_a_tilted_sample_is_reconstructed_in_its_plane() -> None:
    plane, detector = seen()
    right = diptych.reconstruct(detector, prepare={"tilt_deg": TILT}, epochs=60)
    wrong = diptych.reconstruct(replace(detector, positions=plane.positions), epochs=60)
    right_error, wrong_error = (diptych.evaluate(r, truth=plane.truth)["complex_error"] for r in (right, wrong))
    assert right_error < 0.5 * wrong_error
