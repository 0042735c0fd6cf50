"""The image viewer in a real browser: zoom, pan, linked views, keyboard, colour range, profile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.scan import Canvas, Reconstruction
from integration.studio.served import Server, until

pytestmark = pytest.mark.integration


def made(turn: float, side: int = 600) -> Reconstruction:
    """A result of ``side`` x ``side`` pixels of 10 nm, lit everywhere: blocks, times a phase."""
    rng = np.random.default_rng(0)
    blocks = rng.uniform(0.5, 1.5, (side // 10, side // 10)) * np.exp(1j * rng.uniform(-1, 1, (side // 10, side // 10)))
    values = np.kron(blocks, np.ones((10, 10))) * (1 + 0.1 * turn) * np.exp(1j * turn)
    positions = np.stack(np.meshgrid(np.arange(50.0, side - 50, 100), np.arange(50.0, side - 50, 100)), -1)
    light = np.full(values.shape, 9, np.float32)
    canvas = Canvas(values.astype(np.complex64), pixel_m=(1e-8, 1e-8))
    return Reconstruction(canvas, np.ones((1, 16, 16), np.complex64), positions.reshape(-1, 2), illumination=light)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    pytest.importorskip("nicegui", reason="the browser app needs the extra 'studio'")
    folder = tmp_path_factory.mktemp("data")
    diptych.save(made(0.0), folder / "one.npz")
    diptych.save(made(0.4), folder / "two.npz")
    server = Server(folder)
    yield server.start()
    server.stop()


@pytest.fixture
def viewers(page: Any, address: str) -> Any:
    opened(page, address)
    return page


def opened(page: Any, address: str) -> None:
    page.goto(f"{address}/compare?file=one.npz&file=two.npz")
    page.wait_for_function("document.querySelectorAll('.dv').length === 2", timeout=30_000)
    until(lambda: all(state(page, k)["level"] is not None for k in (0, 1)))


def state(page: Any, index: int) -> dict[str, Any]:
    """What a viewer shows, from its ``data-state``."""
    found: dict[str, Any] = page.evaluate(
        "index => JSON.parse(document.querySelectorAll('.dv canvas')[index].dataset.state || '{\"level\": null}')",
        index,
    )
    return found


def settled(page: Any) -> None:
    until(lambda: not any(state(page, k)["busy"] for k in (0, 1)))


def test_wheel_zooms_about_the_cursor_in_both_viewers(viewers: Any) -> None:
    page = viewers
    before = state(page, 0)
    box = page.locator(".dv canvas").nth(0).bounding_box()
    at = (box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.move(*at)
    for _ in range(6):
        page.mouse.wheel(0, -200)
    until(lambda: state(page, 0)["scale"] > 5 * before["scale"])
    settled(page)
    until(lambda: all(state(page, 1)[name] == pytest.approx(state(page, 0)[name]) for name in ("y", "x", "scale")))
    after = state(page, 0)
    # The coordinate under the cursor stays where it is.
    offset = -box["width"] / 4
    assert after["x"] + offset / after["scale"] == pytest.approx(before["x"] + offset / before["scale"], abs=1)
    assert after["level"] < before["level"] or after["level"] == 0
    assert after["bar"] != before["bar"]
    assert re.fullmatch(r"\d+(\.\d+)? (nm|µm)", after["bar"])


def test_dragging_moves_and_the_picture_covers_the_view(viewers: Any) -> None:
    page = viewers
    page.locator(".dv canvas").nth(1).focus()
    for _ in range(4):
        page.keyboard.press("+")
    settled(page)
    before = state(page, 0)
    box = page.locator(".dv canvas").nth(0).bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 260, steps=5)
    page.mouse.up()
    until(lambda: state(page, 0)["x"] == pytest.approx(before["x"] + 100 / before["scale"], rel=0.02))
    settled(page)
    after = state(page, 0)
    assert after["x"] - before["x"] == pytest.approx(100 / before["scale"], rel=0.02)
    assert after["y"] - before["y"] == pytest.approx(-60 / before["scale"], rel=0.02)
    until(lambda: state(page, 0)["box"][2] <= after["x"] - box["width"] / 2 / after["scale"] + 1)
    until(lambda: state(page, 1)["x"] == pytest.approx(after["x"]))


def test_everything_works_by_keyboard(viewers: Any) -> None:
    page = viewers
    canvas = page.locator(".dv canvas").nth(0)
    canvas.focus()
    fitted = state(page, 0)
    for key in ("+", "+", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    until(lambda: state(page, 0)["scale"] > 1.5 * fitted["scale"])
    moved = state(page, 0)
    assert moved["x"] > fitted["x"]
    assert moved["y"] > fitted["y"]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("length").wait_for()
    page.keyboard.press("h")
    low = page.get_by_role("slider", name="Lower end of the colour range").first
    low.focus()
    began = state(page, 0)["low"]
    page.keyboard.press("ArrowRight")
    until(lambda: state(page, 0)["low"] > began)
    canvas.focus()
    page.keyboard.press("1")
    until(lambda: state(page, 0)["scale"] == pytest.approx(1))
    page.keyboard.press("0")
    until(lambda: state(page, 0)["scale"] == pytest.approx(fitted["scale"]))


def test_the_colour_range_is_dragged_and_a_profile_drawn_with_the_mouse(viewers: Any) -> None:
    page = viewers
    page.get_by_role("button", name="Colours").first.click()
    handle = page.get_by_role("slider", name="Upper end of the colour range").first
    box, chart = handle.bounding_box(), page.locator(".dv-histogram").first.bounding_box()
    before = [state(page, k)["high"] for k in (0, 1)]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - chart["width"] / 4, box["y"] + 20, steps=5)
    page.mouse.up()
    until(lambda: state(page, 0)["high"] < before[0])
    settled(page)
    # Linked viewers share the range.
    until(lambda: state(page, 1)["high"] == pytest.approx(state(page, 0)["high"]))
    page.get_by_role("button", name="Automatic").first.click()
    until(lambda: state(page, 0)["high"] == pytest.approx(before[0]))
    page.get_by_role("button", name="Profile").first.click()
    image = page.locator(".dv canvas").first.bounding_box()
    page.mouse.move(image["x"] + 150, image["y"] + 150)
    page.mouse.down()
    page.mouse.move(image["x"] + 350, image["y"] + 150, steps=5)
    page.mouse.up()
    page.get_by_text(re.compile(r"length \d+(\.\d+)? (nm|µm)")).first.wait_for()
    assert (page.locator(".dv-profile path").first.get_attribute("d") or "").count("L") > 50


@pytest.mark.parametrize("quantity", ["unwrapped", "complex", "illumination"])
def test_other_quantities_are_drawn(viewers: Any, quantity: str) -> None:
    viewers.get_by_label("Quantity").first.select_option(quantity)
    until(lambda: state(viewers, 0)["quantity"] == quantity and not state(viewers, 0)["busy"])
    assert viewers.locator(".dv [role=alert]").count() == 0


def test_quantity_and_cursor_are_shared(viewers: Any) -> None:
    page = viewers
    page.get_by_label("Quantity").nth(0).select_option("amplitude")
    until(lambda: all(state(page, k)["quantity"] == "amplitude" for k in (0, 1)))
    box = page.locator(".dv canvas").nth(0).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("[...document.querySelectorAll('.dv-values')].every(e => /Amplitude/.test(e.textContent))")
    texts = [page.locator(".dv-values").nth(k).inner_text() for k in (0, 1)]
    assert texts[0].split("Amplitude")[0] == texts[1].split("Amplitude")[0]
    assert texts[0] != texts[1]


def test_pinch_zooms(chromium: Any, address: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    opened(page, address)
    before = state(page, 0)
    page.locator(".dv canvas").nth(0).evaluate(
        """canvas => {
          canvas.setPointerCapture = () => {};
          const at = canvas.getBoundingClientRect();
          const send = (type, id, x) => canvas.dispatchEvent(new PointerEvent(type, {
            pointerId: id, pointerType: 'touch', clientX: at.left + x, clientY: at.top + 100, button: 0,
            bubbles: true }));
          send('pointerdown', 11, 100); send('pointerdown', 12, 140);
          for (let x = 150; x <= 220; x += 10) send('pointermove', 12, x);
          send('pointerup', 11, 100); send('pointerup', 12, 220);
        }"""
    )
    until(lambda: state(page, 0)["scale"] == pytest.approx(3 * before["scale"], rel=0.05))
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    context.close()


def test_flicker_shows_the_images_in_turn(viewers: Any) -> None:
    page = viewers
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("tab", name="Flicker").click(timeout=120_000)
    page.get_by_role("switch", name="Flicker").click()
    title = page.locator(".dv-title").last
    for name in ("one", "two", "one"):
        title.filter(has_text=name).wait_for(timeout=60_000)


def test_controls_have_names_and_no_page_is_wider_than_the_screen(viewers: Any) -> None:
    page = viewers
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('.dv button, .dv select, .dv input, .dv canvas')].filter(e =>
          !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim()))
          .map(e => e.outerHTML)"""
    )
    assert nameless == []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        until(lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width)  # type: ignore[misc]
