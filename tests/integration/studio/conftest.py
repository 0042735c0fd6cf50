"""A studio server in a process of its own, and Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Server:
    """``diptych studio`` over one folder; :meth:`start` again after :meth:`kill`."""

    folder: Path
    process: subprocess.Popen[str] | None = None
    address: str = ""
    options: tuple[str, ...] = field(default=())

    def start(self) -> str:
        """Start the server and return its address, once it answers."""
        command = [
            sys.executable,
            "-c",
            "from diptych.cli import main; main()",
            "studio",
            "--data",
            str(self.folder),
            "--port",
            "0",
            "--no-browser",
        ]
        # With these, the web framework would take the server for one of its own test runs.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "NICEGUI"))}
        self.process = subprocess.Popen(
            [*command, *self.options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line
        self.address = found.group().rstrip("/")
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not answer"
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.1)
        return self.address

    def _answers(self) -> bool:
        try:
            with urlopen(self.address, timeout=10) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def kill(self) -> None:
        """End the server as a crash does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the server as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server over an empty folder, not yet started."""
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    found = Server(tmp_path)
    yield found
    found.stop()


@pytest.fixture(scope="session")
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
    """A new tab, 1280 x 800."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()
