"""Bad pixels and saturation: found where they are, and sharp features that light makes are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.errors import InputError
from diptych.ptycho.prepare.clean import clean, inspect
from diptych.ptycho.prepare.pixels import find_bad_pixels, find_limit, find_saturation
from diptych.ptycho.scan import Scan
from small_runs import simulated, solve


def scan_of(dose: float = 1e5, **more: Any) -> Scan:
    return diptych.simulate(
        **{"object": "blocks", "size": 64, "patterns": 64, "step": 8, "dose": dose, "seed": 3, **more}
    )


def with_counts(scan: Scan, counts: NDArray[Any]) -> Scan:
    return replace(scan, counts=counts.astype(np.float32))


@pytest.mark.parametrize("dose", [1e3, 1e5])
@pytest.mark.parametrize("probe", ["gaussian", "disk", "zone-plate"])
def test_clean_scans_have_no_bad_pixels(dose: float, probe: Any) -> None:
    found = inspect(scan_of(dose, probe=probe))
    assert not found.pixels
    assert found.saturation is None


@pytest.mark.parametrize("dose", [1e4, 1e6])
def test_hot_stuck_and_dead_pixels_and_lines(dose: float) -> None:
    scan, rng = scan_of(dose), np.random.default_rng(1)
    counts = scan.counts.astype(np.float32)
    level = 0.2 * counts.max()
    counts[:, 12, 50] += rng.poisson(level, len(counts))
    counts[:, 12, 51] += rng.poisson(level, len(counts))
    counts[:, 50, 9] = 70
    counts[:, 29, 31] = 0
    counts[:, 36] = 0
    counts[:, :, 20:22] = 0
    found = find_bad_pixels(with_counts(scan, counts))
    assert found.hot == ((12, 50), (12, 51))
    assert found.stuck == ((50, 9),)
    assert found.dead == ((29, 31),)
    assert (found.rows, found.columns) == ((36,), (20, 21))
    assert int((~found.valid()).sum()) == 64 + 2 * 63 + 4


@pytest.fixture(scope="module", params=[1e4, 1e6])
def clean_scan(request: pytest.FixtureRequest) -> Scan:
    return scan_of(request.param, patterns=144)


@pytest.mark.parametrize(
    "places",
    [
        [(0, 20), (63, 40)],
        [(20, 0), (40, 63)],
        [(0, 0), (0, 63), (63, 0), (63, 63)],
        [(1, 1), (62, 30)],
        [(10, 10), (10, 11), (11, 10), (11, 11)],
        [(0, 30), (0, 31), (1, 30), (1, 31)],
        [(40, x) for x in range(50, 56)],
    ],
)
def test_hot_pixels_at_edges_and_corners_and_in_clusters(clean_scan: Scan, places: list[tuple[int, int]]) -> None:
    counts, rng = clean_scan.counts.astype(np.float32), np.random.default_rng(1)
    totals = counts.sum((1, 2))
    for y, x in places:
        counts[:, y, x] += rng.poisson(0.01 * totals)
    found = find_bad_pixels(with_counts(clean_scan, counts))
    assert sorted(found.hot) == sorted(places)
    assert int((~found.valid()).sum()) == len(places)


@pytest.mark.parametrize(("rows", "columns"), [([0], []), ([63], [63]), ([0, 1, 2], []), ([0, 63], []), ([], [0, 62])])
def test_dead_lines_at_the_edges(clean_scan: Scan, rows: list[int], columns: list[int]) -> None:
    counts = clean_scan.counts.copy()
    counts[:, rows] = 0
    counts[:, :, columns] = 0
    found = find_bad_pixels(with_counts(clean_scan, counts))
    assert (found.rows, found.columns) == (tuple(rows), tuple(columns))
    assert (found.dead, found.hot) == ((), ())


def test_margins_of_a_padded_detector_are_no_dead_lines() -> None:
    counts = scan_of(1e6).counts.copy()
    counts[:, :6] = counts[:, -6:] = 0
    counts[:, :, :6] = counts[:, :, -6:] = 0
    assert not find_bad_pixels(with_counts(scan_of(1e6), counts))


def test_a_part_of_a_dead_line_and_dead_pixels_at_the_edge() -> None:
    scan = scan_of(1e6)
    counts = scan.counts.copy()
    counts[:, 20, :32] = 0
    counts[:, 0, 40] = counts[:, 63, 30] = 0
    assert set(find_bad_pixels(with_counts(scan, counts)).dead) == {(20, x) for x in range(32)} | {(0, 40), (63, 30)}


def test_light_may_be_sharp() -> None:
    """A beam stop, the direct beam, a sharp peak of the probe, and a masked hot pixel."""
    scan, rng = scan_of(), np.random.default_rng(0)
    y, x = np.indices((64, 64)) - 32
    counts = scan.counts.astype(np.float32)
    stop = with_counts(scan, counts * (np.hypot(y, x) >= 6) * ((np.abs(x) > 1) | (y < 0)))
    assert not find_bad_pixels(stop)
    peak = counts.copy()
    peak[:, 32, 32] += rng.poisson(1e5, len(peak))
    assert not find_bad_pixels(with_counts(scan, peak))
    peak = counts.copy()
    peak[:, 32, (18, 46)] += rng.poisson(1e4, (len(peak), 2))
    assert find_bad_pixels(with_counts(scan, peak)).hot == ((32, 18), (32, 46))
    fringes = np.ones((64, 64)) + np.cos(2 * np.pi * 14 * x / 64)
    assert not find_bad_pixels(replace(with_counts(scan, peak), probe=fringes))
    mask = np.ones((64, 64), bool)
    mask[32, (18, 46)] = False
    assert not find_bad_pixels(replace(with_counts(scan, peak), mask=mask))


@pytest.mark.parametrize(("dose", "level"), [(1e4, 30), (1e5, 255), (1e7, 65535 // 4)])
def test_saturation_is_found_at_its_level(dose: float, level: int) -> None:
    scan = scan_of(dose)
    assert find_saturation(scan) is None
    clipped = with_counts(scan, np.minimum(scan.counts, level))
    assert find_saturation(clipped) == level
    cleaned = clean(clipped)
    assert cleaned.scan.mask is not None
    assert np.array_equal(~cleaned.scan.mask, scan.counts >= level)
    assert "saturated" in cleaned.flags[0]
    assert clean(clipped, saturated="keep").scan.mask is None


def test_pixels_at_saturation_in_nearly_all_frames_are_not_stuck() -> None:
    scan = scan_of(1e6)
    level = float(np.quantile(scan.counts, 0.99))
    clipped = np.minimum(scan.counts, level)
    # Below the ceiling in a few frames: the variance is small, not zero, and the mean is below the ceiling.
    bright = np.argwhere(clipped.mean(0) >= np.sort(clipped.mean(0), axis=None)[-6])
    for n, (y, x) in enumerate(bright):
        clipped[:, y, x] = level
        clipped[n, y, x] = 0.99 * level
    found = find_bad_pixels(with_counts(scan, clipped))
    assert found.stuck == ()
    # A pixel that holds another value stays a stuck one.
    clipped[:, 5, 7] = 60
    assert find_bad_pixels(with_counts(scan, clipped)).stuck == ((5, 7),)


def test_bad_pixels_are_named_and_masked_on_request() -> None:
    scan = simulated(probe_error=1.0)
    counts = scan.counts.astype(np.float32)
    counts[:, 5, 20] += 300
    bad = replace(scan, counts=counts)
    named = solve(bad, engine="rpie", epochs=30)
    assert "--auto-mask" in named.flags[0]
    assert "(y 5, x 20)" in named.flags[0]
    assert not any("probe modes" in flag for flag in named.flags)
    result = solve(bad, engine="rpie", epochs=30, auto_mask=True)
    assert result.provenance["left_out"]["bad_pixels_masked"]

    def error(some: Any) -> float:
        return float(diptych.evaluate(some, truth=scan.truth)["complex_error"])

    assert error(result) < 1.2 * error(solve(scan, engine="rpie", epochs=30))
    assert error(result) < error(named)


def test_load_masks_saturated_values(tmp_path: Path) -> None:
    scan = scan_of(patterns=16)
    path = diptych.save(replace(scan, counts=np.minimum(scan.counts, 200).astype(np.uint8)), tmp_path / "s.npz")
    loaded = diptych.load(path, saturation=200)
    assert loaded.mask is not None
    assert np.array_equal(~np.broadcast_to(loaded.mask, scan.counts.shape), scan.counts >= 200)
    assert "saturated" in " ".join(loaded.metadata["conversions"])
    assert find_limit(loaded) == 200, "the masked counts still tell where the detector saturates"


def test_messages_name_the_right_remedy() -> None:
    scan = scan_of(patterns=16)
    wrapped = (scan.counts.astype(np.int64) + 32600).astype(np.uint16).view(np.int16)
    with pytest.raises(InputError, match=r"counts\.view\(np\.uint16\)"):
        Scan(wrapped, scan.positions)
    with pytest.raises(InputError, match=r"add it back and pass it as background"):
        Scan(scan.counts.astype(np.float32) - 2.5, scan.positions)
