"""Halves of a scan: balanced in space, or independent in photons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from diptych.errors import InputError
from diptych.ptycho.evaluate.halves import checkerboard, half_scan_frc, thin, two_colours
from diptych.ptycho.physics.measured import scanned_box
from diptych.ptycho.scan import Canvas, Reconstruction, Scan


def raster(rows, columns, step, jitter=0.0, seed=0):
    y, x = np.meshgrid(np.arange(rows) * step, np.arange(columns) * step, indexing="ij")
    points = np.stack([y.ravel(), x.ravel()], axis=1)
    return points + np.random.default_rng(seed).uniform(-jitter, jitter, points.shape)


def spiral(count, spacing):
    n = np.arange(count)
    angle = n * np.pi * (3 - np.sqrt(5))
    return spacing * np.sqrt(n)[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def test_raster_becomes_a_checkerboard():
    colour = two_colours(raster(12, 17, 3.0)).reshape(12, 17)
    assert (colour[1:] != colour[:-1]).all()
    assert (colour[:, 1:] != colour[:, :-1]).all()


SHAPES = {
    "jittered": raster(24, 24, 8.0, 2.0),
    "spiral": spiral(500, 4.0),
    "random": np.random.default_rng(2).uniform(0, 200, (400, 2)),
    "shuffled": np.random.default_rng(3).permutation(raster(20, 20, 8.0, 2.0)),
    "line": np.stack([np.zeros(41), np.arange(41) * 2.0], axis=1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_halves_are_balanced_in_number_and_space(name):
    positions = SHAPES[name]
    colour = two_colours(positions)
    assert abs(int(colour.sum()) - int((~colour).sum())) <= 1
    # Most nearest neighbours lie in the other half ...
    nearest = cKDTree(positions).query(positions, k=2)[1][:, 1]
    assert (colour[nearest] != colour).mean() > 0.75
    # ... and each half covers the area: from anywhere in the scan it is little farther than from the whole.
    whole, *halves = (
        cKDTree(part).query(positions, k=2)[0][:, 1] for part in (positions, positions[colour], positions[~colour])
    )
    for half in halves:
        assert np.median(half) < 2.2 * np.median(whole)
    # Both quarters of any quadrant are alike.
    middle = np.median(positions, axis=0)
    quadrant = (positions > middle) @ (2, 1)
    for q in np.unique(quadrant):
        inside = quadrant == q
        assert abs(colour[inside].mean() - 0.5) < 0.1


def test_colours_depend_on_the_points_alone():
    points = SHAPES["random"]
    assert np.array_equal(two_colours(points), two_colours(points.copy()))


def test_duplicate_positions_are_split():
    points = np.repeat(raster(5, 5, 4.0), 2, axis=0)
    colour = two_colours(points)
    assert (colour[::2] != colour[1::2]).all()


def test_checkerboard_splits_the_patterns(scan):
    marked = replace(scan, mask=np.ones(scan.counts.shape, bool))
    first, second = checkerboard(marked)
    assert len(first) + len(second) == len(scan)
    for half in (first, second):
        assert half.mask is not None
        assert half.mask.shape == half.counts.shape
    rejoined = {tuple(p): c.sum() for half in (first, second) for p, c in zip(half.positions, half.counts, strict=True)}
    assert rejoined == {tuple(p): c.sum() for p, c in zip(scan.positions, scan.counts, strict=True)}


def test_too_few_positions(scan):
    few = replace(scan, counts=scan.counts[:3], positions=scan.positions[:3])
    with pytest.raises(InputError, match="has 3 positions"):
        checkerboard(few)


def test_thinned_halves_add_up(scan):
    first, second = thin(scan, np.random.default_rng(0))
    assert first.counts.dtype == scan.counts.dtype
    assert np.array_equal(first.counts.astype(int) + second.counts, scan.counts)
    assert first.counts.sum() == pytest.approx(scan.counts.sum() / 2, rel=0.01)
    again = thin(scan, np.random.default_rng(0))[0]
    assert np.array_equal(first.counts, again.counts)


def test_thinned_poisson_halves_are_independent_poisson(probe):
    """Covariance zero, variance equal to the mean: thinning a Poisson count gives two independent ones."""
    rate = 6.0
    counts = np.random.default_rng(1).poisson(rate, (400, 16, 16)).astype(np.float32)
    positions = np.random.default_rng(2).uniform(0, 50, (400, 2))
    a, b = (
        half.counts.astype(float).ravel() for half in thin(Scan(counts, positions, probe), np.random.default_rng(3))
    )
    tolerance = 5 * (rate / 2) / np.sqrt(a.size)
    assert abs(np.cov(a, b)[0, 1]) < tolerance
    assert a.var() == pytest.approx(rate / 2, rel=0.03)
    assert a.mean() == pytest.approx(rate / 2, rel=0.01)


def test_thinning_halves_probe_power_and_background(scan):
    calibrated = replace(scan, probe_calibrated=True, background=np.full((16, 16), 0.4, np.float32))
    first, _ = thin(calibrated, np.random.default_rng(0))
    assert first.background == pytest.approx(0.2)
    assert (np.abs(first.probe) ** 2).sum() == pytest.approx((np.abs(scan.probe) ** 2).sum() / 2)
    assert (np.abs(first.true_probe) ** 2).sum() == pytest.approx((np.abs(scan.true_probe) ** 2).sum() / 2)
    loose, _ = thin(scan, np.random.default_rng(0))
    assert np.array_equal(loose.probe, scan.probe)


def test_thinning_leaves_masked_pixels_out(scan):
    mask = np.ones((16, 16), bool)
    mask[3, 4] = False
    counts = scan.counts.astype(np.float32)
    counts[:, 3, 4] = np.nan
    first, second = thin(replace(scan, counts=counts, mask=mask), np.random.default_rng(0))
    assert not first.counts[:, 3, 4].any()
    assert np.array_equal((first.counts + second.counts)[:, mask], counts[:, mask])


def test_thinning_needs_whole_numbers(scan):
    with pytest.raises(InputError, match=r"not whole numbers \(first: .*--split positions"):
        thin(replace(scan, counts=scan.counts * np.float32(0.5)), np.random.default_rng(0))


def make_reconstruct(truth, noise, treatment="refine", seen=None):
    """A stand-in engine: the truth on its own canvas with noise that depends on the half."""

    def reconstruct(half):
        if seen is not None:
            seen.append(half)
        rng = np.random.default_rng(int(half.counts.sum()) + len(half))
        y0, y1, x0, x1 = truth.extent
        part = truth.crop(y0 + len(half) % 3, y1, x0, x1 - 2)
        values = part.values + noise * (rng.normal(size=part.shape) + 1j * rng.normal(size=part.shape))
        values = values * np.exp(1j * rng.uniform(-3, 3))
        return Reconstruction(
            Canvas(values, part.origin), half.probe, half.positions, provenance={"options": {"probe": treatment}}
        )

    return reconstruct


@pytest.mark.parametrize("split", ["positions", "thinning"])
def test_half_scan_curve_measures_independent_noise(scan, split):
    seen: list[Scan] = []
    clean = half_scan_frc(scan, make_reconstruct(scan.truth, 0.001, seen=seen), split=split)
    noisy = half_scan_frc(scan, make_reconstruct(scan.truth, 0.1), split=split)
    # The object holds nothing beyond 0.36 of Nyquist: with little noise that is where the halves part.
    assert clean.curve.crossing() > 0.3
    assert noisy.curve.crossing() < clean.curve.crossing()
    assert len(seen) == 2
    assert len(seen[0]) == (len(scan) if split == "thinning" else (len(scan) + 1) // 2)
    assert "same initial probe" in clean.note


def test_half_scan_gauge_follows_the_probe(scan):
    refined = half_scan_frc(scan, make_reconstruct(scan.truth, 0.01))
    fixed = half_scan_frc(scan, make_reconstruct(scan.truth, 0.01, "fixed"))
    assert refined.alignment.gauge == "full"
    assert fixed.alignment.gauge == "phase"
    assert fixed.alignment.truth.extent == scanned_box(scan.positions)


def test_half_scan_over_the_whole_area(scan):
    whole = half_scan_frc(scan, make_reconstruct(scan.truth, 0.01), crop="all")
    scanned = half_scan_frc(scan, make_reconstruct(scan.truth, 0.01))
    assert whole.alignment.truth.values.size > scanned.alignment.truth.values.size
