"""Match: search a picture that resembles one of the person's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.studio.components.uploads import upload_box
from diptych.studio.pages.prefer.upload import LIMIT, TYPES
from diptych.studio.state.prefer.archive import read_image
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.matching import AUTO, Matching


class MatchPanel:
    """Target and last attempt side by side.

    Parameters
    ----------
    desk : Desk
    choose : callable
        Shows another mode.
    """

    def __init__(self, desk: Desk, choose: Callable[[str], None]) -> None:
        self._desk, self._choose = desk, choose
        self._matching: Matching | None = None
        upload_box("Picture to match (PNG, JPEG, WebP)", self._received, LIMIT, accept=TYPES)
        with ui.row().classes("items-center gap-2"):
            self._buttons = [
                ui.button("Step", on_click=partial(self._run, 1)),
                ui.button(f"Auto ×{AUTO}", on_click=partial(self._run, AUTO)),
                ui.button("Auto ×100", on_click=partial(self._run, 100)),
                ui.button("Reset", on_click=partial(self._run, 0)),
                ui.button("Judge the best", on_click=self._judge),
            ]
            self._error = ui.label("MSE: n/a. Upload a picture to begin.").classes("text-sm font-mono").mark("mse")
        for button in self._buttons:
            button.props("outline no-caps").disable()
        with ui.row().classes("w-full gap-4"):
            self._images = [self._figure(text) for text in ("Original", "Last attempt", "Best")]

    def _figure(self, text: str) -> ui.image:
        with ui.column().classes("flex-1 min-w-[120px] max-w-md") as column:
            ui.label(text).classes("text-sm")
            image = ui.image().classes("w-full").props(f'alt="{text}"')
        column.bind_visibility_from(image, "source", bool)
        return image

    async def _received(self, event: Any) -> None:
        data = await event.file.read()
        try:
            image = await run.io_bound(read_image, data, event.file.name)
        except DiptychError as error:
            ui.notify(f"{event.file.name}: {error}", type="negative", multi_line=True)
            return
        if image is not None:
            self._matching = Matching(self._desk.session, image)
            await self._run(0)

    async def _run(self, count: int) -> None:
        matching = self._matching
        if matching is None:
            return
        for button in self._buttons:
            button.disable()
        try:
            await run.io_bound(partial(matching.step, count) if count else matching.reset)
        except DiptychError as error:
            ui.notify(str(error), type="negative", multi_line=True)
        self._show(matching)
        for button in self._buttons:
            button.enable()

    def _show(self, matching: Matching) -> None:
        from PIL import Image

        best = matching.best
        self._error.set_text(matching.readout)
        if best is not None:
            for element, pixels in zip(self._images, (matching.target, matching.last, best.image), strict=True):
                element.set_source(Image.fromarray(pixels))

    async def _judge(self) -> None:
        if self._matching is not None and (candidate := await run.io_bound(self._matching.candidate)) is not None:
            self._desk.offer([candidate])
            self._choose("upload")
