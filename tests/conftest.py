"""Shared by all tests: one torch thread, a quiet backend, and where the measured data may lie."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# The same examples on every machine, however slow or loaded it is.
hypothesis.settings.register_profile("diptych", deadline=None, derandomize=True)
hypothesis.settings.load_profile("diptych")

_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def measured_data() -> Path:
    """Folder of the measured scans; skips where they are absent."""
    if not _DATA.is_dir():
        pytest.skip(
            f"the measured scans are not here (looked beside the checkout, in {_DATA.parent.name}/{_DATA.name})"
        )
    return _DATA
