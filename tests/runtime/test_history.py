"""Columns of a run's ``metrics.csv``."""

from __future__ import annotations

import math
from pathlib import Path

from diptych.runtime.history import read_columns


def test_columns_stay_aligned_where_cells_are_empty_or_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,validation_loss\n1,3.5,\n2,nan,0.25\n3,high,0.125,9\n")
    found = read_columns(path)
    assert found["epoch"] == [1.0, 2.0, 3.0]
    assert found["loss"][0] == 3.5
    assert all(map(math.isnan, found["loss"][1:]))
    assert math.isnan(found["validation_loss"][0])
    assert found["validation_loss"][1:] == [0.25, 0.125]
    path.write_text("epoch,loss\n")
    assert read_columns(path) == {}
