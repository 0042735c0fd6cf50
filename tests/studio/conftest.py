"""A studio with one scan, and a simulated browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

LIMIT = 120.0
"""Longest time of one scenario, s."""


def played(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario on a loop of its own, with a time limit; what it leaves running is abandoned with the loop."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(scenario, LIMIT))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture
def play() -> Callable[[Coroutine[Any, Any, None]], None]:
    """:func:`played`."""
    return played


Scenario = Callable[[Any, Any], Coroutine[Any, Any, None]]


@pytest.fixture
def visit(tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs ``await scenario(user, studio)`` with NiceGUI's simulated user and a studio over ``tmp_path``."""
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    from nicegui import core
    from nicegui.testing.user_simulation import user_simulation

    from diptych.studio.context import Studio
    from diptych.studio.options import StudioOptions
    from diptych.studio.pages import register

    async def visiting(scenario: Scenario) -> None:
        studio = Studio(StudioOptions(data=(tmp_path,)))
        try:
            async with user_simulation() as user:
                register(studio)
                assert core.app is not None
                await scenario(user, studio)
        finally:
            await asyncio.to_thread(studio.close)

    return lambda scenario: played(visiting(scenario))
