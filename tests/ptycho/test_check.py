"""`check` names what is wrong with a scan that was read the wrong way round."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.check import Check, check
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress


@functools.cache
def right() -> Scan:
    """A scan of 100 patterns of 32 x 32, read the right way round, with a blind start of the probe."""
    return diptych.simulate(object="natural", size=32, patterns=100, step=4.0, integer=True, dose=1e5, probe_error=0.5, seed=2)


def patterns(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, counts=np.ascontiguousarray(change(scan.counts)))


def positions(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, positions=np.ascontiguousarray(change(scan.positions)), truth=None)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (positions(lambda p: p[:, ::-1]), "positions: swap y and x"),
        (positions(lambda p: p * [-1, 1]), "positions: negate y"),
        (positions(lambda p: p * [1, -1]), "positions: negate x"),
        (patterns(lambda c: c.transpose(0, 2, 1)), "patterns: transpose (orientation 4)"),
        (patterns(lambda c: np.fft.ifftshift(c, (1, 2))), "patterns: zero frequency at the corner"),
        (patterns(lambda c: np.roll(c[:, ::-1], 1, 1)), "patterns: flip y (orientation 2)"),
        (patterns(lambda c: np.roll(c, (5, -4), (1, 2))), "patterns: centre at y 21, x 12"),
    ],
)
def test_the_right_reading_comes_first(spoil: Callable[[Scan], Scan], mend: str) -> None:
    found = check(spoil(right()))
    assert found.rows[0]["reading"] == mend
    assert found.rows[0]["relative"] < 0.5
    assert mend in found.advice
    fits = [row["fit"] for row in found.rows]
    assert fits == sorted(fits)


def test_a_scan_read_the_right_way_round_is_left_alone() -> None:
    found = check(right())
    assert found.rows[0]["reading"] == "as given"
    assert found.rows[0]["relative"] == 1
    assert "as it is given" in found.advice


def test_without_a_probe_the_start_is_estimated() -> None:
    scan = replace(right(), probe=None)
    wrong = replace(scan, positions=scan.positions[:, ::-1].copy(), truth=None)
    few = replace(wrong, counts=wrong.counts[:64], positions=wrong.positions[:64])
    assert "swap y and x" in check(few).rows[0]["reading"] or "transpose" in check(few).rows[0]["reading"]


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
