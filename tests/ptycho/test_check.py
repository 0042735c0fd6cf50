"""`check` names what is wrong with a scan that was read the wrong way round."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.ptycho.check import Check, check
from diptych.ptycho.engines.starts import estimate
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress


@functools.cache
def right() -> Any:
    """A scan of 64 patterns of 32 x 32, read the right way round, with a blind start of the probe."""
    return diptych.simulate(
        object="natural", size=32, patterns=64, step=4.0, integer=True, dose=1e5, probe_error=0.5, seed=2
    )


def patterns(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, counts=np.ascontiguousarray(change(scan.counts)))


def positions(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, positions=np.ascontiguousarray(change(scan.positions)), truth=None)


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (positions(lambda p: p[:, ::-1]), "positions: swap y and x"),
        pytest.param(positions(lambda p: p * [-1, 1]), "positions: negate y", marks=pytest.mark.integration),
        (positions(lambda p: p * [1, -1]), "positions: negate x"),
        (patterns(lambda c: c.transpose(0, 2, 1)), "patterns: transpose (orientation 4)"),
        pytest.param(
            patterns(lambda c: np.fft.ifftshift(c, (1, 2))),
            "patterns: zero frequency at the corner",
            marks=pytest.mark.integration,
        ),
        pytest.param(
            patterns(lambda c: np.roll(c[:, ::-1], 1, 1)),
            "patterns: flip y (orientation 2)",
            marks=pytest.mark.integration,
        ),
    ],
)
def test_the_right_reading_comes_first(spoil: Callable[[Scan], Scan], remedy: str) -> None:
    found = check(spoil(right()))
    assert found.rows[0]["reading"] == remedy
    assert found.rows[0]["relative"] < 0.5
    assert remedy in found.advice
    fits = [row["fit"] for row in found.rows]
    assert fits == sorted(fits)


def test_patterns_off_centre_are_centred() -> None:
    """Ranked first; but by little, since a probe with a phase ramp explains them nearly as well."""
    found = check(patterns(lambda c: np.roll(c, (5, -4), (1, 2)))(right()))
    assert found.rows[0]["reading"] == "patterns: centre at y 21, x 12"


def test_a_scan_read_the_right_way_round_is_left_alone() -> None:
    found = check(right())
    assert found.rows[0]["reading"] == "as given"
    assert found.rows[0]["relative"] == 1
    assert "as it is given" in found.advice


@pytest.mark.integration
def test_without_a_probe_the_start_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "STEPS", 1)
    scan = diptych.simulate(
        object="natural", size=16, patterns=36, step=2.0, integer=True, dose=1e5, defocus=0.0, seed=2
    )
    wrong = replace(
        scan, positions=np.ascontiguousarray(scan.positions[:, ::-1]), truth=None, probe=None, probe_calibrated=False
    )
    best = check(wrong).rows[0]
    # Turning patterns and positions alike only mirrors the image, and an estimated probe knows no orientation.
    assert "swap" in best["reading"] or "transpose" in best["reading"]
    assert best["relative"] < 0.7


@pytest.mark.integration
def test_masked_pixels_may_hold_anything() -> None:
    """Not-a-number under the mask, as some detectors write it: the same ranking as zeros there."""
    scan = right()
    mask = np.ones((32, 32), bool)
    mask[5:8, 20:23] = False
    results = []
    for value in (0.0, np.nan):
        counts = np.where(mask, scan.counts, value).astype(np.float32)
        results.append(check(replace(scan, counts=counts, mask=mask)))
    assert results[0] == Check(results[1].rows, results[1].advice)


def test_progress_counts_the_readings() -> None:
    scan = right()
    few = replace(scan, counts=scan.counts[:9], positions=scan.positions[:9])
    seen: list[Progress] = []
    found = check(few, progress=seen.append)
    assert [p.done for p in seen] == list(range(1, len(found.rows) + 1))
    assert {p.total for p in seen} == {len(found.rows)}


@pytest.mark.integration
def test_readings_that_diverge_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.ptycho.engines.flags import trials

    real, calls = trials.try_out, []

    def some_diverge(*args: Any) -> Any:
        calls.append(args)
        found = real(*args)
        return found._replace(fit=float("nan")) if len(calls) in (1, 3) else found

    monkeypatch.setattr(trials, "try_out", some_diverge)
    scan = diptych.simulate(object="dead-leaves", size=16, patterns=64, step=2.0, dose=1e6, seed=0)
    rows = diptych.check(scan).rows
    assert [row["fit"] for row in rows] == sorted(row["fit"] for row in rows)
    assert [row["fit"] for row in rows[-2:]] == [float("inf")] * 2
    assert [row["relative"] for row in rows[-2:]] == [1.0, 1.0]
    assert rows[0]["relative"] == 0.0


@pytest.mark.integration
def test_bad_frames_and_other_units_do_not_change_the_ranking() -> None:
    """Three frames x 30 would rule the trials; they are left out first, and it is said."""
    counts = (1e-4 * right().counts).astype(np.float32)
    counts[[5, 30, 50]] *= 30
    found = check(replace(right(), counts=counts.swapaxes(1, 2).copy()))
    assert found.rows[0]["fit"] < 2
    assert found.rows[0]["relative"] < 0.5
    assert any(word in found.rows[0]["reading"] for word in ("transpose", "swap y and x"))
    assert "5, 30, 50" in found.advice
    assert "not photons" in found.advice
