"""Take the screenshots of the Prefer page. Run: ``python docs/studio_prefer_pictures.py ADDRESS``, with the address of
a ``diptych studio --data EMPTY_FOLDER`` that runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOME = Path(__file__).parent / "pictures"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
]


def main(address: str) -> None:
    """Begin the example session, judge some pictures, and take the pictures of the tour."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{address}/prefer")
        page.get_by_text("Try it now").first.click()
        page.wait_for_url("**session=*")
        page.wait_for_selector(".stage-tile img")
        for key in "gbgbgbbg":
            page.keyboard.press(key)
            page.wait_for_timeout(700)
        page.keyboard.press("g")
        page.wait_for_timeout(3000)
        page.screenshot(path=HOME / "studio-prefer-batch.png")
        for mode, name in (("Queue", "studio-prefer-queue.png"), ("Gallery", "studio-prefer-gallery.png")):
            page.get_by_role("button", name=mode, exact=True).click()
            page.wait_for_timeout(3000)
            page.screenshot(path=HOME / name)
        browser.close()
    shrink()


def shrink() -> None:
    """Store the pictures with a palette, which is a third of the size."""
    from PIL import Image

    for path in HOME.glob("studio-prefer-*.png"):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
