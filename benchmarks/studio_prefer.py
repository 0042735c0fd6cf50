"""The Prefer page in Chromium: time from a key to the next picture, and from the server's answer to a usable page.

Run: ``python benchmarks/studio_prefer.py [--pictures 200]``. Pictures are 512 x 512, enlarged from the synthetic
decoder; fits run after every answer, and in the second pass a thread of the server fits without pause. Times are taken
in the page: from the event of the key to the animation frame in which the next picture is drawn.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
]

SERVER = """
import sys, threading
import numpy as np
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.decoders.base import Decoded
plain = Synthetic._decode
Synthetic._decode = lambda self, latent: Decoded(plain(self, latent).image.repeat(8, 0).repeat(8, 1))
if sys.argv[3] == "fit":
    from diptych.prefer.session.fitting import Fitting
    def again(fitting):
        while True:
            fitting._fit()
    begin = Fitting.resume
    def resume(self):
        begin(self)
        threading.Thread(target=again, args=(self,), daemon=True).start()
    Fitting.resume = resume
from pathlib import Path
from diptych.studio.options import StudioOptions
from diptych.studio.server import run
run(StudioOptions(data=(Path(sys.argv[1]),), port=int(sys.argv[2]), browser=False))
"""

WATCH = """() => {
  window.times = [];
  window.addEventListener('keydown', () => {
    const began = performance.now(), before = document.querySelector('.stage-tile img')?.currentSrc;
    const look = () => {
      const image = document.querySelector('.stage-tile img');
      if (image && image.currentSrc !== before && image.complete && image.naturalWidth) {
        requestAnimationFrame(() => window.times.push(performance.now() - began));
      } else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""

READY = "() => { const i = document.querySelector('.stage-tile img'); return i && i.complete && i.naturalWidth; }"


def measure(pictures: int, pace: float, mode: str) -> dict[str, float]:
    """Times of one pass: ``plain``, or ``fit`` with a fit that never ends."""
    from playwright.sync_api import sync_playwright

    from diptych.prefer import Judgement, Session

    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        with Session.open(Path(folder) / "lake", decoder="synthetic", prompt="a lake") as session:
            for index, candidate in enumerate(session.ask(40)):
                session.tell(Judgement.rate(candidate, good=index % 2 == 0))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-c", SERVER, folder, str(port), mode]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}/prefer?session=lake"
            _wait(f"http://127.0.0.1:{port}/prefer")
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                return _pass(browser, address, pictures, pace)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _pass(browser: Any, address: str, pictures: int, pace: float) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    page.wait_for_selector(".stage-tile img")
    page.get_by_role("button", name="Queue", exact=True).click()
    page.wait_for_selector(".stage-queue .stage-tile img")
    page.evaluate(WATCH)
    for index in range(pictures):
        page.wait_for_function(READY)
        page.wait_for_timeout(1000 * pace)
        page.keyboard.press("gb"[index % 2])
    page.wait_for_timeout(3000)
    times = np.array(page.evaluate("() => window.times"))
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function("() => document.querySelector('.stage-bar button')")
    first = time.perf_counter() - began
    return {
        "pictures": float(len(times)),
        "p50 ms": float(np.percentile(times, 50)),
        "p95 ms": float(np.percentile(times, 95)),
        "longest ms": float(times.max()),
        "first page s": first,
    }


def _wait(address: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def main() -> None:
    """Print a table: one row without, one with a fit that runs all the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--pace", type=float, default=0.4, help="time the person looks at a picture, s")
    given = parser.parse_args()
    for mode in ("plain", "fit"):
        found = measure(given.pictures, given.pace, mode)
        print(f"{mode:6}", "  ".join(f"{name}: {value:.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
