"""Each action of the Reconstruct page, pressed in a real browser, and what comes of it."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych
from integration.studio.served import Server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    """A server over a scan with faults that are noticed, and one that has none."""
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    folder = tmp_path_factory.mktemp("data")
    scan = diptych.simulate(object="natural", size=32, patterns=64, step=4.0, dose=1e5, seed=0)
    diptych.save(scan, folder / "scan.npz")
    counts = scan.counts.copy()
    counts[[5, 9]] = 0
    counts[:, 3, 4] = counts.max() // 2
    diptych.save(replace(scan, counts=counts), folder / "faulty.npz")
    diptych.save(replace(scan, counts=np.roll(scan.counts, (6, 0), axis=(1, 2))), folder / "moved.npz")
    server = Server(folder)
    server.start()
    yield server
    server.stop()


SETTLED = """() => {
  const found = document.body.innerHTML.length;
  if (window.found !== found) { window.found = found; window.since = Date.now(); }
  return Date.now() - window.since > 1500;
}"""
"""Whether the page has not changed for a while: pictures that arrive move what lies below, away from a click."""

DRAWN = """() => {
  const state = JSON.parse(document.querySelector('.dv canvas').dataset.state);
  return !state.busy && state.level !== null;
}"""


def opened(page: Any, place: Server, name: str = "scan.npz") -> None:
    page.goto(f"{place.address}/reconstruct?file={name}")
    page.get_by_text("Photons per pattern:").wait_for()
    page.wait_for_function("window.did_handshake")
    # Until then the scan of the test before may be shown.
    page.wait_for_function("name => document.querySelector('input[aria-label=Scan]')?.value === name", arg=name)
    page.get_by_text("Reading the scan").wait_for(state="hidden")
    page.wait_for_function(SETTLED, polling=100)


def unfold(page: Any, name: str) -> None:
    page.get_by_text(name, exact=True).click()


def fill(page: Any, name: str, value: str) -> None:
    field = page.get_by_label(name, exact=True).locator("visible=true").first
    field.fill(value)
    field.press("Tab")


def test_prepare_writes_a_new_scan_and_opens_it(page: Any, place: Server) -> None:
    opened(page, place)
    unfold(page, "Prepare: choose frames, correct, crop, bin")
    fill(page, "crop", "16")
    page.get_by_role("button", name="Write the prepared scan and open it").click()
    page.get_by_text("Pattern size, px: 16").wait_for(timeout=60_000)
    assert diptych.load(place.folder / "scan-prepared.npz").size == 16


def test_prepare_holds_for_each_reconstruction(page: Any, place: Server) -> None:
    opened(page, place)
    unfold(page, "Prepare: choose frames, correct, crop, bin")
    fill(page, "crop", "24")
    page.get_by_role("button", name="Prepare in each reconstruction").click()
    page.get_by_text('Set: prepare {"crop": 24}').wait_for()
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Quick look").click()
    page.get_by_text('Set: prepare {"crop": 24}, epochs 15, subpixel round').wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    page.get_by_text("Done after").wait_for(timeout=120_000)
    assert any(diptych.load(path).probe.shape[-1] == 24 for path in place.folder.glob("runs/*/result.h5"))


def test_convert_says_what_is_kept(page: Any, place: Server) -> None:
    opened(page, place)
    unfold(page, "Convert to another format")
    page.get_by_role("button", name="Convert", exact=True).click()
    page.get_by_text(re.compile(r"Written: scan\.cxi\s+(Lost|Everything)")).wait_for(timeout=60_000)
    assert len(diptych.load(place.folder / "scan.cxi")) == 64


def test_the_file_is_checked_against_a_standard(page: Any, place: Server) -> None:
    diptych.save(diptych.load(place.folder / "scan.npz"), place.folder / "checked.cxi")
    opened(page, place, "checked.cxi")
    unfold(page, "Check against a standard")
    page.get_by_role("combobox", name="Standard").click()
    page.get_by_role("option", name="CXI", exact=True).click()
    page.get_by_role("button", name="Check the file").click()
    page.get_by_text(re.compile(r"checked\.cxi (conforms to|deviates from) CXI")).wait_for(timeout=60_000)


def test_check_ranks_readings_and_one_is_taken(page: Any, place: Server) -> None:
    opened(page, place)
    page.get_by_role("button", name="Run check").click()
    page.get_by_role("button", name="Read so").first.wait_for(timeout=240_000)
    picture = page.locator('[alt="Mean pattern"]').first.get_attribute("src") or ""
    page.get_by_role("button", name="Read so").last.click()
    page.locator(f'[alt="Mean pattern"][src="{picture}"]').wait_for(state="detached")
    drawn = page.locator('[alt="Mean pattern"]').first
    drawn.wait_for()
    assert drawn.get_attribute("src") != picture, "the scan was read anew"


def test_frames_are_turned_by_the_keys(page: Any, place: Server) -> None:
    opened(page, place)
    page.get_by_role("slider", name="Frame").locator("[tabindex='0']").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.get_by_text("Frame 30 of 64:").wait_for()
    source = page.locator('[alt="Counts of one pattern"]').first.get_attribute("src")
    assert source is not None
    assert source.split("?")[0].endswith("/30")


def test_axes_are_swapped_and_swapped_back(page: Any, place: Server) -> None:
    opened(page, place)
    for state in ("true", "false"):
        picture = page.locator('[alt="Mean pattern"]').first.get_attribute("src") or ""
        page.get_by_role("button", name="Swap position axes").click()
        page.locator(f'[alt="Mean pattern"][src="{picture}"]').wait_for(state="detached")
        unfold(page, "How the scan is read")
        switch = page.get_by_role("switch", name="swap xy")
        switch.wait_for()
        assert switch.get_attribute("aria-checked") == state


def drag(page: Any, image: Any) -> None:
    """Over rows 4 to 7 and columns 8 to 15 of 32."""
    image.hover()  # Once the dialog has come to rest.
    box = image.bounding_box()
    page.mouse.move(box["x"] + 0.26 * box["width"], box["y"] + 0.13 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.49 * box["width"], box["y"] + 0.24 * box["height"], steps=4)
    page.mouse.up()


def test_a_mask_is_painted_with_the_mouse(page: Any, place: Server) -> None:
    opened(page, place)
    held: list[Any] = []
    page.route("**/studio-scan/*/mean", lambda route: held.append(route))
    page.get_by_role("button", name="Paint a mask").click()
    image = page.get_by_role("dialog").locator("img").first
    page.wait_for_function("image => image.src", arg=image.element_handle())
    drag(page, image)  # On a picture that has not arrived: no place is known, nothing is masked.
    before = image.bounding_box()
    page.get_by_text("Nothing is masked yet.", exact=True).wait_for()
    for route in held:
        route.continue_()
    page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
    assert image.bounding_box() == before
    drag(page, image)
    page.get_by_text("Masked, ends not included: rows 4 to 8, columns 8 to 16").wait_for()
    page.get_by_role("button", name="Save a masked copy and open it").click()
    page.get_by_text("Masked fraction: 0.03125").wait_for(timeout=60_000)
    mask = diptych.load(place.folder / "scan-masked-1.npz").mask
    assert mask is not None
    assert not mask[..., 4:8, 8:16].any()
    assert mask.sum() == mask.size - 32 * (mask.size // 1024)


def test_each_remedy_does_what_it_says(page: Any, place: Server) -> None:
    opened(page, place, "faulty.npz")
    page.get_by_role("button", name="Drop frames 5, 9").click()
    page.get_by_text("Reconstruct will use: drop 5,9.").wait_for()
    page.get_by_role("button", name="Mask these pixels").first.click()
    page.get_by_text(re.compile("^Set: .*drop 5,9, auto mask True")).wait_for()
    unfold(page, "Drop frames")
    assert page.get_by_role("switch", name="auto mask").first.get_attribute("aria-checked") == "true"
    page.get_by_role("button", name="Drop this frame").click()
    page.get_by_text(re.compile("^Set: .*drop 5,9,0, auto mask True")).wait_for()
    page.get_by_role("button", name="Reset options").click()
    page.get_by_text(re.compile("^Set: .*drop")).wait_for(state="hidden")
    opened(page, place, "moved.npz")
    page.get_by_role("button", name="Move the patterns by -6, 0 px").click()
    page.get_by_role("button", name="Move the patterns by -6, 0 px").wait_for(state="detached", timeout=60_000)


def test_a_result_with_error_maps_is_looked_at_and_taken_away(page: Any, place: Server) -> None:
    opened(page, place)
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Standard").click()
    page.wait_for_function(SETTLED, polling=100)
    unfold(page, "All options")
    fill(page, "epochs", "12")
    for name, value in (("engine", "ml"), ("correct positions", "on")):
        page.get_by_label(name, exact=True).click()
        page.get_by_role("option", name=value, exact=True).click()
        page.get_by_text(re.compile(rf"^Set: .*{name} {value}")).wait_for()
    page.get_by_role("switch", name="error bars").click()
    page.get_by_text(re.compile("^Set: .*error bars True")).wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    page.get_by_text("Done after").wait_for(state="hidden")  # That of an earlier run.
    page.get_by_text("Done after").wait_for(timeout=240_000)
    page.locator('img[alt="Phase so far"]').wait_for(state="hidden")
    page.get_by_text(re.compile(r"Mode 1: 100\.0% of the power")).wait_for(timeout=60_000)
    quantities = page.get_by_label("Quantity").first
    names = quantities.locator("option").all_inner_texts()
    assert {"Unwrapped phase", "Hue: phase, brightness: amplitude", "Illumination"} <= set(names)
    for name in [name for name in names if "tandard error" in name or "nwrapped" in name or "Hue" in name]:
        quantities.select_option(label=name)
        page.wait_for_function(DRAWN, timeout=60_000)
        assert page.locator(".dv [role=alert]").count() == 0
    assert any("tandard error" in name for name in names)
    page.get_by_role("button", name="Resolution from two halves").click()
    page.get_by_role("img", name="Fourier ring correlation of two halves").first.wait_for(timeout=240_000)
    unfold(page, "Photon limit: the least error that the photons allow")
    page.get_by_role("button", name="Compute the photon limit").click()
    page.get_by_role("img", name="Least standard errors").first.wait_for(timeout=240_000)
    unfold(page, "The same from the command line or Python")
    page.get_by_text("diptych reconstruct").first.wait_for()
    for kind, begin in (("H5", b"\x89HDF"), ("NPZ", b"PK"), ("PNG", b"\x89PNG"), ("TIFF", b"II*"), ("report", b"<!")):
        with page.expect_download(timeout=120_000) as waiting:
            page.get_by_role("button", name=f"Download {kind}").click()
        data = waiting.value.path().read_bytes()
        assert data[: len(begin)].lower() == begin.lower(), kind
    assert Image.open(io.BytesIO(data if data[:2] == b"II" else (place.folder / "runs/scan-1/result.png").read_bytes()))
    page.get_by_role("button", name="Open in Compare").click()
    page.wait_for_url("**/compare?file=**")
    page.wait_for_function("document.querySelectorAll('.dv').length === 1")


def test_the_run_is_exported_from_the_jobs_page(page: Any, place: Server) -> None:
    page.goto(f"{place.address}/jobs?run=runs/scan-1")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export").first.click()
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert archive.testzip() is None
        assert "scan-1/result.h5" in archive.namelist()
    page.get_by_role("button", name="Show").first.click()
    page.get_by_text("Showing the earlier run").or_(page.get_by_text("Done after")).wait_for()


def test_options_of_another_tab_are_seen(page: Any, place: Server) -> None:
    opened(page, place)
    other = page.context.new_page()
    opened(other, place)
    for tab in (page, other):
        unfold(tab, "All options")
    fill(page, "seed", "17")
    other.wait_for_function("[...document.querySelectorAll('.option-seed input')].some(e => e.value === '17')")
