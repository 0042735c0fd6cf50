"""Overlap metrics against their closed forms, the disjoint halves, and given results of Pty-Chi."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.simulate import detector
from diptych.ptycho.studies import overlap as study
from diptych.ptycho.studies.overlap.generation import View, halves, overlap_metrics, part, subsample
from diptych.ptycho.studies.overlap.metrics import (
    centre_overlap,
    disc_overlap,
    geometry_bound,
    group_overlap,
    image_overlap,
)
from diptych.ptycho.studies.overlap.options import OverlapOptions, grid_of, views

HALF = 2 / 3 - np.sqrt(3) / (2 * np.pi)
"""Common area of two discs whose distance is half their diameter, over that of one: in closed form."""

THREE_QUARTERS = 2 / np.pi * (np.arccos(0.75) - 0.75 * np.sqrt(7) / 4)


def test_disc_overlap_has_its_closed_form() -> None:
    assert (pytest.approx(0.3910, abs=5e-5), pytest.approx(0.1443, abs=1e-4)) == (HALF, THREE_QUARTERS)
    assert disc_overlap([0.0, 1.0, 1.5, 2.0, 5.0], 2.0) == pytest.approx([1, HALF, THREE_QUARTERS, 0, 0], abs=1e-6)
    y, x = np.mgrid[-300:300, -300:300] / 100
    first, second = np.hypot(y, x + 0.4) < 1, np.hypot(y, x - 0.4) < 1
    counted = (first & second).sum() / first.sum()
    assert float(disc_overlap(0.8, 2.0)) == pytest.approx(counted, abs=2e-3)
    with pytest.raises(InputError, match="a positive number"):
        disc_overlap(1.0, 0.0)


def test_metric_1_is_the_mean_over_nearest_members_of_each_seed() -> None:
    positions = np.array([[0, 0], [0, 1], [0, 1.5], [0, 9]], float)
    groups = np.array([[0, 1, 2, 3], [3, 0, 1, 2]])
    near = (HALF + THREE_QUARTERS + 0) / 3
    assert group_overlap(positions, groups, 2.0, 6) == pytest.approx(near / 2, abs=1e-6)
    assert group_overlap(positions, groups, 2.0, 1) == pytest.approx(HALF / 2, abs=1e-6)


def test_metric_2_counts_equal_positions_once() -> None:
    positions = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], float)
    assert image_overlap(positions, 2.0, 6) == pytest.approx(HALF, abs=1e-6)
    assert image_overlap(positions[:1], 2.0, 6) == 0.0
    row = np.stack([np.zeros(50), np.arange(50.0)], 1)
    inner, ends = (HALF * 2) / 2, (HALF + 0) / 2
    assert image_overlap(row, 2.0, 2) == pytest.approx((48 * inner + 2 * ends) / 50, abs=1e-6)


def test_metric_3_leaves_out_far_centres_and_counts_lonely_ones_as_zero() -> None:
    positions = np.array([[0, 0], [0, 2], [0, 1], [0, 3], [90, 90], [90, 92]], float)
    groups = np.array([[0, 1], [2, 3], [4, 5]])
    assert centre_overlap(positions, groups, 2.0) == pytest.approx(2 * HALF / 3, abs=1e-6)
    same = np.array([[0, 1], [0, 1]])
    assert centre_overlap(positions, same, 2.0) == pytest.approx(1.0)


def test_metric_3_of_all_groups_of_a_full_study_needs_little_memory() -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 400, (5216, 2))
    groups = np.stack([np.arange(5216), np.roll(np.arange(5216), 1)], 1)
    tracemalloc.start()
    value = centre_overlap(positions, groups, 38.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < value < 1
    assert peak < 150e6


@pytest.mark.integration
def test_the_data_of_a_full_study_need_memory_in_proportion_to_its_patterns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two smaller sizes give the bytes per detector pixel; at the full size these stay far below 8 GB."""
    # The simulation works in chunks of bounded size, which would hide what grows with the scan in small ones.
    monkeypatch.setattr(detector, "_CHUNK_BYTES", 2**18)
    peaks: list[int] = []
    # The first run also loads modules.
    for patterns in (800, 800, 2400):
        small: dict[str, Any] = {"patterns": patterns, "groups": patterns // 3, "pattern_size": 32, "step": 4.0}
        options = OverlapOptions(size="full", networks=("cnn",), **small)
        tracemalloc.start()
        study.prepare(study.cells(options)[0], options, views(options)[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    full = grid_of(OverlapOptions(size="full"))
    per_pixel = (peaks[2] - peaks[1]) / (1600 * 32**2)
    assert 2 < per_pixel < 14
    assert peaks[2] + per_pixel * full.patterns * full.pattern_size**2 < 4e9


def test_the_geometry_bound_is_a_share_of_area_and_at_most_a_tenth() -> None:
    corners = np.array([[0, 0], [10, 10]], float)
    assert geometry_bound(corners, 38.4) == pytest.approx(100 / (2 * np.pi * 19.2**2))
    assert geometry_bound(corners * 100, 38.4) == 0.10


def test_windows_of_the_two_halves_share_no_pixel() -> None:
    positions = np.random.default_rng(1).uniform(0, 200, (300, 2))
    found = halves(positions, 32)
    train, test = positions[found["train"], 0], positions[found["test"], 0]
    assert train.max() + 16 <= test.min() - 16
    assert min(map(len, found.values())) > 50
    with pytest.raises(InputError, match="at least twice as high"):
        halves(positions, 256)


def test_a_view_keeps_its_share_and_records_counts_and_bounds() -> None:
    scan = diptych.simulate(size=16, patterns=100, step=2.0, seed=0)
    kept = subsample(len(scan), 0.37, 456)
    assert (len(kept), len(np.unique(kept))) == (37, 37)
    assert np.array_equal(kept, subsample(len(scan), 0.37, 456))
    own = part(scan, kept, "a part")
    found = overlap_metrics(own.positions, 100, View("dense", 0.37, 60, 2), 9.6, 6, 123)
    assert (found["n_images_total"], found["n_images_subsampled"], found["n_groups_actual"]) == (100, 37, 60)
    assert 0 < found["overlap_group"] < 1
    assert found["effective_min_acceptance"] >= found["geometry_acceptance_bound"] > 0
    single = overlap_metrics(own.positions, 100, View("baseline", 0.37, None, 1), 9.6, 6, 123)
    assert (single["overlap_group"], single["n_groups_actual"]) == (None, 37)
    with pytest.raises(InputError, match="leaves none"):
        subsample(4, 0.1, 0)
