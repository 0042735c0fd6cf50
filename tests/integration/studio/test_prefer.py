"""The Prefer page in a real browser: what is stored is what was seen."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.prefer import Ledger, Session
from diptych.prefer.judgement import image_hash

pytest.importorskip("nicegui", reason="needs NiceGUI (pip install 'diptych[studio]')")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
from integration.studio.prefer_server import CHROMIUM, FLAGS, free_port, server  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed"),
]

# The pixels that are on the screen, drawn to a canvas, as the browser shows them.
PIXELS = """(image) => {
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d', {colorSpace: 'srgb'});
  context.drawImage(image, 0, 0);
  return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""

TILE = ".stage-tile img"
LOADED = "() => { const i = document.querySelector('.stage-tile img'); return i && i.complete && i.naturalWidth; }"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    with Session.open(found / "lake", decoder="synthetic", dimension=4096, prompt="a lake"):
        pass
    return found


def seen(page: Any) -> str:
    """Hash of the pixels of the picture on the screen."""
    values = np.array(page.locator(TILE).first.evaluate(PIXELS), dtype=np.uint8)
    side = int((values.size // 4) ** 0.5)
    return image_hash(np.ascontiguousarray(values.reshape(side, side, 4)[..., :3]))


def stored(data: Path) -> list[str]:
    """Hash of the picture of each row that counts, in order."""
    with Ledger.open(data / "lake", read_only=True) as ledger:
        images = [ledger.candidate(one.judgement.ids[0]).image for one in ledger.judgements()]
    return [image_hash(image) for image in images if image is not None]


def opened(chromium: Any, address: str, mode: str) -> Any:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/prefer?session=lake")
    page.wait_for_selector(TILE)
    if mode != "Batch":
        page.get_by_role("button", name=mode, exact=True).click()
        page.wait_for_selector(f".stage-{mode.lower()} {TILE}")
    return page


def counts(page: Any) -> tuple[int, int, int]:
    """Answers sent, acknowledged, and rows stored, as the page knows them."""
    values = page.locator(".stage").evaluate("stage => ({...stage.dataset})")
    return int(values["sent"]), int(values["acknowledged"]), int(values["rows"])


def settle(page: Any) -> None:
    page.wait_for_function(
        "() => { const d = document.querySelector('.stage').dataset; return d.sent === d.acknowledged; }", timeout=60000
    )


def test_100_pictures_by_keyboard_during_fits_and_decodes(chromium: Any, data: Path) -> None:
    with server(data) as (address, _):
        page = opened(chromium, address, "Queue")
        judged = []
        for index in range(100):
            page.wait_for_function(LOADED)
            judged.append(seen(page))
            page.keyboard.press("gb"[index % 2])
        settle(page)
        assert counts(page) == (100, 100, 100)
        page.close()
    assert stored(data) == judged
    assert len(set(judged)) == 100


def test_a_double_click_stores_one_row(chromium: Any, data: Path) -> None:
    with server(data) as (address, _):
        page = opened(chromium, address, "Queue")
        page.get_by_role("button", name="Accept").dblclick()
        page.wait_for_timeout(500)
        settle(page)
        assert counts(page)[2] == 1
        page.close()
    assert len(stored(data)) == 1


def test_kill_in_the_middle_loses_nothing_that_was_acknowledged(chromium: Any, data: Path) -> None:
    port = free_port()
    with server(data, port) as (address, process):
        page = opened(chromium, address, "Queue")
        killer = threading.Timer(2.0, lambda: os.killpg(process.pid, signal.SIGKILL))
        killer.start()
        while process.poll() is None:
            page.keyboard.press("g")
            page.wait_for_timeout(20)
        killer.join()
        sent, _, rows = counts(page)
        assert rows > 0
        assert rows <= len(stored(data)) <= sent
        with server(data, port) as (address, _):
            page.goto(f"{address}/prefer?session=lake")
            page.wait_for_selector(TILE)
            page.wait_for_function(f"() => document.body.innerText.includes('{len(stored(data))}')")
        page.close()


@pytest.mark.slow
def test_1000_random_clicks_at_20_per_second(chromium: Any, data: Path) -> None:
    rng = random.Random(0)
    with server(data) as (address, _):
        page = opened(chromium, address, "Batch")
        for _ in range(1000):
            buttons = page.locator(".stage-buttons button").element_handles()
            if buttons:
                with suppress(playwright.Error):  # the picture was replaced just before
                    buttons[rng.randrange(len(buttons))].click(timeout=200, no_wait_after=True)
            page.wait_for_timeout(50)
        settle(page)
        sent, acknowledged, _ = counts(page)
        page.wait_for_timeout(500)
        page.close()
    with Ledger.open(data / "lake", read_only=True) as ledger:
        live = ledger.judgements()
        ids = [one.judgement.ids[0] for one in live]
        assert len(ids) == len(set(ids))
        undone = sum(event.kind == "undo" for event in ledger.events())
        total = sum(event.kind == "judgement" for event in ledger.events())
    assert sent == acknowledged
    assert total - undone == len(live)
    assert len(live) > 100


def test_two_tabs_see_the_same_truth(chromium: Any, data: Path) -> None:
    with server(data) as (address, _):
        one, other = opened(chromium, address, "Queue"), opened(chromium, address, "Queue")
        other.wait_for_timeout(500)
        assert seen(one) == seen(other)
        one.keyboard.press("g")
        settle(one)
        one.wait_for_timeout(700)
        assert seen(one) == seen(other)
        other.reload()
        other.wait_for_selector(TILE)
        other.wait_for_timeout(500)
        assert seen(one) == seen(other)
        one.close()
        other.close()
    assert len(stored(data)) == 1


def test_pictures_are_not_given_to_other_hosts(data: Path) -> None:
    import urllib.error
    import urllib.request

    with server(data) as (address, _):
        for path in ("/prefer/picture/none/00.png", "/prefer/file/none/..%2f..%2fetc%2fpasswd", "/prefer/file/x/y.png"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + path)
            assert refused.value.code == 404


def test_markup_in_a_prompt_is_text(chromium: Any, tmp_path: Path) -> None:
    bad = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    with Session.open(tmp_path / "data" / "lake", decoder="synthetic", dimension=256, prompt=bad) as session:
        session.ask(1)
    with server(tmp_path / "data") as (address, _):
        page = opened(chromium, address, "Batch")
        page.get_by_role("button", name="Gallery", exact=True).click()
        page.wait_for_timeout(500)
        page.goto(f"{address}/prefer")
        page.wait_for_selector("text=lake")
        assert page.evaluate("() => window.hacked") is None
        page.close()
