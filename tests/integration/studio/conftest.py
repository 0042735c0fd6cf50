"""A studio server in a process of its own, and Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.studio.served import ARGUMENTS, CHROMIUM, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server over an empty folder, not yet started."""
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    folder = tmp_path / "data"
    folder.mkdir()
    found = Server(folder)
    yield found
    found.stop()


# Of a module and not of the session: playwright occupies the event loop of the thread, which other tests need.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("browser tests need Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A new tab, 1280 x 800; an error in a script of the page fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert not problems
