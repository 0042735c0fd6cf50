"""Studio in Chromium: start, first page, key to next picture, and moving over a result of 4,000 x 4,000 pixels.

Run: ``python benchmarks/studio.py [--pictures 200] [--preview]``. Times are taken in the page where it draws. *Start*:
from the command to the printed address, which is printed once the port answers. *First page*: from the request to the
first button that can be pressed. *Key*: from the event of the key to the animation frame in which the next picture is
drawn; pictures are 512 x 512, enlarged from the synthetic decoder, fits run after every answer, and in the second pass
a thread of the server fits without pause. *Move*: from the key that moves the view to the new picture from the server.
*Preview*: a reconstruction with previews in every other block of epochs.
"""

from __future__ import annotations

import argparse
import os
import re
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

BLOCK = 10
"""Epochs between switching previews on and off."""

TRIMMED = 0.2
"""Share of the pairs of blocks, at each end, that is left out of the mean."""

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


def start_and_move() -> dict[str, float]:
    """Start, first page and moving over a large result."""
    from playwright.sync_api import sync_playwright

    import diptych
    from diptych.ptycho.scan import Canvas, Reconstruction

    rng, side = np.random.default_rng(0), 4000
    blocks = rng.uniform(0.5, 1.5, (400, 400)) * np.exp(1j * rng.uniform(-1, 1, (400, 400)))
    canvas = Canvas(np.kron(blocks, np.ones((10, 10))).astype(np.complex64), pixel_m=(1e-8, 1e-8))
    places = np.arange(50.0, side - 50, 100)
    positions = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    light = np.full((side, side), 9, np.float32)
    result = Reconstruction(canvas, np.ones((1, 16, 16), np.complex64), positions, illumination=light)
    with tempfile.TemporaryDirectory() as folder:
        diptych.save(result, Path(folder) / "large.h5")
        program = "from diptych.cli import main; main()"
        command = [sys.executable, "-c", program, "studio", "--data", folder, "--port", "0", "--no-browser"]
        began = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            times = {"start s": time.perf_counter() - began}
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                began = time.perf_counter()
                page.goto(found.group(), wait_until="commit")
                page.wait_for_function("() => window.did_handshake && document.querySelector('.q-btn')")
                times["first page s"] = time.perf_counter() - began
                page.goto(f"{found.group()}compare?file=large.h5")
                page.wait_for_function(SETTLED, timeout=120_000)
                moves = np.array([_move(page, key) for key in ("+", "+", *["ArrowRight", "ArrowDown"] * 10)])
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    return {**times, "move p50 ms": float(np.percentile(moves, 50)), "move p95 ms": float(np.percentile(moves, 95))}


def observed(out: str, size: int, patterns: int, epochs: int, *, context: Any) -> Any:
    """Job function: a reconstruction with previews in half of the blocks of epochs, in the order + + - - + + - -.

    Its result has wall and CPU time of each block, s, and whether previews were made in it.
    """
    from dataclasses import replace

    import diptych
    from diptych.ptycho.jobs import run_reconstruction
    from diptych.runtime.jobs import Finished, JobContext
    from diptych.runtime.progress import Progress

    times: list[tuple[float, float]] = []
    made: list[bool] = []

    def report(progress: Progress) -> None:
        shown = (progress.done - 1) // BLOCK // 2 % 2 == 0
        context.progress(progress if shown else replace(progress, preview=None, state=None))
        if progress.done % BLOCK == 0:
            times.append((time.perf_counter(), time.process_time()))
            made.append(shown)

    scan = Path(out) / "scan.npz"
    if not scan.is_file():
        diptych.save(diptych.simulate(object="natural", size=size, patterns=patterns, step=size / 8, seed=0), scan)
    run_reconstruction(
        scan,
        run=Path(out) / "run",
        overwrite=True,
        options={"engine": "ml", "epochs": epochs, "stop": False},
        context=JobContext(report, context.cancel),
    )
    return Finished({"times": np.diff(times, axis=0).tolist(), "made": made[1:]})


def preview_cost(size: int, patterns: int, epochs: int, rounds: int) -> dict[str, float]:
    """What previews cost, in percent of the reconstruction: blocks of epochs with and without, in turn, in one process.

    Pairs of runs would not tell: from process to process the time of the same run differs by 10 %. ``page`` is the CPU
    time of the server for what one open tab draws; means and their standard errors are over pairs of blocks, without
    the fifth that is lowest and highest: another virtual machine may take a core for a second. Epochs after
    convergence, with many tries each, would hide the difference.
    """
    from scipy.stats import trim_mean
    from scipy.stats.mstats import winsorize

    from diptych.runtime.jobs import JobQueue
    from diptych.studio.pages.reconstruct.watch import preview_picture

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        queue = JobQueue()
        given = {"out": folder, "size": size, "patterns": patterns, "epochs": epochs}
        results, began = [], time.process_time()
        for _ in range(rounds):
            seen: list[int] = []
            job = queue.submit("studio:observed", given, title="observed", process=True)
            while not job.wait(0.25):
                if job.preview and seen != [id(job.preview)]:
                    seen = [id(job.preview)]
                    for values in job.preview.values():
                        preview_picture(values)
            if job.result is None:
                raise SystemExit(f"the reconstruction failed: {job.error}")
            results.append(job.result)
        page = time.process_time() - began
        queue.close()
    shown, hidden = np.concatenate([_pairs(result) for result in results]).swapaxes(0, 1)
    cost = 100 * (shown - hidden) / hidden.mean(0)
    wall, cpu = trim_mean(cost, TRIMMED)
    # Of a trimmed mean: Tukey and McLaughlin, Sankhya A 25, 331 (1963).
    spread = np.asarray(winsorize(cost, (TRIMMED, TRIMMED), axis=0)).std(0, ddof=1)
    wall_error, cpu_error = spread / (1 - 2 * TRIMMED) / np.sqrt(len(cost))
    return {
        "size px": size,
        "patterns": patterns,
        "epoch ms": 1e3 * float(hidden[:, 0].mean()) / BLOCK,
        "wall %": float(wall),
        "+-": float(wall_error),
        "cpu %": float(cpu),
        "+- ": float(cpu_error),
        "page %": 100 * page / float(shown[:, 1].sum()),
    }


def _pairs(result: dict[str, Any]) -> Any:
    """Wall and CPU time of neighbouring blocks with and without previews, (K, 2, 2): pair, with or without, time."""
    # From the second block on, neighbours differ: + -, then - +, so that a slow change of the times cancels.
    times, made = np.array(result["times"]), np.array(result["made"])
    pairs = len(times) // 2 * 2
    times, made = times[:pairs].reshape(-1, 2, 2), made[:pairs].reshape(-1, 2, 1)
    return np.stack([(times * made).sum(1), (times * ~made).sum(1)], 1)


def _move(page: Any, key: str) -> float:
    """Time until the view that a key asks for is drawn, ms, as the viewer notes it."""
    page.locator(".dv canvas").first.focus()
    page.keyboard.press(key)
    page.wait_for_timeout(50)
    page.wait_for_function(SETTLED, timeout=60_000)
    return float(page.evaluate("() => JSON.parse(document.querySelector('.dv canvas').dataset.state).latency"))


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


SETTLED = """() => {
  const text = document.querySelector('.dv canvas')?.dataset.state, state = text && JSON.parse(text);
  return state && state.level !== null && !state.busy;
}"""


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
    """Print a table: start and moves, then keys without and with a fit that runs all the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--pace", type=float, default=0.4, help="time the person looks at a picture, s")
    parser.add_argument("--preview", action="store_true", help="measure only what previews cost")
    given = parser.parse_args()
    if given.preview:
        for size, patterns, epochs in ((64, 150, 500), (128, 400, 150)):
            found = preview_cost(size, patterns, epochs, rounds=6)
            print("preview", "  ".join(f"{name}: {value:.1f}" for name, value in found.items()), flush=True)
        return
    print("once  ", "  ".join(f"{name}: {value:.2f}" for name, value in start_and_move().items()), flush=True)
    for mode in ("plain", "fit"):
        found = measure(given.pictures, given.pace, mode)
        print(f"{mode:6}", "  ".join(f"{name}: {value:.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
