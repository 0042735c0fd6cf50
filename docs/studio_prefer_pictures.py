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
    """Begin the example session, judge some pictures, and take a picture of each mode, wide, narrow and dark."""
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
        for mode in ("Queue", "Pair", "Gallery"):
            page.get_by_role("button", name=mode, exact=True).click()
            page.wait_for_timeout(3000)
            page.screenshot(path=HOME / f"studio-prefer-{mode.lower()}.png")
        page.emulate_media(color_scheme="dark")
        page.get_by_role("button", name="Queue", exact=True).click()
        page.wait_for_timeout(1500)
        page.screenshot(path=HOME / "studio-prefer-dark.png")
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(1500)
        page.screenshot(path=HOME / "studio-prefer-phone.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
