"""Reconstructions of scans with a known fault are flagged by the fault's name, and clean ones are not flagged."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.ptycho.check import check
from diptych.ptycho.engines.flags import trials
from diptych.ptycho.engines.flags.base import by_kind, faults
from diptych.ptycho.scan import Scan

SLOW = pytest.mark.slow


@functools.cache
def right(dose: float = 1e4) -> Scan:
    """64 patterns of 32 x 32 pixels, with a blind initial probe."""
    return diptych.simulate(
        object="natural", size=32, patterns=64, step=4.0, integer=True, dose=dose, probe_error=0.5, seed=2
    )


def frames(order: Callable[[int], NDArray[np.int64]]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, counts=np.ascontiguousarray(scan.counts[order(len(scan))]), truth=None)


def lost(scan: Scan) -> Scan:
    """The middle frame is missing: every later one stands at the position before."""
    kept = np.delete(scan.counts, len(scan) // 2, 0)
    return replace(scan, counts=kept, positions=scan.positions[:-1], truth=None)


def by_name(patterns: int) -> NDArray[np.int64]:
    return np.array(sorted(range(patterns), key=lambda i: str(i + 1)))


def shuffled(patterns: int) -> NDArray[np.int64]:
    return np.random.default_rng(3).permutation(patterns)


def unsteady(scan: Scan) -> Scan:
    """The beam's intensity varies by +-30 % from frame to frame."""
    rng = np.random.default_rng(4)
    factors = rng.uniform(0.7, 1.3, len(scan))[:, None, None]
    return replace(scan, counts=rng.binomial(scan.counts.astype(np.int64), factors / 1.3).astype(scan.counts.dtype))


def test_a_clean_scan_is_not_flagged() -> None:
    assert diptych.reconstruct(right()).flags == ()


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (lambda s: replace(s, counts=np.ascontiguousarray(s.counts.transpose(0, 2, 1))), "misread", "--orientation 4"),
        pytest.param(frames(lambda n: np.maximum(np.arange(n) - 1, 0)), "misread", "one position early", marks=SLOW),
        pytest.param(frames(shuffled), "no reading fits", "order of frames", marks=pytest.mark.integration),
    ],
)
def test_a_wrong_reading_is_flagged_at_low_dose(spoil: Callable[[Scan], Scan], kind: str, said: str) -> None:
    result = diptych.reconstruct(spoil(right()))
    found = by_kind(result.flags)
    assert list(found) == [kind]
    assert said in found[kind][0]
    # The flag judges the state that was fitted, not the one whose unlit pixels were settled afterwards.
    stated = re.search(r"fit ([\d.]+), held out", found[kind][0])
    assert stated
    assert float(stated[1]) == pytest.approx(result.provenance["fit"], rel=0.03)


@pytest.mark.integration
def test_unsteady_intensity_is_named() -> None:
    scan = unsteady(right(1e5))
    for factors, said in (("auto", "a factor per frame was fitted"), ("off", "probe modes do not help")):
        found = by_kind(diptych.reconstruct(scan, epochs=60, frame_factors=factors).flags)
        assert list(found) == ["beam intensity"]
        assert len(found["beam intensity"]) == 1
        assert said in found["beam intensity"][0]


def test_an_engine_that_has_not_converged_is_told_from_a_wrong_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def unneeded(*rest: object) -> None:
        raise AssertionError("a scan that is read the right way took trials of readings")

    monkeypatch.setattr(trials, "rank", unneeded)
    found = by_kind(diptych.reconstruct(right(1e6), engine="dm", epochs=60).flags)
    assert list(found) == ["poor fit"]
    assert "has not converged" in found["poor fit"][0]


def test_a_wrong_reading_is_flagged_where_the_engine_has_not_converged() -> None:
    # The totals that the difference map predicts vary by 50 %: no fault of the beam.
    transposed = replace(right(1e6), counts=np.ascontiguousarray(right(1e6).counts.transpose(0, 2, 1)), truth=None)
    found = by_kind(diptych.reconstruct(transposed, engine="dm", epochs=60).flags)
    assert list(found) == ["misread"]
    assert "--orientation 4" in found["misread"][0]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda s: replace(s, counts=s.counts[:1], positions=s.positions[:1], truth=None), "one pattern"),
        (lambda s: replace(s, counts=s.counts[:8], positions=s.positions[:8], truth=None), "over-fitting"),
        (lambda s: replace(s, positions=s.positions * 10, truth=None), "no overlap"),
    ],
)
def test_too_little_data_are_flagged(spoil: Callable[[Scan], Scan], kind: str) -> None:
    assert kind in by_kind(diptych.reconstruct(spoil(right(1e5)), epochs=60).flags)


@pytest.mark.parametrize("dose", [10.0, 100.0])
def test_few_photons_are_a_note(dose: float) -> None:
    flags = diptych.reconstruct(right(dose), epochs=40).flags
    assert list(by_kind(flags)) == ["few photons"]
    assert faults(flags) == ()


@pytest.mark.integration
@pytest.mark.parametrize("spoil", [pytest.param(frames(shuffled), marks=SLOW), lost])
def test_check_recommends_nothing_where_no_reading_fits(spoil: Callable[[Scan], Scan]) -> None:
    advice = check(spoil(right(1e6))).advice
    assert advice.startswith("No reading fits")
    assert "a lost frame" in advice
    assert "pass --" not in advice


@pytest.mark.parametrize(
    ("order", "reading"),
    [
        pytest.param(lambda n: np.maximum(np.arange(n) - 1, 0), "frames: one position early", marks=SLOW),
        pytest.param(lambda n: np.minimum(np.arange(n) + 1, n - 1), "frames: one position late", marks=SLOW),
        (by_name, "frames: file-name order (1, 10, 11, ... 2) undone"),
        pytest.param(lambda n: np.arange(n)[::-1], "frames: reversed", marks=SLOW),
    ],
)
def test_check_finds_the_order_of_frames(order: Callable[[int], NDArray[np.int64]], reading: str) -> None:
    found = check(frames(order)(right()))
    assert found.rows[0]["reading"] == reading
    assert reading in found.advice


@pytest.mark.slow
def test_a_steady_beam_with_a_gaussian_probe_gets_no_factors() -> None:
    # Such a probe hides slow variations over the scan: fitted factors rose to a dome of 9 %, and the error from 0.03 to
    # 0.2.
    scan = diptych.simulate(object="natural", size=64, patterns=144, step=8, dose=1e5, probe="gaussian", seed=1)
    result = diptych.reconstruct(scan)
    assert result.frame_factors is None
    assert result.flags == ()
    assert diptych.evaluate(result, truth=scan.truth)["complex_error"] < 0.05
