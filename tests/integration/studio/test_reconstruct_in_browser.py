"""Reconstruct in a real browser: to the final picture, over a reload, stopped and resumed, and through a crash."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.scan import Canvas, Reconstruction
from diptych.runtime.run_directory import RunDirectory
from integration.studio.served import until

pytestmark = pytest.mark.integration


def write_scan(path: Path, patterns: int = 100) -> None:
    diptych.save(diptych.simulate(object="natural", size=32, patterns=patterns, step=3.0, seed=0), path)


def begin(page: Any, address: str, scan: str = "scan.npz", epochs: int = 400) -> None:
    """Open a scan and start many epochs."""
    page.goto(f"{address}/reconstruct?file={scan}")
    page.get_by_text("Photons per pattern:").wait_for()
    page.get_by_text("All options", exact=True).click()
    field = page.get_by_label("epochs", exact=True)
    field.fill(str(epochs))
    field.press("Tab")
    page.get_by_role("switch", name="stop", exact=True).click()
    page.get_by_text(f"Set: epochs {epochs}, stop False").wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()


def under_way(page: Any) -> None:
    """Wait for the first preview."""
    page.locator('img[alt="Phase so far"]').wait_for(timeout=120_000)


def test_a_simulated_scan_from_the_home_page_to_the_final_picture(server: Any, page: Any) -> None:
    address = server.start()
    page.goto(address)
    page.get_by_role("button", name="Simulated scan").wait_for()
    page.get_by_role("button", name="Simulated scan").click()
    page.get_by_text("Photons per pattern:").wait_for(timeout=120_000)
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Quick look").click()
    page.get_by_text("Set: epochs 15").wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    under_way(page)
    page.reload()
    other = page.context.new_page()
    other.goto(f"{address}/reconstruct")
    for tab in (page, other):
        tab.get_by_text("Done after").wait_for(timeout=240_000)
        tab.get_by_role("button", name="Download TIFF").wait_for()
    with other.expect_download() as waiting:
        other.get_by_role("button", name="Download NPZ").click()
    result = diptych.load(waiting.value.path().rename(server.folder / "downloaded.npz"))
    truth = diptych.load(server.folder / "simulated-scan.npz").truth
    assert diptych.evaluate(result, truth=truth)["complex_error"] < 0.3
    other.goto(f"{address}/jobs")
    other.get_by_role("button", name="Log").first.wait_for()


def test_a_run_is_stopped_and_resumed(server: Any, page: Any) -> None:
    write_scan(server.folder / "scan.npz")
    begin(page, server.start())
    under_way(page)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped. The best state so far is saved").wait_for()
    result = server.folder / "runs" / "scan-1" / "result.h5"
    before = len(diptych.load(result).history["fit"])
    assert 1 <= before < 400
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("Done after 400 epochs").wait_for(timeout=240_000)
    assert len(diptych.load(result).history["fit"]) == 400


def test_a_crash_of_the_server_loses_no_state(server: Any, page: Any) -> None:
    write_scan(server.folder / "scan.npz")
    begin(page, server.start(), epochs=2000)
    under_way(page)
    server.kill()
    run = server.folder / "runs" / "scan-1"
    # The process of the job notices that its server is gone, and saves what it has.
    deadline = time.monotonic() + 180
    while not (run / "result.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(diptych.load(run / "result.h5").history["fit"]) >= 1
    address = server.start()
    page.goto(f"{address}/jobs")
    page.get_by_text("cancelled").wait_for()
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name="Resume").wait_for()
    page.get_by_role("button", name="Download H5").wait_for()


def drawn(page: Any) -> bool:
    """Whether the viewer shows all that it asked for."""
    state = json.loads(page.locator(".dv canvas").first.get_attribute("data-state") or '{"level": null}')
    return state["level"] is not None and not state["busy"]


def picture(page: Any) -> str:
    found: str = page.locator(".dv canvas").first.evaluate("canvas => canvas.toDataURL()")
    return found


def test_slices_and_refined_positions_of_an_earlier_run_are_looked_at(server: Any, page: Any) -> None:
    rng = np.random.default_rng(0)
    slices = np.exp(1j * rng.uniform(-1, 1, (2, 64, 64))).astype(np.complex64)
    recorded = np.array([[y, x] for y in range(0, 48, 8) for x in range(0, 48, 8)], float)
    run = server.folder / "runs" / "thick"
    record = {"program": "diptych", "command": "reconstruct", "started": "2026-01-01T00:00:00Z"}
    directory = RunDirectory.create(run, record)
    result = Reconstruction(
        Canvas(slices.prod(0), pixel_m=(1e-8, 1e-8)),
        np.ones((1, 16, 16), np.complex64),
        recorded + rng.normal(size=recorded.shape),
        recorded_positions=recorded,
        illumination=np.full((64, 64), 9, np.float32),
        slices=slices,
        slice_distance_m=5e-6,
    )
    diptych.save(result, run / "result.h5")
    directory.release()
    page.goto(f"{server.start()}/reconstruct?run=runs/thick")
    page.locator('img[alt="Recorded and refined scan positions"]').wait_for()
    shown = set()
    for name in ("Slice 1 of 2, at 0", "Slice 2 of 2, at 5 µm", "All: their product"):
        page.get_by_label("Slice", exact=True).click()
        page.get_by_role("option", name=name).click()
        page.locator(".dv-title", has_text="thick" if name.startswith("All") else name[1:]).wait_for()
        until(lambda: drawn(page) and picture(page) not in shown)
        shown.add(picture(page))
        assert page.locator(".dv [role=alert]").count() == 0
    page.get_by_label("Slice", exact=True).focus()  # By keyboard alone.
    for key in ("Enter", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator(".dv-title", has_text="lice 1 of 2").wait_for()
