"""The figure of refined positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import diptych
from diptych.ptycho.figures.positions import lengthening, show_positions
from diptych.ptycho.scan import Canvas, Reconstruction


def test_moves_are_drawn_without_the_common_shift_and_long_enough_to_be_seen() -> None:
    recorded = np.stack(np.mgrid[:10, :10].astype(float), -1).reshape(-1, 2) * 10
    moves = np.random.default_rng(0).normal(0, 0.1, recorded.shape)
    ax = Figure().subplots()
    show_positions(ax, recorded, recorded + moves + 7.0)
    factor = lengthening(recorded, moves)
    assert factor > 1
    assert f"{factor} times" in ax.get_title()
    x, y = ax.lines[0].get_data()
    ends = np.stack([y, x], 1).reshape(-1, 3, 2)[:, 1]
    np.testing.assert_allclose(ends, recorded + factor * (moves - moves.mean(0)))
    assert lengthening(recorded, 100 * moves) == 1
    assert lengthening(recorded, 0 * moves) == 1


def test_a_result_shows_them_only_where_positions_were_refined() -> None:
    values = np.ones((24, 24), np.complex64)
    positions = np.array([[8.0, 8.0], [8.0, 16.0], [16.0, 8.0], [16.0, 16.0]])
    probe = np.ones((1, 8, 8), np.complex64)
    result = Reconstruction(Canvas(values, (0, 0)), probe, positions)

    def titles(figure: Figure) -> list[str]:
        return [ax.get_title() for ax in figure.findobj(Axes)]

    assert not any("moved by" in title for title in titles(diptych.plot(result)))
    moved = replace(result, recorded_positions=positions + np.array([[0, 1], [1, 0], [0, -1], [-1, 0]]))
    assert any("moved by 1 px" in title for title in titles(diptych.plot(moved)))
    with pytest.raises(diptych.InputError, match="recorded_positions"):
        replace(result, recorded_positions=positions[:2])


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_recorded_positions_are_read_back(tmp_path: Path, suffix: str) -> None:
    positions = np.array([[8.0, 8.0], [8.0, 16.0]])
    result = Reconstruction(
        Canvas(np.ones((24, 24), np.complex64), (0, 0)),
        np.ones((1, 8, 8), np.complex64),
        positions,
        recorded_positions=positions + 0.25,
    )
    path = diptych.save(result, tmp_path / f"r{suffix}")
    np.testing.assert_array_equal(diptych.load(path).recorded_positions, positions + 0.25)
