"""The columns of a run's ``metrics.csv``, as :class:`~diptych.runtime.run_directory.RunDirectory` writes them."""

from __future__ import annotations

import csv
import math
from pathlib import Path


def read_columns(path: Path) -> dict[str, list[float]]:
    """The columns of a table of numbers, one value per row; NaN for an empty cell and for what is no number.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    columns: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            for name, value in line.items():
                columns.setdefault(str(name), []).append(_number(value))
    return columns


def _number(text: str | list[str] | None) -> float:
    try:
        return float(text) if isinstance(text, str) and text else math.nan
    except ValueError:
        return math.nan
