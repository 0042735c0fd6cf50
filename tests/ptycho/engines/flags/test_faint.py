"""Held-out pixels tell the readings of faint scans apart, or it is said that they do not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.flags.base import by_kind, faults
from diptych.ptycho.engines.flags.faint import compare_readings
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.io.raw import reread
from diptych.ptycho.scan import Scan


@functools.cache
def small(dose: float = 3e3) -> Scan:
    """64 patterns of 32 x 32 pixels."""
    return diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=dose, seed=1)


@functools.cache
def lines(seed: int) -> Scan:
    """The object that scatters least, with a blind probe."""
    return diptych.simulate(object="lines", size=64, patterns=144, step=8, dose=1e4, probe_error=0.5, seed=seed)


def moved(by: int, first: int = 0) -> Callable[[Scan], Scan]:
    """Frames late by ``by`` from the frame ``first`` on."""

    def change(scan: Scan) -> Scan:
        counts = np.concatenate([scan.counts[:first], np.roll(scan.counts[first:], by, 0)])
        return replace(scan, counts=counts, truth=None)

    return change


def transposed(scan: Scan) -> Scan:
    return replace(reread(scan, LoadOptions(orientation=4)), truth=None)


def test_a_faint_scan_that_is_read_right_is_told_from_frames_early_or_late() -> None:
    found = compare_readings(small())
    assert found.reading is None
    assert not found.undecided
    assert found.errors < -4


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (moved(1), "frames: one position early"),
        pytest.param(moved(-1), "frames: one position late", marks=pytest.mark.slow),
        pytest.param(moved(2), "frames: 2 positions early", marks=pytest.mark.slow),
        pytest.param(moved(-3), "frames: 3 positions late", marks=pytest.mark.slow),
        pytest.param(transposed, "patterns: transpose (orientation 4)", marks=pytest.mark.slow),
    ],
)
def test_the_right_reading_of_a_faint_scan_is_found(spoil: Callable[[Scan], Scan], name: str) -> None:
    found = compare_readings(spoil(small()))
    assert found.reading is not None
    assert (found.reading.name, found.part) == (name, "")


@pytest.mark.slow
def test_a_frame_lost_on_the_way_is_found_in_the_frames_after_it() -> None:
    found = compare_readings(moved(1, first=40)(small(1e4)))
    assert found.reading is not None
    assert (found.reading.name, found.part) == ("frames: one position early", "last")


@pytest.mark.slow
def test_where_noise_hides_the_readings_none_is_preferred() -> None:
    found = compare_readings(small(20.0))
    assert found.reading is None
    assert found.undecided


def test_too_few_frames_are_not_tried() -> None:
    scan = small()
    found = compare_readings(replace(scan, counts=scan.counts[:10], positions=scan.positions[:10], truth=None))
    assert (found.reading, found.undecided) == (None, False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("by", "named"), [(1, "one position early"), (-1, "one position late"), (2, "2 positions early")]
)
def test_frames_of_fine_lines_that_are_early_or_late_are_named(seed: int, by: int, named: str) -> None:
    flags = diptych.reconstruct(moved(by)(lines(seed))).flags
    assert named in by_kind(flags)["misread"][0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fine_lines_that_are_read_right_have_no_flag(seed: int) -> None:
    assert faults(diptych.reconstruct(lines(seed)).flags) == ()
