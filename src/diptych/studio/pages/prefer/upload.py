"""Upload: pictures of the person, blended with the anchor, decoded, and judged with a weight."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.prefer.match import colours_lost
from diptych.studio.components.sliders import Slider
from diptych.studio.components.uploads import upload_box
from diptych.studio.state.prefer.archive import read_image
from diptych.studio.state.prefer.desk import Desk

TYPES = ".png,.jpg,.jpeg,.webp"
LIMIT = 64 * 2**20
"""Largest picture, bytes."""


def upload_panel(desk: Desk) -> None:
    """Choose pictures, how much of them to keep, and the weight of the answers."""
    with ui.row().classes("w-full items-center gap-6"):
        share = _slider("Share", "{:.2f} of your picture, the rest is the anchor", 0, 1, 0.05, 0.5)
        weight = _slider("Weight", "{:.1f} of the answers", 0.1, 5, 0.1, desk.weight)
        weight.on_value_change(lambda event: setattr(desk, "weight", float(event.value)))

    async def received(event: Any) -> None:
        data = await event.file.read()
        try:
            image = await run.io_bound(read_image, data, event.file.name)
            if image is None:  # The server is stopping.
                return
            candidate = await run.io_bound(partial(desk.session.upload, image, float(share.value)))
        except DiptychError as error:
            ui.notify(f"{event.file.name}: {error}", type="negative", multi_line=True)
            return
        if candidate is not None:
            desk.offer([candidate])
            desk.tell(f"Uploaded {event.file.name}; judge it below")

    if lost := colours_lost(desk.session.decoder):
        ui.label(lost).classes("text-sm").mark("colours lost")
    box = upload_box("Pictures (PNG, JPEG, WebP)", received, LIMIT, accept=TYPES, multiple=True)
    box.mark("upload")


def _slider(name: str, text: str, low: float, high: float, step: float, value: float) -> Slider:
    """A slider below its name and value."""
    with ui.column().classes("gap-0 w-64"):
        said = ui.label().classes("text-sm")
        slider = Slider(min=low, max=high, step=step, value=value).props(f'label aria-label="{name}"')
        said.bind_text_from(slider, "value", lambda now: f"{name}: {text.format(now)}")
    return slider
