"""The load option ``rotation``: the positions turn, lengths in metres are kept, and the table of the load says so."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych.ptycho.io.convert import rotated


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-360, 360),
    st.floats(-360, 360),
    st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)),
    st.integers(0, 2**32 - 1),
)
def test_rotations_keep_distances_add_up_and_keep_the_middle(
    first: float, second: float, pixel: tuple[float, float], seed: int
) -> None:
    positions = np.random.default_rng(seed).normal(size=(9, 2)) * 30
    turned = rotated(positions, first, pixel)
    lengths, kept = (np.linalg.norm(np.diff(each * pixel, axis=0), axis=1) for each in (positions, turned))
    np.testing.assert_allclose(kept, lengths, rtol=1e-9)
    twice, once = rotated(turned, second, pixel), rotated(positions, first + second, pixel)
    np.testing.assert_allclose(twice - twice[0], once - once[0], atol=1e-8)


def test_a_quarter_turn_is_exact_and_brings_x_to_y() -> None:
    corners = np.array([[0.0, 0.0], [0.0, 7.0], [7.0, 0.0], [7.0, 7.0]])
    assert rotated(corners, 90).tolist() == [[0.0, 7.0], [7.0, 7.0], [0.0, 0.0], [7.0, 0.0]]
    assert (rotated(corners, -270) == rotated(corners, 90)).all()


def test_a_scan_is_loaded_rotated_after_its_axes_are_exchanged_and_the_table_says_so(tmp_path: Path) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    path = diptych.save(scan, tmp_path / "scan.npz")
    loaded = diptych.load(path, rotation=30.0, swap_xy=True, use_truth=False)
    assert isinstance(loaded, diptych.Scan)
    np.testing.assert_allclose(loaded.positions, rotated(scan.positions[:, ::-1], 30.0), atol=1e-9)
    rows = {row["part"]: row for row in loaded.metadata["load"]}
    assert rows["scan rotation"] == {
        "part": "scan rotation",
        "read as": "30 degrees",
        "from": "given as an option",
    }
    assert any("rotated by 30 degrees" in said for said in loaded.metadata["conversions"])
    plain = diptych.load(path)
    assert isinstance(plain, diptych.Scan)
    assert {row["part"]: row["from"] for row in plain.metadata["load"]}["scan rotation"] == "as stored"


def test_more_than_a_full_turn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(diptych.InputError, match="rotation"):
        diptych.load(tmp_path / "scan.npz", rotation=400)
