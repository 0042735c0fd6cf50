"""A studio server in a process of its own, for browser tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

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
PROGRAM = "from diptych.cli import main; main()"


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a state of a page, for which there is no event."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not come to the expected state"
        time.sleep(0.05)


@dataclass
class Server:
    """``diptych studio`` over one folder; :meth:`start` again after :meth:`kill`."""

    folder: Path
    process: subprocess.Popen[str] | None = None
    address: str = ""
    options: tuple[str, ...] = field(default=())
    program: str = PROGRAM

    def start(self, port: int = 0) -> str:
        """Start the server and return its address, once it answers."""
        command = [sys.executable, "-c", self.program, "studio", "--data", str(self.folder)]
        # With these, the web framework would take the server for one of its own test runs.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "NICEGUI"))}
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--no-browser", *self.options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        self.address = self._printed(60)
        with urlopen(self.address, timeout=30) as answer:  # Printed once the port answers.
            assert answer.status == 200
        return self.address

    def _printed(self, seconds: float) -> str:
        """The address that the server prints; an error where it prints none in time."""
        process = self.process
        assert process is not None
        assert process.stdout is not None
        late = threading.Timer(seconds, process.kill)
        late.start()
        try:
            line = process.stdout.readline()
        finally:
            late.cancel()
        found = re.search(r"http://[^\s?]+", line)
        assert found is not None, f"the server printed no address: {line!r}"
        return found.group().rstrip("/")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.address.rsplit(":", 1)[1].split("/")[0])

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the server, and nothing that it started, as a crash does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """End the server as Ctrl-C does, and what it left behind."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
        self._ended()
        if _group_lives(self.process.pid):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _ended(self) -> None:
        assert self.process is not None
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True
