"""The validation split: no pattern twice, nothing near validation in training, and little lost."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from diptych.errors import InputError
from diptych.ptycho.neural.data.split import split_by_blocks
from diptych.ptycho.physics.probe import probe_diameter


def raster(rows: int, columns: int, step: float = 4.0, jitter: float = 0.0) -> np.ndarray[Any, Any]:
    places = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 2) * step
    return places + np.random.default_rng(7).normal(size=places.shape) * jitter


# ---------------------------------------------------------------- split


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.floats(0, 2),
    st.floats(0, 0.5),
    st.floats(0, 30),
    st.integers(0, 5),
    st.booleans(),
)
def test_the_sets_are_apart_and_training_keeps_half(
    rows: int, columns: int, jitter: float, fraction: float, gap: float, seed: int, twice: bool
) -> None:
    positions = np.repeat(raster(rows, columns, jitter=jitter), 1 + twice, axis=0)
    train, validation = split_by_blocks(positions, fraction=fraction, gap=gap, seed=seed)
    count = len(positions)
    for part in (train, validation):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        assert ((part >= 0) & (part < count)).all()
    assert 2 * len(train) >= count
    assert len(np.intersect1d(train, validation)) == 0
    if len(validation) == 0:
        assert len(train) == count
    else:
        assert len(validation) == max(1, round(fraction * count))
        apart = cdist(positions, positions[validation]).min(axis=1)
        assert apart[train].min() >= gap - 1e-9
        # And what is in neither set is near validation: nothing is lost without need.
        lost = np.setdiff1d(np.arange(count), np.concatenate([train, validation]))
        assert (apart[lost] < gap + 1e-9).all()


def test_a_small_part_of_a_square_scan_is_a_corner() -> None:
    """A quarter disc of area f L^2 in a corner borders on less of the scan than a strip does."""
    positions = raster(40, 40)
    train, validation = split_by_blocks(positions, fraction=0.1, gap=12.0, seed=0)
    lost = 1600 - len(train) - len(validation)
    extent = np.ptp(positions[validation], axis=0)
    np.testing.assert_allclose(extent, 2 * np.sqrt(0.1 / np.pi) * 160, rtol=0.1)
    # The quarter ring of width 12 about it, in patterns of 4 x 4 pixels; a strip would lose 2 rows and more of 40.
    radius = 2 * np.sqrt(160 / np.pi)
    assert lost == pytest.approx(np.pi / 4 * ((radius + 3) ** 2 - radius**2), rel=0.2)


@pytest.mark.parametrize("turned", [False, True])
def test_a_part_of_a_long_scan_is_a_strip_across(turned: bool) -> None:
    positions = raster(10, 100)[:, :: -1 if turned else 1]
    train, validation = split_by_blocks(positions, fraction=0.2, gap=12.0, seed=0)
    short, long = sorted(np.ptp(positions[validation], axis=0))
    # All across, and 20 columns long; its end may be an arc.
    assert short == 9 * 4
    assert long == pytest.approx(19 * 4, abs=8)
    # One gap of it: the columns 4 and 8 px away, or the arc; that 12 px away is far enough.
    assert 1000 - len(train) - len(validation) <= 30


def test_the_seed_chooses_the_place() -> None:
    positions = raster(30, 30, jitter=0.5)
    places = {tuple(split_by_blocks(positions, fraction=0.1, gap=10.0, seed=seed)[1]) for seed in range(30)}
    assert len(places) == 4
    first, second = (
        split_by_blocks(positions, fraction=0.1, gap=10.0, seed=np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(first[1], second[1])


def test_no_gap_loses_nothing() -> None:
    train, validation = split_by_blocks(raster(10, 10), fraction=0.2, gap=0.0, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(100))
    assert len(validation) == 20


def test_a_fraction_of_less_than_a_pattern_is_one_pattern() -> None:
    train, validation = split_by_blocks(raster(5, 5), fraction=0.01, gap=5.0, seed=0)
    # A corner, and its neighbours above or below and beside it lost.
    assert len(validation) == 1
    assert len(train) == 22


def test_no_fraction_keeps_everything_for_training(caplog: pytest.LogCaptureFixture) -> None:
    train, validation = split_by_blocks(raster(10, 10), fraction=0.0, gap=5.0, seed=0)
    np.testing.assert_array_equal(train, np.arange(100))
    assert len(validation) == 0
    assert not caplog.records


def test_a_scan_that_is_too_small_has_no_validation_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="diptych"):
        train, validation = split_by_blocks(raster(6, 6), fraction=0.1, gap=25.0, seed=0)
    np.testing.assert_array_equal(train, np.arange(36))
    assert len(validation) == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "4 of 36 patterns for validation and a gap of 25.0 px" in record.getMessage()
    assert "less than half" in record.getMessage()


@pytest.mark.parametrize("fraction", [-0.1, 0.6, np.nan])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"validation fraction: is .*expected 0 to 0.5 \(--validation\)"):
        split_by_blocks(raster(5, 5), fraction=fraction, gap=0.0, seed=0)


@pytest.mark.parametrize("gap", [-1.0, np.inf, np.nan])
def test_a_gap_out_of_range_is_refused(gap: float) -> None:
    with pytest.raises(InputError, match="gap between training and validation patterns: is"):
        split_by_blocks(raster(5, 5), fraction=0.1, gap=gap, seed=0)


# ---------------------------------------------------------------- the probe's width


def test_the_diameter_of_a_gaussian_is_the_closed_form() -> None:
    """Intensity exp(-r^2 / 2 s^2) holds 1 - exp(-R^2 / 2 s^2) within R, wherever it lies and whatever its phase."""
    y, x = np.mgrid[:96, :96]
    for sigma, fraction in ((6.0, 0.9), (9.0, 0.9), (9.0, 0.5)):
        probe = np.exp(-((y - 45.3) ** 2 + (x - 51.6) ** 2) / (4 * sigma**2) + 0.2j * x)[None]
        assert probe_diameter(probe, fraction) == pytest.approx(
            2 * sigma * np.sqrt(-2 * np.log(1 - fraction)), rel=0.02
        )


def test_the_diameter_of_a_disc_goes_as_the_root_of_the_energy() -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    disc = (np.hypot(y, x) < 30).astype(complex)
    assert probe_diameter(disc[None]) == pytest.approx(60 * np.sqrt(0.9), rel=0.01)
    # All modes count by their energy: another one of the same shape changes nothing.
    assert probe_diameter(np.stack([disc, 0.3j * disc])) == pytest.approx(probe_diameter(disc[None]), rel=1e-9)
