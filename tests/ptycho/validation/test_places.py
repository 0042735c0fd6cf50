"""Positions that cannot be right are named before the true object, which they leave, is blamed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.scan import Canvas, Scan

N = 16
SIDE = 12


def positions(step: float = 4.0) -> np.ndarray:
    """A raster of 144 positions, whose first window begins at 0."""
    y, x = np.divmod(np.arange(SIDE**2), SIDE)
    return np.stack([y, x], 1) * step + N // 2


def scan(where: np.ndarray) -> Scan:
    """A scan whose true object has room for the raster, and no more."""
    side = 4 * (SIDE - 1) + N
    return Scan(np.ones((len(where), N, N), np.uint8), where, np.ones((N, N)), truth=Canvas(np.ones((side, side))))


def test_the_raster_has_its_place() -> None:
    assert scan(positions()).truth is not None


@pytest.mark.parametrize("factor", [0.03, 0.1, 10.0, 300.0])
def test_positions_in_another_unit_are_named(factor: float) -> None:
    wrong = positions() * factor
    span = re.escape(f"144 positions within {np.ptp(wrong, axis=0).max():.3g} px")
    with pytest.raises(InputError, match=f"positions: {span}.*room for 44 px.*which unit.*--position-unit"):
        scan(wrong)


@pytest.mark.parametrize("numbers", [[7], [0, 70, 143]])
@pytest.mark.parametrize("far", [-400.0, 1500.0, 9000.0])
def test_a_truth_need_not_cover_outliers(numbers: list[int], far: float) -> None:
    where = positions()
    where[numbers] = far + 100.0 * np.arange(len(numbers))[:, None]
    assert scan(where).truth is not None


def test_an_outlier_beyond_every_canvas_is_named() -> None:
    where = positions()
    where[7] = 40000
    with pytest.raises(InputError, match=r"object of 4\d{4} x 4\d{4} pixels .* outermost is pattern 7"):
        scan(where)


@pytest.mark.parametrize("shift", [(3.0, 0.0), (0.0, -3.0), (20.0, 20.0)])
def test_a_displaced_scan_blames_the_object(shift: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"true object: .* windows leave the object.*origin"):
        scan(positions() + shift)


def test_a_window_that_overlaps_others_is_no_outlier() -> None:
    where = positions()
    where[-1] += N - 6
    with pytest.raises(InputError, match="true object: 1 of 144 windows leave"):
        scan(where)


def test_too_few_positions_say_nothing_of_their_unit() -> None:
    where = positions()[::36] * 10
    with pytest.raises(InputError, match="true object: "):
        validation.truth_covers(where, N, Canvas(np.ones((20, 20))), validation.TRUTH, "few")
