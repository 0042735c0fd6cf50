"""Every page, in light and dark, on a screen and a phone: contrast, names of controls, keyboard, width; screenshots.

With ``DIPTYCH_PICTURES=FOLDER`` the tests write the pictures of the documentation, with ``DIPTYCH_PICTURES_ALL=1``
those of every look and size. With axe-core (``DIPTYCH_AXE``: path of ``axe.min.js``, or ``node_modules`` beside the
sources) its checks run too; nothing is fetched.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import diptych
from diptych.prefer import Judgement, Session
from diptych.ptycho.engines.options import ReconstructionOptions
from integration.studio.served import Server

pytestmark = pytest.mark.integration

PICTURES = os.environ.get("DIPTYCH_PICTURES")
DOCUMENTED = (
    "studio-home.png",
    "studio-scan.png",
    "studio-result.png",
    "studio-train.png",
    "studio-compare.png",
    "studio-compare-difference.png",
    "studio-jobs.png",
    "studio-prefer-batch.png",
    "studio-prefer-queue.png",
    "studio-prefer-pair.png",
    "studio-prefer-upload.png",
    "studio-prefer-match.png",
    "studio-prefer-gallery.png",
    "studio-prefer.png",
)
CHECKS = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")
KEYBOARD = (Path(__file__).parent / "keyboard.js").read_text(encoding="utf-8")
ROOT = Path(__file__).resolve().parents[3]
AXE = Path(os.environ.get("DIPTYCH_AXE") or ROOT / "node_modules" / "axe-core" / "axe.min.js")
SIZES = {"": (1280, 800), "-phone": (390, 844)}

STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"

AXE_RUN = """async () => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'];
  const found = await axe.run(document, { runOnly: { type: 'tag', values: tags } });
  return found.violations.flatMap((one) => one.nodes.map((node) =>
    `axe ${one.id}: ${node.html.slice(0, 120)} ${node.any[0]?.message ?? ''}`));
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    folder = tmp_path_factory.mktemp("data")
    scan = diptych.simulate(object="natural", size=32, patterns=100, step=4.0, dose=1e5, seed=0)
    diptych.save(scan, folder / "leaf.npz")
    for engine in ("rpie", "ml"):
        options = ReconstructionOptions.build({"engine": engine, "epochs": 20})
        diptych.save(diptych.reconstruct(scan, options=options), folder / f"{engine}.h5")
    with Session.open(folder / "lake", decoder="synthetic", prompt="a lake at dawn") as session:
        for index, candidate in enumerate(session.ask(12)):
            session.tell(Judgement.rate(candidate, good=index % 3 == 0))
        session.wait()
    server = Server(folder)
    yield server.start()
    server.stop()


def home(page: Any, address: str) -> None:
    page.goto(f"{address}/")
    page.get_by_text("leaf.npz").wait_for()
    page.wait_for_function("() => document.querySelectorAll('img').length >= 6")
    page.wait_for_function("() => [...document.images].every((image) => image.naturalWidth)")


def no_scan(page: Any, address: str) -> None:
    page.goto(f"{address}/reconstruct")
    page.get_by_text("Choose a scan above").wait_for()


def scan(page: Any, address: str) -> None:
    page.goto(f"{address}/reconstruct?file=leaf.npz")
    page.get_by_text("Photons per pattern:").wait_for()
    page.wait_for_timeout(700)


def unfolded(page: Any, address: str) -> None:
    scan(page, address)
    for name in ("Drop frames", "How the scan is read", "All options"):
        page.get_by_text(name, exact=True).click()
    page.wait_for_timeout(700)


def painting(page: Any, address: str) -> None:
    scan(page, address)
    page.get_by_role("button", name="Paint a mask").click()
    page.get_by_role("dialog").wait_for()
    page.wait_for_timeout(500)


def result(page: Any, address: str) -> None:
    page.goto(f"{address}/reconstruct?file=leaf.npz")
    page.get_by_text("Photons per pattern:").wait_for()
    if not page.get_by_text("Done after").is_visible():
        page.get_by_label("Preset").click()
        page.get_by_role("option", name="Quick look").click()
        page.get_by_text("Set: epochs 15").wait_for()
        page.get_by_role("button", name="Reconstruct", exact=True).click()
        page.get_by_text("Done after").wait_for(timeout=120_000)
    page.get_by_role("button", name="Download TIFF").wait_for()
    page.wait_for_timeout(1000)
    page.locator(".dv").evaluate("viewer => viewer.scrollIntoView({block: 'start'})")


def training(page: Any, address: str) -> None:
    page.goto(f"{address}/train")
    page.get_by_role("button", name="Train", exact=True).wait_for()
    if not page.get_by_text("Done after").is_visible():
        page.get_by_label("Scans").click()
        page.get_by_role("option", name="leaf.npz").click()
        page.keyboard.press("Escape")
        for name, value in (("epochs", "4"), ("batch", "8")):
            page.get_by_label(name, exact=True).fill(value)
            page.keyboard.press("Tab")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Done after").wait_for(timeout=240_000)
    page.wait_for_timeout(1000)


def comparing(page: Any, address: str) -> None:
    page.goto(f"{address}/compare?file=rpie.h5&file=ml.h5")
    page.wait_for_function("document.querySelectorAll('.dv').length >= 2")
    page.wait_for_timeout(1500)
    if not page.get_by_role("tab", name="Difference").is_visible():
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_role("tab", name="Difference").wait_for(timeout=120_000)
    page.wait_for_timeout(1000)


def tab(name: str) -> Callable[[Any, str], None]:
    def opened(page: Any, address: str) -> None:
        comparing(page, address)
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(700)

    return opened


def jobs(page: Any, address: str) -> None:
    page.goto(f"{address}/jobs")
    page.get_by_role("button", name="Log").first.wait_for()


def sessions(page: Any, address: str) -> None:
    page.goto(f"{address}/prefer")
    page.get_by_text("Try it now").first.wait_for()


def judging(mode: str) -> Callable[[Any, str], None]:
    def opened(page: Any, address: str) -> None:
        page.goto(f"{address}/prefer?session=lake")
        page.get_by_role("button", name=mode, exact=True).click()
        if mode in ("Batch", "Queue", "Pair"):
            page.wait_for_selector(f".stage-{mode.lower()} .stage-tile img")
        page.wait_for_timeout(1500)

    return opened


def settings(page: Any, address: str) -> None:
    judging("Batch")(page, address)
    for name in ("Settings", "Download, upload, reset", "Debug"):
        page.get_by_text(name, exact=True).first.click()
    page.wait_for_timeout(1000)


def acting(page: Any, address: str) -> None:
    scan(page, address)
    for name in (
        "Upload a scan (at most 4 GiB)",
        "Prepare: choose frames, correct, crop, bin",
        "Convert to another format",
        "Check against a standard",
        "Network",
        "Device",
    ):
        page.get_by_text(name, exact=True).click()
    page.wait_for_timeout(700)


def asked(what: str) -> Callable[[Any, str], None]:
    """The dialog that a button of a session opens."""

    def opened(page: Any, address: str) -> None:
        sessions(page, address)
        page.get_by_role("button", name=f"{what} lake").click()
        page.get_by_role("dialog").wait_for()
        page.wait_for_timeout(500)

    return opened


def logged(page: Any, address: str) -> None:
    result(page, address)
    page.get_by_role("button", name="Log", exact=True).first.click()
    page.get_by_role("dialog").wait_for()
    page.wait_for_timeout(500)


def helped(page: Any, address: str) -> None:
    judging("Batch")(page, address)
    page.get_by_role("button", name="Keys (?)").click()


def measured(page: Any, address: str) -> None:
    comparing(page, address)
    for name in ("Profile", "Colours"):
        page.get_by_role("button", name=name).first.click()
    page.wait_for_timeout(500)


PLACES: dict[str, Callable[[Any, str], None]] = {
    "home": home,
    "no-scan": no_scan,
    "scan": scan,
    "options": unfolded,
    "mask": painting,
    "actions": acting,
    "result": result,
    "log": logged,
    "train": training,
    "compare": comparing,
    "compare-range": measured,
    "compare-difference": tab("Difference"),
    "compare-flicker": tab("Flicker"),
    "compare-metrics": tab("Metrics"),
    "compare-curves": tab("Ring correlation"),
    "jobs": jobs,
    "prefer": sessions,
    "rename": asked("Rename"),
    "delete": asked("Delete"),
    "prefer-batch": judging("Batch"),
    "prefer-keys": helped,
    "prefer-queue": judging("Queue"),
    "prefer-pair": judging("Pair"),
    "prefer-upload": judging("Upload"),
    "prefer-match": judging("Match"),
    "prefer-gallery": judging("Gallery"),
    "prefer-settings": settings,
}


def picture(page: Any, place: str, look: str) -> None:
    """Write a screenshot, where one is wanted; with a palette, a third of the size."""
    everything = os.environ.get("DIPTYCH_PICTURES_ALL")
    name = f"studio-{place}{look}.png"
    if not PICTURES or not (everything or name in DOCUMENTED):
        return
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # Dithered: gradients of pictures would have bands.
    shot = shot.quantize(palette=shot.quantize(256, kmeans=2), dither=Image.Dither.FLOYDSTEINBERG)
    shot.save(Path(PICTURES) / name, optimize=True)


@pytest.mark.parametrize("place", PLACES)
def test_a_page_can_be_read_and_used_by_everybody(page: Any, address: str, place: str) -> None:
    PLACES[place](page, address)
    page.add_style_tag(content=STILL)
    problems: list[str] = []
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for look in ("", "-dark"):
            page.evaluate("dark => Quasar.Dark.set(dark)", bool(look))
            page.wait_for_timeout(200)
            problems += [f"{size}{look} {text}" for text in page.evaluate(CHECKS)]
            if AXE.is_file():
                page.evaluate(AXE.read_text(encoding="utf-8"))
                problems += [f"{size}{look} {text}" for text in page.evaluate(AXE_RUN)]
            picture(page, place, look + size)
    assert not problems, "\n".join(problems)


def test_axe_core_took_part() -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm install axe-core): the pages were checked without it")
    assert "axe.run" in AXE.read_text(encoding="utf-8")


# Of the page without a scan there is none left after the first: it shows the last one chosen.
@pytest.mark.parametrize("place", [place for place in PLACES if place != "no-scan"])
def test_the_keyboard_reaches_all_and_shows_where_it_is(page: Any, address: str, place: str) -> None:
    """Tab reaches all that a page offers, or its dialog where one is open, and each shows that it has the focus."""
    sync_api = pytest.importorskip("playwright.sync_api")
    PLACES[place](page, address)
    page.add_style_tag(content=STILL)
    page.evaluate("document.activeElement.blur()")
    page.evaluate(KEYBOARD)
    outside = 0
    controls = page.evaluate("keyboard.left()")
    assert controls
    # Three rounds: the focus passes the end of the document, and parts of a page are drawn again meanwhile.
    for _ in range(3 * controls + 20):
        if not page.evaluate("keyboard.left()"):
            break
        page.keyboard.press("Tab")
        try:  # a busy machine is slow to draw
            page.wait_for_function("keyboard.told()", timeout=5_000)
        except sync_api.TimeoutError:
            page.evaluate("keyboard.blame()")
        outside += page.evaluate("keyboard.outside()")
    assert outside == 0, "the focus left the dialog"
    faults = page.evaluate("keyboard.faults()")
    assert not faults, "\n".join(faults)
