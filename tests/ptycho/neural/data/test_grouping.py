"""Groups of neighbouring patterns: members, numbers, coverage, and reproducibility by the seed."""

from __future__ import annotations

import logging
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.ptycho.neural.data.covering import cover_groups
from diptych.ptycho.neural.data.grouping import make_groups
from diptych.ptycho.neural.data.neighbours import Groups


def raster(rows: int, columns: int, step: float = 5.0, jitter: float = 0.0) -> np.ndarray[Any, Any]:
    grid = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 2) * step
    return grid + np.random.default_rng(7).normal(size=grid.shape) * jitter


def spiral(count: int) -> np.ndarray[Any, Any]:
    turn, radius = np.arange(count) * np.pi * (3 - np.sqrt(5)), 3 * np.sqrt(np.arange(count))
    return np.stack([radius * np.sin(turn), radius * np.cos(turn)], axis=1)


def distances(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def assert_near(groups: Groups, positions: np.ndarray[Any, Any], near: int) -> None:
    """No member is farther from its seed than the seed's ``near``-th nearest neighbour."""
    every = distances(positions)
    # Column 0 is the pattern itself.
    reach = np.sort(every, axis=1)[:, min(near, len(positions) - 1)]
    seeds = groups.members[:, :1]
    assert (every[seeds, groups.members] <= reach[seeds] + 1e-9).all()


def assert_sound(groups: Groups, count: int, size: int) -> None:
    assert groups.members.dtype == np.int64
    assert groups.members.shape[1] == size
    assert ((groups.members >= 0) & (groups.members < count)).all()
    assert all(len(set(row)) == size for row in groups.members.tolist())
    assert np.isin(groups.members, groups.sample).all()
    np.testing.assert_array_equal(groups.covered, sorted(set(groups.members.ravel().tolist())))


def sets(groups: Groups) -> list[frozenset[int]]:
    return [frozenset(row) for row in groups.members.tolist()]


# Few distinct coordinates, so that ties and repeated positions are common, and now and then something far away.
coordinate = st.one_of(st.integers(0, 4).map(float), st.floats(-20, 20), st.just(1e6))
scans = st.lists(st.tuples(coordinate, coordinate), min_size=9, max_size=40).map(np.array)


# ---------------------------------------------------------------- training


@settings(max_examples=60, deadline=None)
@given(scans, st.integers(1, 3), st.integers(0, 8), st.integers(0, 3))
def test_groups_are_a_seed_and_different_patterns_near_it(
    positions: np.ndarray[Any, Any], gridsize: int, more: int, seed: int
) -> None:
    size = gridsize**2
    groups = make_groups(positions, gridsize=gridsize, neighbours=size - 1 + more, seed=seed)
    assert_sound(groups, len(positions), size)
    assert sorted(groups.members[:, 0]) == list(range(len(positions)))
    assert_near(groups, positions, size - 1 + more)


@pytest.mark.parametrize(("gridsize", "near"), [(2, 4), (3, 16)])
def test_all_of_the_nearest_neighbours_and_no_others_are_drawn(gridsize: int, near: int) -> None:
    positions = spiral(60)
    seen: dict[int, set[int]] = {}
    for seed in range(40):
        for row in make_groups(positions, gridsize=gridsize, seed=seed).members.tolist():
            seen.setdefault(row[0], set()).update(row[1:])
    order = distances(positions).argsort(axis=1)[:, 1 : near + 1]
    assert seen == {i: set(order[i].tolist()) for i in range(60)}


def test_neighbours_are_drawn_evenly() -> None:
    """Each of the K neighbours is in (C - 1) / K of its seed's groups."""
    positions = spiral(100)
    rows = np.concatenate([make_groups(positions, gridsize=2, neighbours=6, seed=s).members for s in range(300)])
    nearest = distances(positions).argsort(axis=1)[:, 1:7]
    share = (rows[:, 1:, None] == nearest[rows[:, 0]][:, None]).any(axis=1).mean(axis=0)
    # 30,000 groups: three standard deviations are 0.009.
    np.testing.assert_allclose(share, 0.5, atol=0.01)


def test_a_seed_decides_everything() -> None:
    positions = spiral(80)
    wanted: dict[str, Any] = {"gridsize": 2, "n_groups": 200, "n_subsample": 60, "pool": 6, "oversample": True}
    first, second = (make_groups(positions, **wanted, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.members, second.members)
    np.testing.assert_array_equal(
        first.members, make_groups(positions, **wanted, seed=np.random.default_rng(3)).members
    )
    assert (first.members != make_groups(positions, **wanted, seed=4).members).any()


def test_a_generator_that_goes_on_gives_other_groups() -> None:
    rng = np.random.default_rng(0)
    first, second = (make_groups(spiral(50), gridsize=2, seed=rng) for _ in range(2))
    assert (first.members != second.members).any()


def test_one_pattern_is_a_group_when_gridsize_is_one() -> None:
    groups = make_groups(raster(5, 5), gridsize=1, n_groups=10, seed=1)
    assert groups.members.shape == (10, 1)
    assert len(groups.covered) == 10
    assert len(make_groups(np.zeros((1, 2)), gridsize=1).members) == 1


def test_sequential_groups_are_deterministic() -> None:
    positions = spiral(50)
    groups = make_groups(positions, gridsize=2, n_groups=20, sequential=True, seed=1)
    np.testing.assert_array_equal(groups.members, distances(positions).argsort(axis=1)[:20, :4])
    np.testing.assert_array_equal(
        groups.members, make_groups(positions, gridsize=2, n_groups=20, sequential=True, seed=2).members
    )


def test_groups_of_a_subsample_hold_its_patterns_alone() -> None:
    positions = spiral(100)
    groups = make_groups(positions, gridsize=2, n_subsample=30, seed=5)
    assert groups.members.shape == (30, 4)
    assert len(groups.sample) == 30
    assert (np.diff(groups.sample) > 0).all()
    assert_sound(groups, 100, 4)
    other = make_groups(positions, gridsize=3, n_groups=7, n_subsample=30, seed=5)
    np.testing.assert_array_equal(groups.sample, other.sample)
    assert (groups.sample != make_groups(positions, gridsize=2, n_subsample=30, seed=6).sample).any()


def test_neighbours_are_sought_in_the_subsample() -> None:
    positions = spiral(100)
    groups = make_groups(positions, gridsize=2, neighbours=3, n_subsample=30)
    local = np.searchsorted(groups.sample, groups.members)
    nearest = distances(positions[groups.sample]).argsort(axis=1)[:, :4]
    assert [set(row) for row in local.tolist()] == [set(nearest[row[0]].tolist()) for row in local.tolist()]


def test_offsets_are_positions_about_the_middle_of_the_group() -> None:
    positions = raster(2, 2, step=6.0)
    groups = Groups(np.array([[3, 0, 1, 2]]), np.arange(4))
    np.testing.assert_array_equal(groups.offsets(positions), [[[3, 3], [-3, -3], [-3, 3], [3, -3]]])
    many = make_groups(raster(8, 8, jitter=1.0), gridsize=2).offsets(raster(8, 8, jitter=1.0))
    np.testing.assert_allclose(many.mean(axis=1), 0, atol=1e-12)


def test_the_log_counts_groups_and_patterns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diptych"):
        groups = make_groups(raster(32, 32), gridsize=2, n_groups=250)
    assert caplog.messages == [
        f"250 groups of 4 patterns: 1,000 patterns used, {len(groups.covered)} distinct of 1,024"
    ]


# ---------------------------------------------------------------- more groups than patterns


@settings(max_examples=60, deadline=None)
@given(scans, st.integers(2, 3), st.integers(0, 3), st.floats(0, 1), st.integers(0, 3))
def test_oversampled_groups_are_different_and_even_over_seeds(
    positions: np.ndarray[Any, Any], gridsize: int, more: int, part: float, seed: int
) -> None:
    size, count = gridsize**2, len(positions)
    pool = size + more
    possible = count * comb(min(pool, count - 1), size - 1)
    total = min(count + 1 + round(part * 300), possible)
    groups = make_groups(positions, gridsize=gridsize, n_groups=total, pool=pool, oversample=True, seed=seed)
    assert_sound(groups, count, size)
    assert len(groups.members) == total
    assert len({(row[0], frozenset(row)) for row in groups.members.tolist()}) == total
    for part_of in (groups.members, groups.members[: total // 2]):
        times = np.bincount(part_of[:, 0], minlength=count)
        assert times.max() - times.min() <= 1
    assert_near(groups, positions, pool)


def test_all_combinations_occur() -> None:
    positions = spiral(30)
    groups = make_groups(positions, gridsize=2, n_groups=30 * comb(5, 3), pool=5, oversample=True)
    assert len({(row[0], frozenset(row)) for row in groups.members.tolist()}) == 300
    assert_near(groups, positions, 5)


def test_oversampled_combinations_are_drawn_evenly() -> None:
    """Two of the 35 combinations per seed: every neighbour is in 3 / 7 of the groups."""
    positions = spiral(100)
    rows = np.concatenate(
        [
            make_groups(positions, gridsize=2, n_groups=200, pool=7, oversample=True, seed=seed).members
            for seed in range(100)
        ]
    )
    nearest = distances(positions).argsort(axis=1)[:, 1:8]
    share = (rows[:, 1:, None] == nearest[rows[:, 0]][:, None]).any(axis=1).mean(axis=0)
    np.testing.assert_allclose(share, 3 / 7, atol=0.015)


def test_the_pool_is_for_oversampling_alone() -> None:
    positions = spiral(50)
    plain, allowed = (
        make_groups(positions, gridsize=2, pool=pool, oversample=over) for pool, over in ((None, False), (7, True))
    )
    np.testing.assert_array_equal(plain.members, allowed.members)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gridsize": 4}, "gridsize: is 4; expected 1, 2 or 3"),
        ({"gridsize": 1.5}, "gridsize: found 1.5"),
        ({"neighbours": 2}, r"neighbours: is 2, too few for groups of 4 .* at least 3 \(--neighbours\)"),
        ({"gridsize": 3, "neighbours": 7}, "neighbours: is 7"),
        ({"n_groups": 0}, "n_groups: is 0"),
        ({"n_subsample": 0}, "n_subsample: is 0"),
        ({"n_subsample": 26}, "n_subsample: is 26, but the scan has 25 patterns"),
        ({"n_subsample": 3}, "3 patterns are too few for groups of 4"),
        (
            {"n_groups": 26},
            r"n_groups: is 26, but there are 25 patterns; expected at most 25 .*oversample=True \(--oversample\)",
        ),
        ({"n_groups": 11, "n_subsample": 10}, "n_groups: is 11, but there are 10 patterns"),
        (
            {"gridsize": 1, "n_groups": 26, "oversample": True},
            "groups of one pattern differ in their seed only; expected at most 25",
        ),
        ({"n_groups": 26, "oversample": True, "sequential": True}, "sequential groups differ in their seed only"),
        (
            {"n_groups": 26, "oversample": True, "neighbours": 3},
            r"pool: is 3, too small .* at least 4 neighbours \(--pool\)",
        ),
        (
            {"n_groups": 26, "oversample": True, "pool": 3},
            r"pool: is 3, too small .* at least 4 neighbours \(--pool\)",
        ),
        ({"n_groups": 101, "oversample": True, "pool": 4}, "n_groups: is 101, .* have 100 different groups of 4"),
        ({"n_groups": 5, "n_subsample": 4, "oversample": True, "pool": 7}, "have 4 different groups of 4"),
    ],
)
def test_impossible_groups_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_groups(raster(5, 5), **{"gridsize": 2, **changes})


def test_a_pool_with_more_groups_than_numbers_is_refused() -> None:
    with pytest.raises(InputError, match=r"more than 2\^63 combinations"):
        make_groups(raster(40, 40), gridsize=3, n_groups=2000, pool=1500, oversample=True)


# ---------------------------------------------------------------- cover


@settings(max_examples=60, deadline=None)
@given(scans, st.integers(1, 3), st.integers(0, 3))
def test_a_cover_holds_every_pattern_in_compact_groups(
    positions: np.ndarray[Any, Any], gridsize: int, seed: int
) -> None:
    size = gridsize**2
    groups = cover_groups(positions, gridsize=gridsize, seed=seed)
    assert_sound(groups, len(positions), size)
    np.testing.assert_array_equal(groups.covered, np.arange(len(positions)))
    # Each group covers its seed for the first time.
    assert len(set(groups.members[:, 0].tolist())) == len(groups.members)
    assert_near(groups, positions, 2 * size)


@pytest.mark.parametrize(
    "positions", [raster(32, 32), raster(32, 32, jitter=1.0), raster(9, 100), spiral(1000)], ids=len
)
def test_a_cover_is_small(positions: np.ndarray[Any, Any]) -> None:
    assert len(cover_groups(positions, gridsize=2).members) < 1.15 * len(positions) / 4
    assert len(cover_groups(positions, gridsize=3).members) < 1.3 * len(positions) / 9


def test_a_cover_is_the_same_twice() -> None:
    first, second, other = (cover_groups(raster(12, 12), gridsize=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.members, second.members)
    assert first.members.shape != other.members.shape or (first.members != other.members).any()


@settings(max_examples=40, deadline=None)
@given(scans, st.integers(2, 3), st.integers(1, 4))
def test_redundancy_is_kept_by_different_groups(
    positions: np.ndarray[Any, Any], gridsize: int, redundancy: int
) -> None:
    size = gridsize**2
    redundancy = min(redundancy, comb(min(2 * size, len(positions) - 1), size - 1))
    groups = cover_groups(positions, gridsize=gridsize, redundancy=redundancy)
    assert np.bincount(groups.members.ravel(), minlength=len(positions)).min() >= redundancy
    assert len(set(sets(groups))) == len(groups.members)
    assert_near(groups, positions, 2 * size)


def test_redundancy_costs_no_more_than_its_share() -> None:
    once, thrice = (
        len(cover_groups(raster(20, 20, jitter=1.0), gridsize=2, redundancy=times).members) for times in (1, 3)
    )
    assert thrice < 3.3 * once


def test_as_many_groups_as_there_are_can_be_asked_for() -> None:
    """Five patterns, four other ones each: all 5 groups of 4 but one hold a given pattern, and a sixth does not
    exist."""
    groups = cover_groups(raster(1, 5), gridsize=2, redundancy=4)
    assert set(sets(groups)) == {frozenset(range(5)) - {i} for i in range(5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gridsize": 0}, "gridsize: is 0"),
        ({"neighbours": 2}, "neighbours: is 2"),
        ({"redundancy": 0}, "redundancy: is 0"),
        ({"redundancy": 2, "gridsize": 1}, "at most 1"),
        ({"redundancy": 5, "neighbours": 4}, r"redundancy: is 5, .* at most 4 \(--redundancy\)"),
    ],
)
def test_impossible_covers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cover_groups(raster(5, 5), **{"gridsize": 2, **changes})


@pytest.mark.parametrize("find", [make_groups, cover_groups])
def test_fewer_patterns_than_members_are_refused(find: Any) -> None:
    with pytest.raises(InputError, match="3 patterns are too few for groups of 4; expected at least 4"):
        find(raster(1, 3), gridsize=2)


@pytest.mark.parametrize("find", [make_groups, cover_groups])
def test_patterns_far_away_leave_the_others_in_compact_groups(find: Any) -> None:
    """Two islands of 50 patterns: no group has members of both."""
    positions = np.concatenate([spiral(50), spiral(50) + 1e5])
    for gridsize in (2, 3):
        groups = find(positions, gridsize=gridsize)
        assert np.abs(groups.offsets(positions)).max() < 100


def test_a_cover_of_a_large_scan_is_small() -> None:
    positions = raster(100, 100, jitter=1.0)
    groups = cover_groups(positions, gridsize=2)
    assert len(groups.covered) == len(positions)
    assert len(groups.members) < 1.15 * len(positions) / 4
