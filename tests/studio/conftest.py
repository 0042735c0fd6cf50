"""A studio over an empty folder, and a simulated browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from studio.simulation import Scenario
from studio.simulation import visit as visiting


@pytest.fixture
def visit(tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs ``await scenario(user, studio)`` with NiceGUI's simulated user and a studio over ``tmp_path``."""
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    from diptych.studio.context import Studio
    from diptych.studio.options import StudioOptions

    return lambda scenario: visiting(Studio(StudioOptions(data=(tmp_path,))), scenario)
