"""Bad frames are found and left out whatever their number, and clean frames are not, whatever the sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.errors import InputError
from diptych.ptycho.physics.probe import gauge_power
from diptych.ptycho.prepare.clean import clean, inspect
from diptych.ptycho.prepare.frames import BadFrames, find_bad_frames, parse_ranges, ranges
from diptych.ptycho.scan import Scan
from small_runs import simulated, solve

Counts = NDArray[np.float32]


def changed(scan: Scan, frames: list[int], change: Callable[[Counts, np.random.Generator], Any]) -> Scan:
    counts = scan.counts.astype(np.float32)
    counts[frames] = change(counts[frames], np.random.default_rng(5))
    return replace(scan, counts=counts)


def empty(some: Counts, rng: np.random.Generator) -> Any:
    return 0 * some


def dark_current(some: Counts, rng: np.random.Generator) -> Any:
    return rng.poisson(1e-3, some.shape)


def bright(some: Counts, rng: np.random.Generator) -> Any:
    return 30 * some


def faint(some: Counts, rng: np.random.Generator) -> Any:
    return rng.binomial(some.astype(int), 0.1)


def flat(some: Counts, rng: np.random.Generator) -> Any:
    return rng.poisson(some.mean((1, 2), keepdims=True) * np.ones(some.shape))


FAULTS = [(empty, "empty"), (dark_current, "empty"), (bright, "bright"), (faint, "dark"), (flat, "shape")]


@pytest.mark.parametrize("object", ["blocks", "natural", "dead-leaves"])
@pytest.mark.parametrize("dose", [1e3, 1e5])
def test_faults_are_found_by_kind_and_nothing_else(object: Any, dose: float) -> None:
    scan = diptych.simulate(object=object, size=48, patterns=100, step=6, dose=dose, probe_error=0.5, seed=4)
    assert find_bad_frames(scan) == BadFrames()
    for fault, kind in FAULTS:
        for frames in ([3], [17, 50, 81], list(range(88, 100))):
            found = find_bad_frames(changed(scan, frames, fault))
            assert list(getattr(found, kind)) == frames, (fault, frames, found)
            assert found.numbers == frames


def test_an_absorbing_region_is_no_fault() -> None:
    """Totals that fall gradually from position to position are the sample's, even a hundredfold."""
    scan = diptych.simulate(object="natural", size=48, patterns=400, step=4, dose=1e5, seed=4)
    away = scan.positions - scan.positions.mean(0)
    through = np.exp(-5.0 / (1 + np.exp((np.hypot(*away.T) - 20) / 5)))
    counts = np.random.default_rng(0).binomial(scan.counts.astype(int), through[:, None, None]).astype(np.float32)
    dimmed = replace(scan, counts=counts)
    assert counts.sum((1, 2)).min() < 0.05 * np.median(counts.sum((1, 2)))
    assert find_bad_frames(dimmed) == BadFrames()


def test_isolated_positions_are_named_and_left_out() -> None:
    scan = replace(diptych.simulate(size=32, patterns=100, step=4, dose=1e4, seed=1), truth=None)
    positions = scan.positions.copy()
    positions[41] = 9000, 9000
    moved = replace(scan, positions=positions)
    assert find_bad_frames(moved).isolated == (41,)
    cleaned = clean(moved)
    assert len(cleaned.scan) == 99
    assert "overlap no other frame: 41" in cleaned.flags[0]
    assert find_bad_frames(replace(scan, positions=10 * scan.positions)).isolated == ()


def test_cosmic_rays_are_masked_in_their_frames() -> None:
    scan = diptych.simulate(object="blocks", size=48, patterns=100, step=6, dose=1e4, seed=2)
    assert not inspect(scan).events
    counts = scan.counts.astype(np.float32)
    hits = [(7, 3, 40), (7, 5, 6), (30, 44, 44)]
    for hit in hits:
        counts[hit] += 900
    cleaned = clean(replace(scan, counts=counts), drop="0-2")
    assert cleaned.scan.mask is not None
    assert [(i + 3, y, x) for i, y, x in np.argwhere(~cleaned.scan.mask)] == sorted(hits)
    assert "2 frames (cosmic rays?): 7, 30" in " ".join(cleaned.flags)


@pytest.mark.parametrize(
    ("fault", "frames"),
    [
        (empty, list(range(5, 40, 5))),
        pytest.param(bright, [8, 30, 31], marks=pytest.mark.integration),
        pytest.param(flat, [8, 30], marks=pytest.mark.integration),
    ],
)
def test_the_image_is_as_good_as_without_the_frames(fault: Any, frames: list[int]) -> None:
    scan = simulated(probe_error=1.0)
    bad = changed(scan, frames, fault)

    def error(result: Any) -> float:
        return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])

    usual = solve(scan, engine="rpie", epochs=40)
    result = solve(bad, engine="rpie", epochs=40)
    assert error(result) < 1.5 * error(usual)
    assert result.provenance["left_out"]["left_out"] == frames
    assert any(ranges(frames) in flag for flag in result.flags)
    kept = solve(bad, engine="rpie", epochs=40, bad_frames="keep")
    # Not a number where the image is so far off that evaluate finds no shift that aligns it with the truth.
    assert not error(kept) <= 1.5 * error(usual)
    assert any("kept" in flag for flag in kept.flags)


def test_frames_are_dropped_on_request_and_keep_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    scan = simulated()
    result = solve(changed(scan, [20], empty), engine="rpie", epochs=1, drop="0,4-6")
    for said in ("left out as asked: 0, 4-6", "without photons (or nearly): 20"):
        assert said in caplog.text
    assert result.provenance["left_out"]["left_out"] == [0, 4, 5, 6, 20]
    assert len(result.positions) == len(scan) - 5
    assert any("as asked: 0, 4-6" in flag for flag in result.flags)


def test_ranges_of_frames() -> None:
    assert parse_ranges(" 3, 7-9 ,8", 10) == [3, 7, 8, 9]
    assert ranges([3, 7, 8, 9]) == "3, 7-9"
    for wrong in ("a", "3-1", "10", "1-2-3", "-4"):
        with pytest.raises(InputError):
            parse_ranges(wrong, 10)
    with pytest.raises(InputError, match="all frames"):
        clean(simulated(), drop=f"0-{len(simulated()) - 1}")


def test_the_gauge_does_not_follow_a_few_bright_frames() -> None:
    totals = np.random.default_rng(0).uniform(0.7, 1.3, 144) * 1e5
    usual = gauge_power(totals)
    for number, factor in ((3, 30), (10, 5), (20, 1e4)):
        bad = totals.copy()
        bad[:number] *= factor
        assert gauge_power(bad) == pytest.approx(usual, rel=0.02)
    assert usual == np.quantile(totals, 0.99)
