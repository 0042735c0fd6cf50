"""The Prefer page in a real browser: what is stored is what was seen."""

from __future__ import annotations

import base64
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.prefer import Ledger, Session
from diptych.prefer.judgement import image_hash
from integration.studio.served import Server, until

pytestmark = pytest.mark.integration

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


@pytest.fixture
def lake(server: Server) -> Server:
    """A server over a folder with one session, not yet started."""
    with Session.open(server.folder / "lake", decoder="synthetic", dimension=4096, prompt="a lake"):
        pass
    return server


def seen(page: Any) -> str:
    """Hash of the pixels of the picture on the screen."""
    values = np.array(page.locator(TILE).first.evaluate(PIXELS), dtype=np.uint8)
    side = int((values.size // 4) ** 0.5)
    return image_hash(np.ascontiguousarray(values.reshape(side, side, 4)[..., :3]))


def stored(folder: Path) -> list[str]:
    """Hash of the picture of each row that counts, in order."""
    with Ledger.open(folder / "lake", read_only=True) as ledger:
        images = [ledger.candidate(one.judgement.ids[0]).image for one in ledger.judgements()]
    return [image_hash(image) for image in images if image is not None]


def opened(page: Any, address: str, mode: str = "Batch") -> None:
    page.goto(f"{address}/prefer?session=lake")
    page.wait_for_selector(TILE)
    if mode != "Batch":
        page.get_by_role("button", name=mode, exact=True).click()
        page.wait_for_selector(f".stage-{mode.lower()} {TILE}")


def counts(page: Any) -> tuple[int, int, int]:
    """Answers sent, acknowledged, and rows stored, as the page knows them."""
    values = page.locator(".stage").evaluate("stage => ({...stage.dataset})")
    return int(values["sent"]), int(values["acknowledged"]), int(values["rows"])


def settle(page: Any) -> None:
    page.wait_for_function(
        "() => { const d = document.querySelector('.stage').dataset; return d.sent === d.acknowledged; }", timeout=60000
    )


def settle_on_disk(page: Any, folder: Path) -> None:
    """Wait until the page knows of all rows and no more events come: "Undo" is not acknowledged."""

    def events() -> tuple[int, int]:
        with Ledger.open(folder / "lake", read_only=True) as ledger:
            found = list(ledger.events())
        return len(found), sum(event.judgement is not None for event in found)

    def still() -> bool:
        before = events()
        page.wait_for_timeout(1000)
        return before == events() and counts(page)[2] == before[1]

    until(still, 120)


SLOWER = """
import time
from diptych.cli import main
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.utility.linear_gp import LinearGP

def slower(kind, name, seconds):
    done = getattr(kind, name)

    def timed(*arguments, **options):
        began = time.time()
        found = done(*arguments, **options)
        time.sleep(seconds)
        with open(name + ".txt", "a") as file:
            file.write(f"{began} {time.time()}\\n")
        return found

    setattr(kind, name, timed)

slower(LinearGP, "_fit", 0.3)
slower(Synthetic, "_decode", 0.25)
main()
"""
"""A server whose fits and decodes take their time, as those of a large model do, and note when they ran."""


def ran_at(folder: Path, name: str, moments: list[float]) -> int:
    """At how many of the moments (s) a function that :data:`SLOWER` times was running."""
    runs = [tuple(map(float, line.split())) for line in (folder / f"{name}.txt").read_text().splitlines()]
    return sum(any(began <= moment <= ended for began, ended in runs) for moment in moments)


def test_100_pictures_by_keyboard_during_fits_and_decodes(page: Any, lake: Server) -> None:
    lake.program = SLOWER
    opened(page, lake.start(), "Queue")
    judged, moments = [], []
    for index in range(100):
        page.wait_for_function(LOADED)
        judged.append(seen(page))
        moments.append(time.time())
        page.keyboard.press("gb"[index % 2])
    settle(page)
    assert counts(page) == (100, 100, 100)
    assert stored(lake.folder) == judged
    assert len(set(judged)) == 100
    # That it was tested: a slow page leaves the fits more time to end between two keys.
    assert ran_at(lake.folder, "_fit", moments) > 20
    assert ran_at(lake.folder, "_decode", moments) > 10


def test_a_double_click_stores_one_row(page: Any, lake: Server) -> None:
    opened(page, lake.start(), "Queue")
    page.get_by_role("button", name="Accept").dblclick()
    until(lambda: counts(page)[2] > 0)
    page.wait_for_timeout(500)  # A second row would come now.
    settle(page)
    assert counts(page)[2] == 1
    assert len(stored(lake.folder)) == 1


def test_kill_in_the_middle_loses_nothing_that_was_acknowledged(page: Any, lake: Server) -> None:
    opened(page, lake.start(), "Queue")
    killer = threading.Timer(1.0, lake.kill)
    judged = []
    while lake.running:
        if not killer.is_alive() and counts(page)[2] >= 3:  # It works: end it amid the next answers.
            killer.start()
        if page.evaluate(LOADED):
            judged.append(seen(page))
            page.keyboard.press("g")
        page.wait_for_timeout(20)
    killer.join()
    sent, acknowledged, rows = counts(page)
    found = stored(lake.folder)
    assert rows > 0
    assert acknowledged <= rows <= len(found) <= sent
    assert found == judged[: len(found)]
    lake.start(lake.port)
    # The tab that was open finds the server again, and a new one shows the same.
    other = page.context.new_page()
    opened(other, lake.address)
    for tab in (page, other):
        tab.locator(ROWS, has_text=re.compile(rf"^{len(found)}$")).wait_for(timeout=60_000)


ROWS = "xpath=//*[normalize-space(text())='Rows (disk)']/following-sibling::*[1]"
"""The number of rows on disk, in the side panel."""

RECORD = """() => {
  window.clicks = [];
  let last = null;
  const pen = document.createElement('canvas').getContext('2d', {colorSpace: 'srgb', willReadFrequently: true});
  window.addEventListener('click', (event) => {
    const tile = event.target.closest?.('.stage-tile') ?? document.querySelector('.stage-tile.chosen');
    const image = tile?.querySelector('img');
    last = [event.target.closest?.('button')?.textContent.trim() ?? '', null];
    if (!image || !image.complete || !image.naturalWidth) return;
    pen.canvas.width = image.naturalWidth; pen.canvas.height = image.naturalHeight;
    pen.drawImage(image, 0, 0);
    const values = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height).data;
    last[1] = btoa(Array.from(values, (value) => String.fromCharCode(value)).join(''));
  }, true);
  const emit = window.socket.emit;
  window.socket.emit = function (name, message, ...more) {
    if (name === 'event' && JSON.stringify(message).includes('serial')) window.clicks.push(last);
    return emit.call(this, name, message, ...more);
  };
}"""
"""Notes for every answer that is sent the button that was pressed, and the pixels of the picture that was on the
screen: the one above the button, or the one in the frame where the button is below all pictures.
"""

PLACES = """() => [...document.querySelectorAll('.stage button')].map((button) => {
  const box = button.getBoundingClientRect();
  return [button.textContent.trim(), box.x + box.width / 2, box.y + box.height / 2];
}).filter(([text, x, y]) => y > 0 && y < innerHeight)"""


def test_1000_random_clicks_at_20_per_second(page: Any, lake: Server) -> None:
    rng, wanted = random.Random(0), 1000
    opened(page, lake.start(), "Batch")
    page.evaluate(RECORD)
    began = time.monotonic()
    for index in range(wanted):
        _, x, y = rng.choice(page.evaluate(PLACES))
        page.mouse.click(x, y)
        page.wait_for_timeout(1000 * max(began + (index + 1) / 20 - time.monotonic(), 0))
    settle(page)
    settle_on_disk(page, lake.folder)
    sent, acknowledged, rows = counts(page)
    clicks = [(text, hashed(pixels)) for text, pixels in page.evaluate("window.clicks")]
    with Ledger.open(lake.folder / "lake", read_only=True) as ledger:
        events = list(ledger.events())
        judged = [
            (event.judgement, image_hash(ledger.candidate(event.judgement.ids[0]).image))  # type: ignore[arg-type]
            for event in events
            if event.judgement is not None
        ]
        live = [one.judgement.ids[0] for one in ledger.judgements()]
    assert sent == acknowledged == len(clicks)
    assert rows == len(judged) > 200
    assert len(live) == len(set(live)) == len(judged) - sum(event.kind == "undo" for event in events)
    # Each row is an answer that was given to the picture that was on the screen, and in the order of the answers.
    left = iter(clicks)
    for judgement, pixels in judged:
        assert any(answers(text, judgement) and seen_then == pixels for text, seen_then in left), judgement


def hashed(pixels: str) -> str:
    """Hash of the pixels (RGBA, base64) of a square picture."""
    values = np.frombuffer(base64.b64decode(pixels), np.uint8)
    side = int((values.size // 4) ** 0.5)
    return image_hash(np.ascontiguousarray(values.reshape(side, side, 4)[..., :3]))


def answers(button: str, judgement: Any) -> bool:
    """Whether a button gives that judgement."""
    if judgement.kind == "skip":
        return button.startswith("Skip")
    return judgement.kind == "rate" and button.startswith("Good" if judgement.value else "Bad")


def test_two_tabs_see_the_same_truth(page: Any, lake: Server) -> None:
    address = lake.start()
    other = page.context.new_page()
    for tab in (page, other):
        opened(tab, address, "Queue")

    def same() -> bool:
        return bool(page.evaluate(LOADED) and other.evaluate(LOADED) and seen(page) == seen(other))

    until(same)
    first = seen(page)
    page.keyboard.press("g")
    settle(page)
    until(lambda: same() and seen(page) != first)
    other.reload()
    other.wait_for_selector(TILE)
    until(lambda: same() and seen(page) != first)
    assert len(stored(lake.folder)) == 1


def test_pictures_are_not_given_to_other_hosts(lake: Server) -> None:
    import urllib.error
    import urllib.request

    address = lake.start()
    for path in ("/prefer/picture/none/00.png", "/prefer/file/none/..%2f..%2fetc%2fpasswd", "/prefer/file/x/y.png"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path)
        assert refused.value.code == 404


def test_markup_in_a_prompt_is_text(page: Any, server: Server) -> None:
    bad = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    with Session.open(server.folder / "lake", decoder="synthetic", dimension=256, prompt=bad) as session:
        session.ask(1)
    opened(page, server.start())
    page.get_by_role("button", name="Gallery", exact=True).click()
    page.wait_for_timeout(500)
    page.goto(f"{server.address}/prefer")
    page.wait_for_selector("text=lake")
    assert page.evaluate("() => window.hacked") is None
