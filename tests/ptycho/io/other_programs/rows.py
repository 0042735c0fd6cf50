"""What the scripts share that run inside the other programs' environments: a row of the table, and comparisons."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1])
EXPECTED = dict(np.load(FOLDER / "expected.npz"))


def same(name: str, found: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Raise where two arrays differ by more than ``tolerance`` times the largest of ``expected``."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        raise AssertionError(f"{name}: shape {found.shape}, expected {expected.shape}")
    largest = float(np.abs(expected).max()) or 1.0
    off = float(np.abs(found - expected).max()) if found.dtype != bool else float((found != expected).max())
    if off > tolerance * largest:
        raise AssertionError(f"{name}: off by {off:.3g} (largest {largest:.3g})")


def row(file: str, check: Callable[[Path], str]) -> None:
    """Open ``file`` by ``check``, which returns what was compared, and print the row."""
    try:
        says, opened = check(FOLDER / file), "yes"
    except Exception as error:
        says, opened = f"{type(error).__name__}: {error}", "no"
    print("ROW: " + json.dumps({"file": file, "opened": opened, "says": says}))
