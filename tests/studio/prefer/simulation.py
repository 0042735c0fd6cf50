"""A simulated browser on the pages of a studio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from studio.conftest import played

MAIN = """
from nicegui import ui
from studio.prefer import simulation
simulation.declare()
ui.run(storage_secret="simulated")
"""

_declare: list[Callable[[], None]] = []


def declare() -> None:
    """Declare the pages; called by the main file of the simulation."""
    _declare[-1]()


@asynccontextmanager
async def browser(tmp_path: Path) -> AsyncIterator[tuple[Any, Studio]]:
    """A user of the pages, and the studio with the data folder ``tmp_path / "data"``."""
    from nicegui.testing.user_simulation import user_simulation

    from diptych.studio.pages import prefer

    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    studio = Studio(StudioOptions(data=(data,)))
    _declare.append(lambda: prefer.register(studio))
    main = tmp_path / "main.py"
    main.write_text(MAIN)
    try:
        async with user_simulation(main_file=main) as user:
            yield user, studio
            studio.close()
    finally:
        _declare.pop()


async def eventually(test: Callable[[], Any], what: str = "", seconds: float = 15.0) -> None:
    """Wait until something holds; fail after a while."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, what or "it never happened"
        await asyncio.sleep(0.05)


def simulate(tmp_path: Path, scenario: Callable[[Any, Studio], Awaitable[None]]) -> None:
    """Run a scenario with a user and a studio."""

    async def run() -> None:
        async with browser(tmp_path) as (user, studio):
            await scenario(user, studio)

    played(run())
